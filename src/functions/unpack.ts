/**
 * From a bundle as data to a read-only directory: files are hard links to blobs, executables copies, symlinks stay within
 * the bundle. Everything is checked before anything is written, on the data alone, so no state of the disk can mislead it.
 */
import { constants, type Dirent } from "node:fs";
import { chmod, copyFile, link, mkdir, readdir, rm, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { DirectoryRef, FileRef, FileTree } from "../model.ts";
import { checkFilePath } from "../names.ts";

const symlinkMode = 0o120777;
const symlinkBytesMax = 4096;
/** As in Linux: longer chains are taken for a loop. */
const symlinkHopsMax = 40;
const filesAtOnce = 32;

/** A bundle's own files, and the directories that it shares with others. */
export interface BundleParts {
  readonly files: FileTree;
  /** Path in the bundle → a tree that is a bundle itself. */
  readonly directories: ReadonlyMap<string, DirectoryRef>;
}

/**
 * @throws MayflyError internal_error when it is no bundle, invalid_path when a path is not allowed
 */
export function parseBundle(json: Buffer, limits: { readonly pathBytesMax: number; readonly filesMax: number }): BundleParts {
  let value: unknown;
  try {
    value = JSON.parse(json.toString());
  } catch (error) {
    throw invalid(`it is not JSON: ${messageOf(error)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("it is not an object");
  const entries = Object.entries(value);
  if (entries.length > limits.filesMax) throw invalid(`it has ${entries.length} files, more than ${limits.filesMax}`);
  const files: [string, FileRef][] = [];
  const directories = new Map<string, DirectoryRef>();
  for (const [path, entry] of entries) {
    checkFilePath(path, limits.pathBytesMax);
    if (isFileRef(entry)) files.push([path, entry]);
    else if (isDirectoryRef(entry)) directories.set(path, entry);
    else throw invalid(`"${path}" is not a file reference`);
  }
  for (const [path] of entries) {
    for (let parent = dirname(path); parent !== "."; parent = dirname(parent)) {
      if (Object.hasOwn(value, parent)) throw invalid(`"${parent}" is a file and also the directory of "${path}"`);
    }
  }
  return { files: Object.fromEntries(files), directories };
}

function isDirectoryRef(entry: unknown): entry is DirectoryRef {
  if (typeof entry !== "object" || entry === null) return false;
  const { treeDigest, size, mode } = entry as Record<string, unknown>;
  return typeof treeDigest === "string" && /^[0-9a-f]{64}$/.test(treeDigest) && Number.isSafeInteger(size) && mode === 0o040000;
}

function isFileRef(file: unknown): file is FileRef {
  if (typeof file !== "object" || file === null) return false;
  const { digest, size, mode } = file as Record<string, unknown>;
  return (
    typeof digest === "string" &&
    /^[0-9a-f]{64}$/.test(digest) &&
    Number.isSafeInteger(size) &&
    (size as number) >= 0 &&
    (mode === 0o100644 || mode === 0o100755 || mode === symlinkMode)
  );
}

/** Bytes of all its files. */
export function bundleBytes(tree: FileTree): number {
  return Object.values(tree).reduce((sum, file) => sum + file.size, 0);
}

/**
 * Makes `directory` (which must not exist) with the files of `tree`: 0444, executables and directories 0555.
 * @param empty directories that are made besides
 * @throws MayflyError internal_error when a symlink leads out of the bundle or a blob is absent, disk_full
 */
export async function unpack(tree: FileTree, directory: string, blobs: BlobStore, empty: readonly string[] = []): Promise<void> {
  const links = await readSymlinks(tree, blobs);
  for (const path of links.keys()) checkSymlink(path, links);

  const directories = new Set<string>(empty);
  for (const path of [...Object.keys(tree), ...empty]) {
    for (let parent = dirname(path); parent !== "." && !directories.has(parent); parent = dirname(parent)) directories.add(parent);
  }
  try {
    await mkdir(directory, { mode: 0o755 });
    for (const path of [...directories].sort((a, b) => a.length - b.length)) await mkdir(join(directory, path), { mode: 0o755 });
    await eachAtOnce(Object.entries(tree), filesAtOnce, async ([path, file]) => {
      const target = links.get(path);
      if (target !== undefined) await symlink(target, join(directory, path));
      else await place(await blobs.localPath(file.digest), join(directory, path), file.mode === 0o100755);
    });
    for (const path of directories) await chmod(join(directory, path), 0o555);
    await chmod(directory, 0o555);
  } catch (error) {
    if (errnoOf(error) === "ENOSPC" || errnoOf(error) === "EDQUOT") {
      throw new MayflyError("disk_full", `Cannot unpack a bundle into "${directory}": ${messageOf(error)}`, { cause: error });
    }
    if (error instanceof MayflyError) throw error;
    throw new MayflyError("internal_error", `Cannot unpack a bundle into "${directory}": ${messageOf(error)}`, { cause: error });
  }
}

/** Removes a directory that {@link unpack} made, also a half-made one. No error when absent. */
export async function removeTree(directory: string): Promise<void> {
  await makeRemovable(directory);
  await rm(directory, { recursive: true, force: true });
}

/** Entries of a directory without write permission cannot be removed, except by root. */
async function makeRemovable(directory: string): Promise<void> {
  let entries: Dirent[];
  try {
    await chmod(directory, 0o755);
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  for (const entry of entries) if (entry.isDirectory()) await makeRemovable(join(directory, entry.name));
}

async function place(blob: string, target: string, executable: boolean): Promise<void> {
  // A link shares the blob's mode, so a blob that not everybody may read, or that is to be executable, is copied.
  if (!executable && ((await stat(blob)).mode & 0o777) === 0o444) {
    try {
      await link(blob, target);
      return;
    } catch (error) {
      // Another file system, too many links to one file, or links not allowed to this user.
      if (!["EXDEV", "EMLINK", "EPERM"].includes(errnoOf(error) ?? "")) throw error;
    }
  }
  await copyFile(blob, target, constants.COPYFILE_FICLONE);
  await chmod(target, executable ? 0o555 : 0o444);
}

async function readSymlinks(tree: FileTree, blobs: BlobStore): Promise<Map<string, string>> {
  const links = new Map<string, string>();
  const entries = Object.entries(tree).filter(([, file]) => file.mode === symlinkMode);
  await eachAtOnce(entries, filesAtOnce, async ([path, file]) => {
    if (file.size > symlinkBytesMax) throw invalid(`the symlink "${path}" has a target of ${file.size} bytes`);
    const target = (await blobs.read(file.digest)).toString();
    if (target === "" || target.includes("\0") || target.startsWith("/")) {
      throw invalid(`the symlink "${path}" leads to ${JSON.stringify(target.slice(0, 200))}, out of the bundle`);
    }
    links.set(path, target);
  });
  return links;
}

/** Follows a symlink as the kernel would, through other symlinks of the bundle. */
function checkSymlink(path: string, links: ReadonlyMap<string, string>): void {
  const at = path.split("/").slice(0, -1);
  const todo = links.get(path)!.split("/");
  let hops = 1;
  while (todo.length > 0) {
    const part = todo.shift()!;
    if (part === "" || part === ".") continue;
    if (part === "..") {
      if (at.pop() === undefined) throw invalid(`the symlink "${path}" leads to "${links.get(path)}", out of the bundle`);
      continue;
    }
    at.push(part);
    const target = links.get(at.join("/"));
    if (target === undefined) continue;
    if (++hops > symlinkHopsMax) throw invalid(`the symlink "${path}" leads in a circle`);
    at.pop();
    todo.unshift(...target.split("/"));
  }
}

async function eachAtOnce<T>(items: readonly T[], atOnce: number, action: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      try {
        await action(items[next++]!);
      } catch (error) {
        next = items.length;
        throw error;
      }
    }
  };
  // All of them have ended before the caller hears of a failure and cleans up.
  const results = await Promise.allSettled(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  const failure = results.find((result) => result.status === "rejected");
  if (failure !== undefined) throw failure.reason;
}

const invalid = (why: string): MayflyError => new MayflyError("internal_error", `Cannot unpack a bundle: ${why}.`);
