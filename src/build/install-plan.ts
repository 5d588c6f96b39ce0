/**
 * Which package manager installs what, and where: read off lock files and package.json in the uploaded tree. Hides the
 * versions that Mayfly pins when a project names none.
 */
import { posix } from "node:path";
import { MayflyError } from "../errors.ts";
import type { ProjectSettings } from "../model.ts";
import type { BuildStep, InstallStep, PackageManager, PackageManagerName } from "./builder.ts";
import { whyNoGlob } from "./glob.ts";
import type { Project } from "./project.ts";
import { isObject, isStrings } from "./shape.ts";

/** Exact versions, so that a build of tomorrow is a build of today. */
export const pinned = {
  npm: "11.21.2",
  pnpm: "10.34.9",
  pnpm9: "9.15.9",
  pnpm8: "8.15.9",
  yarn: "1.22.22",
  "yarn-berry": "4.18.1",
  bun: "1.4.5",
} as const;

/** Version of a Yarn lock file → the last Yarn that leaves one of it as it is; later ones are the pinned one's. */
const berryVersions: readonly (readonly [lockFile: number, version: string])[] = [
  [4, "3.0.2"],
  [5, "3.1.1"],
  [6, "3.8.7"],
  [8, "4.12.0"],
  [9, "4.14.1"],
];

export const npm: PackageManager = { name: "npm", version: pinned.npm };

const lockFiles: readonly (readonly [file: string, name: PackageManagerName])[] = [
  ["bun.lock", "bun"],
  ["bun.lockb", "bun"],
  ["pnpm-lock.yaml", "pnpm"],
  ["yarn.lock", "yarn"],
  ["package-lock.json", "npm"],
  ["npm-shrinkwrap.json", "npm"],
];

type PackageJson = Readonly<Record<string, unknown>>;

/** The project's own dependencies first, then those of `package.json` files nearer to a Function. */
export async function planInstalls(request: {
  readonly project: Project;
  readonly settings: ProjectSettings;
  readonly steps: readonly BuildStep[];
}): Promise<readonly InstallStep[]> {
  const { project, settings, steps } = request;
  const root = project.rootDirectory;
  const tree = { ...treeOf(project), command: settings.installCommand };
  const installs: InstallStep[] = [];
  const rootPackage = await nearestPackage(tree, root);
  if (settings.installCommand !== null) {
    // An empty command means: install nothing.
    if (settings.installCommand.trim() !== "") {
      const { manager } = await chooseManager(tree, root);
      installs.push({ directory: root, command: settings.installCommand, manager, frozen: false });
    }
  } else if (rootPackage !== undefined && hasDependencies(rootPackage.json)) installs.push(await installOf(tree, rootPackage.directory));
  const seen = new Set(installs.map((install) => install.directory).concat(rootPackage?.directory ?? root, root));
  for (const step of steps) {
    if (step.server) continue;
    const own = await nearestPackage(tree, posix.join(root, posix.dirname(step.entrypoint)));
    if (own === undefined || seen.has(own.directory)) continue;
    seen.add(own.directory);
    if (hasDependencies(own.json)) installs.push(await installOf(tree, own.directory));
  }
  return installs;
}

interface Tree {
  has(path: string): boolean;
  read(path: string): Promise<string>;
}

/** The whole tree: a project below a workspace root takes its lock file from there. */
function treeOf(project: Project): Tree {
  return {
    has: (path) => Object.hasOwn(project.tree, path),
    read: async (path) => (await project.readFromTree(path)).toString("utf8"),
  };
}

/** `a/b` → `a/b`, `a`, "". */
function upwards(directory: string): string[] {
  const normal = directory === "." ? "" : directory;
  const parts = normal === "" ? [] : normal.split("/");
  return parts.map((_, index) => parts.slice(0, parts.length - index).join("/")).concat("");
}

const inside = (directory: string, file: string): string => (directory === "" ? file : `${directory}/${file}`);

async function nearestPackage(tree: Tree, directory: string): Promise<{ directory: string; json: PackageJson } | undefined> {
  for (const candidate of upwards(directory)) {
    if (tree.has(inside(candidate, "package.json")))
      return { directory: candidate, json: await readJson(tree, inside(candidate, "package.json")) };
  }
  return undefined;
}

