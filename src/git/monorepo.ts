/** Whether a commit concerns a project at all: one repository may hold many. */
import { posix } from "node:path";
import { documents, parseDocument } from "../build/configuration.ts";
import { whyNoGlob } from "../build/glob.ts";
import { MayflyError } from "../errors.ts";
import { readCommitFile } from "./commit-tree.ts";
import { runGit } from "./git-command.ts";
import type { Mirror } from "./mirror.ts";

const fileBytesMax = 1_048_576;
/** Packages of a repository that are looked through for what a project needs. */
const packagesMax = 2000;

/** Files at a repository's top that decide what every project in it is built with. */
const sharedFiles = [
  "package.json",
  "package-lock.json",
  "npm-shrinkwrap.json",
  "yarn.lock",
  "pnpm-lock.yaml",
  "pnpm-workspace.yaml",
  "bun.lock",
  "bun.lockb",
  ".npmrc",
  ".yarnrc.yml",
  "turbo.json",
  "nx.json",
  "lerna.json",
  "tsconfig.json",
  "tsconfig.base.json",
];

/**
 * Nothing that the project below `root` is made of differs between two commits: its directory, the directories of the
 * repository's own packages that it depends on, and what the whole repository is built with. false also when an older
 * commit is not at hand any more.
 */
export async function unaffected(mirror: Mirror, before: string, after: string, root: string): Promise<boolean> {
  const changed = await changedPaths(mirror, before, after);
  if (changed === null) return false;
  if (changed.length === 0) return true;
  const directories = await neededDirectories(mirror, after, root);
  return !changed.some((path) => sharedFiles.includes(path) || directories.some((directory) => isBelow(path, directory)));
}

/**
 * `git: { deploymentEnabled }` of the configuration, unless that is a program: false, or an object of globs of branches. Of
 * several that match a branch one that says true wins, as with Vercel.
 */
export async function deploymentDisabled(mirror: Mirror, sha: string, root: string | null, branch: string): Promise<boolean> {
  const directory = root === null || root === "" ? "" : `${clean(root)}/`;
  for (const name of documents) {
    const file = await readCommitFile(mirror, sha, directory + name, fileBytesMax);
    const enabled = (parse(file, name)?.["git"] as { deploymentEnabled?: unknown } | undefined)?.deploymentEnabled;
    if (enabled === false) return true;
    if (typeof enabled !== "object" || enabled === null) continue;
    const said = Object.entries(enabled).flatMap(([glob, is]: [string, unknown]) => (isMatch(branch, glob) ? [is] : []));
    return said.includes(false) && !said.includes(true);
  }
  return false;
}

const isMatch = (branch: string, glob: string): boolean => branch === glob || (whyNoGlob(glob) === null && posix.matchesGlob(branch, glob));

async function changedPaths(mirror: Mirror, before: string, after: string): Promise<string[] | null> {
  try {
    const list = await runGit(
      mirror.call("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", before, after),
      16 * fileBytesMax,
    );
    return list.toString("utf8").split("\0").filter(Boolean);
  } catch (error) {
    if (error instanceof MayflyError && error.code === "git_refused") return null;
    throw error;
  }
}

/** The project's directory, and those of the packages in the repository that it depends on, also by way of others. */
async function neededDirectories(mirror: Mirror, sha: string, root: string): Promise<string[]> {
  const list = await runGit(mirror.call("ls-tree", "-r", "-z", "--name-only", "--full-tree", sha), 64 * fileBytesMax);
  const manifests = list
    .toString("utf8")
    .split("\0")
    .filter((path) => path.endsWith("/package.json") && !path.includes("node_modules/"));
  if (manifests.length > packagesMax) return [""]; // too many to look through: everything counts
  const packages = new Map<string, { directory: string; needs: string[] }>();
  const byDirectory = new Map<string, { needs: string[] }>();
  for (const path of manifests) {
    const json = parse(await readCommitFile(mirror, sha, path, fileBytesMax));
    if (json === null) continue;
    const needs = ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"].flatMap((key) =>
      Object.keys((json[key] ?? {}) as object),
    );
    const directory = path.slice(0, -"/package.json".length);
    byDirectory.set(directory, { needs });
    if (typeof json["name"] === "string") packages.set(json["name"], { directory, needs });
  }
  const directories = new Set([clean(root)]);
  const open = [...(byDirectory.get(clean(root))?.needs ?? [])];
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    const found = packages.get(name);
    if (found === undefined || directories.has(found.directory)) continue;
    directories.add(found.directory);
    open.push(...found.needs);
  }
  return [...directories];
}

const clean = (root: string): string => root.replace(/^(?:\.?\/)+/, "").replace(/\/+$/, "");
const isBelow = (path: string, directory: string): boolean => directory === "" || path === directory || path.startsWith(`${directory}/`);

function parse(file: Buffer | null, name = "package.json"): Record<string, unknown> | null {
  if (file === null) return null;
  try {
    const value = parseDocument(name, file.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null; // the build says what is wrong with it
  }
}
