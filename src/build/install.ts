/** Installs dependencies inside the sandbox, with the package manager that the plan chose. */
import { join } from "node:path";
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

/** @throws MayflyError INSTALL_FAILED */
export async function installDependencies(install: InstallStep, repository: string): Promise<void> {
  const cwd = join(repository, install.directory);
  const argv = (install.frozen ? frozenCommands : looseCommands)[install.manager.name];
  const label = install.command ?? argv.join(" ");
  const where = install.directory === "" ? "" : ` in ${install.directory}`;
  console.log(`Installing dependencies${where}: ${label}`);
  const started = performance.now();
  const end = install.command === null ? await runCommand(argv, cwd, repository) : await runShell(install.command, cwd, repository);
  if (end.exitCode !== 0) {
    const hint = mismatch.test(end.tail) ? " The lock file does not fit package.json: install on your machine and deploy again." : "";
    throw new MayflyError("INSTALL_FAILED", `"${label}"${where} ended with ${end.signal ?? `exit code ${end.exitCode}`}.${hint}`);
  }
  console.log(`Installed${where} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}