async function readJson(tree: Tree, path: string): Promise<PackageJson> {
  try {
    const value: unknown = JSON.parse((await tree.read(path)).replace(/^\uFEFF/, ""));
    return typeof value === "object" && value !== null ? (value as PackageJson) : {};
  } catch (error) {
    throw new MayflyError("INSTALL_FAILED", `"${path}" is not valid JSON.`, { cause: error });
  }
}

function hasDependencies(json: PackageJson): boolean {
  const isFilled = (value: unknown): boolean => typeof value === "object" && value !== null && Object.keys(value).length > 0;
  return ["dependencies", "devDependencies", "optionalDependencies", "workspaces"].some((key) => isFilled(json[key]));
}

async function installOf(tree: Tree, directory: string): Promise<InstallStep> {
  const { manager, frozen, lockDirectory } = await chooseManager(tree, directory);
  return { directory: lockDirectory ?? directory, command: null, manager, frozen };
}

async function chooseManager(tree: Tree, directory: string): Promise<{ manager: PackageManager; frozen: boolean; lockDirectory?: string }> {
  const named = await namedManager(tree, directory);
  for (const candidate of upwards(directory)) {
    for (const [file, name] of lockFiles) {
      const path = inside(candidate, file);
      if (!tree.has(path)) continue;
      const isNamed = named !== undefined && named.name.split("-")[0] === name;
      return { manager: isNamed ? named : managerOf(name, await tree.read(path)), frozen: true, lockDirectory: candidate };
    }
  }
  const workspace = await workspaceOf(tree, directory);
  return { manager: named ?? npm, frozen: false, ...(workspace === undefined ? {} : { lockDirectory: workspace }) };
}

/** Where the lock file of a package would be that a package above it has among its `workspaces`. */
async function workspaceOf(tree: Tree, directory: string): Promise<string | undefined> {
  for (const candidate of upwards(directory).slice(1)) {
    const path = inside(candidate, "package.json");
    const said = tree.has(path) ? (await readJson(tree, path))["workspaces"] : undefined;
    const globs = isObject(said) ? said["packages"] : said;
    const own = posix.relative(candidate, directory);
    const isMember = (glob: string): boolean => whyNoGlob(glob) === null && posix.matchesGlob(own, glob.replace(/^\.\/|\/$/g, ""));
    if (isStrings(globs) && globs.some(isMember)) return candidate;
  }
  return undefined;
}

/** The `packageManager` field: `pnpm@9.15.9+sha512.…`. npm's own version is always the pinned one. */
async function namedManager(tree: Tree, directory: string): Promise<PackageManager | undefined> {
  for (const candidate of upwards(directory)) {
    const path = inside(candidate, "package.json");
    const field = tree.has(path) ? (await readJson(tree, path))["packageManager"] : undefined;
    const match = typeof field === "string" ? /^(npm|pnpm|yarn|bun)@(\d{1,4}\.\d{1,4}\.\d{1,4})(?:\+.*)?$/.exec(field) : null;
    if (match === null) continue;
    const [, name, version] = match as unknown as [string, "npm" | "pnpm" | "yarn" | "bun", string];
    if (name === "npm") return npm;
    return { name: name === "yarn" && !version.startsWith("1.") ? "yarn-berry" : name, version };
  }
  return undefined;
}

/** The one that has written a lock file. */
function managerOf(name: PackageManagerName, lockFile: string): PackageManager {
  if (name === "pnpm") return { name, version: pnpmVersion(lockFile) };
  const berry = name === "yarn" ? /^__metadata:\s*\n\s+version:\s*(\d+)/m.exec(lockFile.slice(0, 1000)) : null;
  if (berry === null) return { name, version: pinned[name] };
  const [, version = pinned["yarn-berry"]] = berryVersions.find(([last]) => Number(berry[1]) <= last) ?? [];
  return { name: "yarn-berry", version };
}

function pnpmVersion(lockFile: string): string {
  const major = Number(/^lockfileVersion:\s*['"]?(\d+)/m.exec(lockFile.slice(0, 1000))?.[1] ?? 9);
  // Lock files of 5.x are read by pnpm 8, and rewritten; 6.x are its own; 9.0 are those of pnpm 9 and later.
  return major < 7 ? pinned.pnpm8 : pinned.pnpm;
}
