/** Installs dependencies inside the sandbox, with the package managers that the plan chose: directories side by side. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { MayflyError } from "../errors.ts";
import type { InstallStep, PackageManagerName } from "./builder.ts";
import { runCommand, runShell } from "./command.ts";

const frozenCommands: Readonly<Record<PackageManagerName, readonly [string, ...string[]]>> = {
  npm: ["npm", "ci"],
  pnpm: ["pnpm", "install", "--frozen-lockfile"],
  yarn: ["yarn", "install", "--frozen-lockfile", "--non-interactive", "--ignore-engines"],
  "yarn-berry": ["yarn", "install", "--immutable"],
  bun: ["bun", "install", "--frozen-lockfile"],
};
const looseCommands: Readonly<Record<PackageManagerName, readonly [string, ...string[]]>> = {
  npm: ["npm", "install"],
  pnpm: ["pnpm", "install", "--no-frozen-lockfile"],
  yarn: ["yarn", "install", "--non-interactive", "--ignore-engines"],
  "yarn-berry": ["yarn", "install", "--no-immutable"],
  bun: ["bun", "install"],
};

/** How a package manager says that the lock file is not that of package.json. */
const mismatch =
  /can only install packages when your package\.json|ERR_PNPM_OUTDATED_LOCKFILE|lockfile needs to be updated|lockfile would have been modified|lockfile had changes/;

/**
 * Names of the installed packages that run scripts of their own on install, each once. No lock file of every manager says
 * which those are, so the packages are asked. Links are not followed: what they lead to is in the tree elsewhere.
 */
export async function findInstallScripts(repository: string): Promise<readonly string[]> {
  const names = new Set<string>();
  const look = async (path: string): Promise<void> => {
    let json: { readonly name?: unknown; readonly scripts?: Readonly<Record<string, unknown>> } | null;
    try {
      json = JSON.parse(await readFile(join(path, "package.json"), "utf8")) as typeof json;
    } catch {
      return;
    }
    const runs = ["preinstall", "install", "postinstall"].some((script) => typeof json?.scripts?.[script] === "string");
    if (runs || existsSync(join(path, "binding.gyp"))) names.add(String(json?.name ?? basename(path)).slice(0, 214));
  };
  const walk = async (directory: string, isInstalled: boolean): Promise<void> => {
    const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
    const packages = isInstalled && (basename(directory) === "node_modules" || basename(directory).startsWith("@"));
    for (const entry of entries) {
      if (!entry.isDirectory() || entry.name === ".bin" || entry.name === ".git") continue;
      const path = join(directory, entry.name);
      if (packages && !entry.name.startsWith("@") && entry.name !== ".pnpm") {
        await look(path);
        await walk(join(path, "node_modules"), true);
      } else await walk(path, isInstalled || entry.name === "node_modules");
    }
  };
  await walk(repository, false);
  return [...names];
}

/**
 * Installs in all of the directories, as many at once as there are processors. The project's own command goes first, alone: it
 * may install in other directories too. All of them are ended when this fails.
 * @throws MayflyError INSTALL_FAILED, of the first that failed
 */
export async function installAll(installs: readonly InstallStep[], repository: string): Promise<void> {
  for (const install of installs) if (install.command !== null) await installDependencies(install, repository, "");
  const remaining = installs.filter((install) => install.command === null);
  // Yarn 1 must not share its cache between two that run.
  const [alone, free] = [remaining.filter(isYarnClassic), remaining.filter((install) => !isYarnClassic(install))];
  const lines = [alone, ...free.map((install) => [install])].filter((line) => line.length > 0).values();
  const prefixOf = ({ directory }: InstallStep): string => (remaining.length < 2 ? "" : `[${directory === "" ? "." : directory}] `);
  const work = async (): Promise<void> => {
    for (const line of lines) for (const install of line) await installDependencies(install, repository, prefixOf(install));
  };
  const ends = await Promise.allSettled(Array.from({ length: availableParallelism() }, work));
  const failure = ends.find((end) => end.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}

const isYarnClassic = ({ manager }: InstallStep): boolean => manager.name === "yarn";

async function installDependencies(install: InstallStep, repository: string, prefix: string): Promise<void> {
  if (install.done === true) {
    console.log(`Dependencies${install.directory === "" ? "" : ` in ${install.directory}`} are those of an earlier build`);
    return;
  }
  const cwd = join(repository, install.directory);
  const argv = (install.frozen ? frozenCommands : looseCommands)[install.manager.name];
  const label = install.command ?? argv.join(" ");
  const where = install.directory === "" ? "" : ` in ${install.directory}`;
  console.log(`Installing dependencies${where}: ${label}`);
  const started = performance.now();
  const end = install.command === null ? await runCommand(argv, cwd, repository, prefix) : await runShell(install.command, cwd, repository);
  if (end.exitCode !== 0) {
    const hint = mismatch.test(end.tail) ? " The lock file does not fit package.json: install on your machine and deploy again." : "";
    throw new MayflyError("INSTALL_FAILED", `"${label}"${where} ended with ${end.signal ?? `exit code ${end.exitCode}`}.${hint}`);
  }
  console.log(`Installed${where} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}
