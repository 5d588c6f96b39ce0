/**
 * Finds the directories that several bundles of a build have in common, to be kept once. Pure. Invariants: the bundles have
 * the same files as before; no link of a shared directory leads out of it, so that it means the same wherever it is.
 */
import { createHash } from "node:crypto";
import type { Bundle, Digest, DirectoryRef, FileRef, FileTree } from "../model.ts";

/** A smaller one is not worth a place of its own. */
const filesMin = 8;
/** In one bundle: each is a mount more when the Function starts. */
const directoriesMax = 8;

export interface SharedBundles {
  /** In the order of what was given. */
  readonly bundles: readonly Bundle[];
  /** Blobs of the directories, by their digest. */
  readonly trees: ReadonlyMap<Digest, string>;
}

interface Directory {
  readonly path: string;
  readonly depth: number;
  readonly directories: Map<string, Directory>;
  /** By name. */
  readonly files: Map<string, FileRef>;
  /** Of all that is in it, whatever it is called. */
  key: string;
  count: number;
  bytes: number;
  /** Depth of the highest directory that one of its links leads to. */
  reach: number;
}

/**
 * @param bundles path → file
 * @param links digest of a symbolic link → where it leads
 */
export function shareDirectories(bundles: readonly FileTree[], links: ReadonlyMap<Digest, string>): SharedBundles {
  const roots = bundles.map((files) => directoryOf(files, links));
  const holders = countHolders(roots);
  const trees = new Map<Digest, string>();
  const shared = roots.map((root): Bundle => {
    const found = findShared(root, holders).sort((a, b) => b.count - a.count);
    const chosen = new Set(found.slice(0, directoriesMax));
    const entries: [string, FileRef | DirectoryRef][] = [];
    const add = (directory: Directory): void => {
      if (chosen.has(directory)) entries.push([directory.path, storeTree(directory, trees)]);
      else {
        for (const [name, file] of directory.files) entries.push([inside(directory.path, name), file]);
        for (const inner of directory.directories.values()) add(inner);
      }
    };
    add(root);
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  });
  return { bundles: shared, trees };
}

/** How many different bundles have a directory. */
function countHolders(roots: readonly Directory[]): ReadonlyMap<string, number> {
  const holders = new Map<string, number>();
  for (const root of new Map(roots.map((root) => [root.key, root])).values()) {
    const keys = new Set<string>();
    const add = ({ key, directories }: Directory): void => {
      keys.add(key);
      for (const inner of directories.values()) add(inner);
    };
    add(root);
    for (const key of keys) holders.set(key, (holders.get(key) ?? 0) + 1);
  }
  return holders;
}

/** The highest ones that another bundle has too. */
function findShared(directory: Directory, holders: ReadonlyMap<string, number>): Directory[] {
  if (directory.count < filesMin) return [];
  const isClosed = directory.depth > 0 && directory.reach >= directory.depth;
  if (isClosed && holders.get(directory.key)! > 1) return [directory];
  return [...directory.directories.values()].flatMap((inner) => findShared(inner, holders));
}

function storeTree(directory: Directory, trees: Map<Digest, string>): DirectoryRef {
  const files: [string, FileRef][] = [];
  const add = ({ path, files: own, directories }: Directory): void => {
    for (const [name, file] of own) files.push([inside(path, name).slice(directory.path.length + 1), file]);
    for (const inner of directories.values()) add(inner);
  };
  add(directory);
  const text = JSON.stringify(Object.fromEntries(files.sort(([a], [b]) => (a < b ? -1 : 1))));
  const treeDigest = sha256(text);
  trees.set(treeDigest, text);
  return { treeDigest, size: directory.bytes, mode: 0o040000 };
}

function directoryOf(files: FileTree, links: ReadonlyMap<Digest, string>): Directory {
  const root = newDirectory("", 0);
  for (const [path, file] of Object.entries(files)) {
    const parts = path.split("/");
    const name = parts.pop()!;
    let at = root;
    for (const part of parts) {
      let inner = at.directories.get(part);
      if (inner === undefined) at.directories.set(part, (inner = newDirectory(inside(at.path, part), at.depth + 1)));
      at = inner;
    }
    at.files.set(name, file);
  }
  measure(root, links);
  return root;
}

const newDirectory = (path: string, depth: number): Directory => ({
  path,
  depth,
  directories: new Map(),
  files: new Map(),
  key: "",
  count: 0,
  bytes: 0,
  reach: Number.POSITIVE_INFINITY,
});

function measure(directory: Directory, links: ReadonlyMap<Digest, string>): void {
  const lines: string[] = [];
  for (const [name, file] of directory.files) {
    lines.push(`${name}\0${file.mode}\0${file.digest}`);
    directory.count++;
    directory.bytes += file.size;
    if (file.mode === 0o120000 || file.mode === 0o120777) {
      directory.reach = Math.min(directory.reach, reachOf(directory.depth, links.get(file.digest)));
    }
  }
  for (const [name, inner] of directory.directories) {
    measure(inner, links);
    lines.push(`${name}/\0${inner.key}`);
    directory.count += inner.count;
    directory.bytes += inner.bytes;
    directory.reach = Math.min(directory.reach, inner.reach);
  }
  directory.key = sha256(lines.sort().join("\n"));
}

/** What climbs otherwise than at its beginning may climb anywhere. */
function reachOf(depth: number, target: string | undefined): number {
  const parts = target?.split("/") ?? [];
  const climbs = parts.findIndex((part) => part !== "..");
  if (target === undefined || target.startsWith("/") || climbs === -1 || parts.slice(climbs).includes("..")) return -1;
  return depth - climbs;
}

const inside = (directory: string, name: string): string => (directory === "" ? name : `${directory}/${name}`);

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
