/**
 * Package managers for builds: fetched once with the host's npm (no scripts run), kept by exact version below the data
 * directory and mounted read-only. A toolchain is whole or absent: it is renamed into its place.
 */
import { access, lstat, mkdir, readdir, rename, stat, symlink, utimes } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import type { Clock } from "../clock.ts";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import type { TimestampMs } from "../model.ts";
import { randomId } from "../names.ts";
import { fetchNpmPackage } from "../npm-package.ts";
import type { PackageManager, PackageManagerName } from "./builder.ts";
import { removeTree } from "./scratch.ts";

export interface Toolchains {
  /**
   * Host directory of a package manager; its programs are in `bin/`.
   * @throws MayflyError INSTALL_FAILED when it cannot be fetched
   */
  directory(manager: PackageManager): Promise<string>;
  /** Removes those that no build has asked for since then; they are fetched again when one does. */
  prune(sinceMs: TimestampMs): Promise<void>;
}

export interface ToolchainsOptions {
  /** Made when needed. */
  readonly directory: string;
  /** Empty: npm's own setting. */
  readonly npmRegistry: string;
  readonly clock: Clock;
}

interface Recipe {
  readonly package: string;
  /** Name in `bin/` → file in the package. */
  readonly bin: Readonly<Record<string, string>>;
}

const fetchMsMax = 300_000;
const bunPackage = process.arch === "arm64" ? "@oven/bun-linux-aarch64" : "@oven/bun-linux-x64";

const recipes: Readonly<Record<PackageManagerName, Recipe>> = {
  npm: { package: "npm", bin: { npm: "bin/npm-cli.js", npx: "bin/npx-cli.js" } },
  pnpm: { package: "pnpm", bin: { pnpm: "bin/pnpm.cjs", pnpx: "bin/pnpx.cjs" } },
  yarn: { package: "yarn", bin: { yarn: "bin/yarn.js", yarnpkg: "bin/yarn.js" } },
  "yarn-berry": { package: "@yarnpkg/cli-dist", bin: { yarn: "bin/yarn.js", yarnpkg: "bin/yarn.js" } },
  bun: { package: bunPackage, bin: { bun: "bin/bun", bunx: "bin/bun" } },
};

export function createToolchains(options: ToolchainsOptions): Toolchains {
  const root = resolve(options.directory);
  const running = new Map<string, Promise<string>>();
  return {
    async directory(manager) {
      const place = join(root, `${manager.name}@${manager.version}`);
      let fetching = running.get(place);
      if (fetching === undefined) {
        fetching = fetchToolchain(manager, place, options.npmRegistry);
        running.set(place, fetching);
        fetching.catch(() => running.delete(place));
      }
      await fetching;
      // When it was last asked for: what is pruned goes by that.
      const now = new Date(options.clock.now());
      await utimes(place, now, now);
      return place;
    },
    async prune(sinceMs) {
      for (const name of await readdir(root).catch(() => [])) {
        const place = join(root, name);
        if (name.startsWith(".") || (await stat(place)).mtimeMs >= sinceMs) continue;
        running.delete(place);
        const aside = join(root, `.new-${process.pid}-${randomId(8)}`);
        await rename(place, aside);
        await removeTree(aside);
      }
    },
  };
}

async function fetchToolchain(manager: PackageManager, place: string, registry: string): Promise<string> {
  if (await exists(join(place, "bin"))) return place;
  const recipe = recipes[manager.name];
  await sweep(dirname(place));
  const incoming = join(dirname(place), `.new-${process.pid}-${randomId(8)}`);
  try {
    await mkdir(join(incoming, "bin"), { recursive: true });
    await fetchNpmPackage({ spec: `${recipe.package}@${manager.version}`, directory: incoming, registry, msMax: fetchMsMax });
    for (const [name, file] of Object.entries(recipe.bin)) {
      const program = join(incoming, "node_modules", recipe.package, file);
      if (await exists(program)) await symlink(relative(join(incoming, "bin"), program), join(incoming, "bin", name));
    }
    await rename(incoming, place);
  } catch (error) {
    await removeTree(incoming);
    if (["ENOTEMPTY", "EEXIST"].includes(errnoOf(error) ?? "") && (await exists(join(place, "bin")))) return place;
    throw new MayflyError("INSTALL_FAILED", `Cannot fetch ${manager.name} ${manager.version}: ${messageOf(error).slice(0, 2000)}`, {
      cause: error,
    });
  }
  return place;
}

/** Removes what processes that are gone have fetched by half. */
async function sweep(root: string): Promise<void> {
  for (const name of await readdir(root).catch(() => [])) {
    const pid = /^\.new-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await removeTree(join(root, name));
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () =>
      lstat(path).then(
        () => true,
        () => false,
      ),
  );
}
