/**
 * Where an output is read from: a directory that a build left, or the uploaded tree of a prebuilt deployment. Both are
 * hostile. Paths are relative to the repository's root; symbolic links are followed here, by name, and never lead out of
 * it, so no path of an output can name another file of the machine.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { open, readdir, type FileHandle } from "node:fs/promises";
import { join, posix } from "node:path";
import type { Readable } from "node:stream";
import type { BlobTarget } from "../blobs/blob-store.ts";
import { errnoOf, MayflyError } from "../errors.ts";
import type { FileRef, SourceTree } from "../model.ts";
import { guestPaths } from "./builder.ts";
import type { Mentions } from "./mentions.ts";

export type Entry =
  | { readonly kind: "directory" }
  | { readonly kind: "file"; readonly size: number; readonly mode: number }
  | { readonly kind: "link"; readonly target: string };

/** One place of files. No method follows a link at the end of `path`; a caller hands in paths whose parents are none. */
export interface FilePlace {
  entry(path: string): Promise<Entry | null>;
  /** Names in a directory, sorted. */
  list(path: string): Promise<readonly string[]>;
  /** @throws MayflyError BUILD_OUTPUT_INVALID beyond `bytesMax` */
  read(path: string, bytesMax: number): Promise<Buffer>;
  /** Stores a file's bytes. */
  store(path: string): Promise<FileRef>;
}

const linkHopsMax = 32;
const linkBytesMax = 4096;
/**
 * Questions of the disk that one turn asks at once: each takes some microseconds, a trip through the thread pool a hundred.
 * A turn is short all the same, since this process has other work.
 */
const asksAtOnce = 100;
/** Files that are read at once. */
const tinyBytesMax = 64 * 1024;
/** Smaller files are hashed in memory, so that a known one costs no writing. */
const smallBytesMax = 4 * 1024 * 1024;

const isLink = (mode: number): boolean => (mode & 0o170000) === 0o120000;
const fileMode = (mode: number): number => ((mode & 0o111) === 0 ? 0o100644 : 0o100755);

/**
 * A directory on this machine that nobody writes to any more.
 * @param mentions looks at whatever is stored
 */
export function openDirectory(root: string, blobs: BlobTarget, mentions?: Mentions): FilePlace {
  let asked = 0;
  const ask = async (): Promise<void> => {
    if (++asked % asksAtOnce === 0) await new Promise(setImmediate);
  };
  return {
    async entry(path) {
      await ask();
      let stats;
      try {
        stats = lstatSync(join(root, path));
      } catch (error) {
        if (["ENOENT", "ENOTDIR", "ENAMETOOLONG"].includes(errnoOf(error) ?? "")) return null;
        throw error;
      }
      if (stats.isDirectory()) return { kind: "directory" };
      if (stats.isFile()) return { kind: "file", size: stats.size, mode: fileMode(stats.mode) };
      if (stats.isSymbolicLink()) return { kind: "link", target: readlinkSync(join(root, path)) };
      throw new MayflyError("BUILD_OUTPUT_INVALID", `"${path}" is neither file nor directory.`);
    },
    async list(path) {
      return (await readdir(join(root, path))).sort();
    },
    async read(path, bytesMax) {
      await ask();
      const tiny = readTiny(join(root, path));
      if (tiny !== null && tiny.bytes.byteLength <= bytesMax) return tiny.bytes;
      await using file = await openFile(join(root, path));
      const { size } = await file.stat();
      if (size > bytesMax) throw tooLarge(path, size, bytesMax);
      return file.readFile();
    },
    async store(path) {
      await ask();
      const tiny = readTiny(join(root, path));
      if (tiny !== null) {
        if (mentions !== undefined && !mentions.found) mentions.look(tiny.bytes);
        const { digest, size } = await blobs.put(tiny.bytes);
        return { digest, size, mode: fileMode(tiny.stats.mode) };
      }
      await using file = await openFile(join(root, path));
      const { size, mode } = await file.stat();
      const bytes = size <= smallBytesMax ? await file.readFile() : file.createReadStream({ autoClose: false, start: 0, end: size - 1 });
      if (mentions !== undefined && !mentions.found) await lookAt(mentions, bytes, file);
      const info = await blobs.put(bytes);
      return { digest: info.digest, size: info.size, mode: fileMode(mode) };
    },
  };
}

async function lookAt(mentions: Mentions, bytes: Buffer | Readable, file: FileHandle): Promise<void> {
  if (bytes instanceof Uint8Array) return mentions.look(bytes);
  const part = Buffer.alloc(smallBytesMax);
  for (let start = 0; ; start += part.length - mentions.overlap) {
    const { bytesRead } = await file.read(part, 0, part.length, start);
    mentions.look(part.subarray(0, bytesRead));
    if (bytesRead < part.length) return;
  }
}

const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** null: it is large, or no file. */
function readTiny(path: string): { readonly bytes: Buffer; readonly stats: Stats } | null {
  const descriptor = openSync(path, readFlags);
  try {
    const stats = fstatSync(descriptor);
    return stats.isFile() && stats.size <= tinyBytesMax ? { bytes: readFileSync(descriptor), stats } : null;
  } finally {
    closeSync(descriptor);
  }
}

/** Never a link, a pipe or a device, whatever was there a moment ago. */
async function openFile(path: string) {
  const file = await open(path, readFlags);
  if (!(await file.stat()).isFile()) {
    await file.close();
    throw new MayflyError("BUILD_OUTPUT_INVALID", `"${path}" is not a file.`);
  }
  return file;
}

/** The tree of an upload, whose files are stored already. */
export function openTree(tree: SourceTree, blobs: BlobTarget): FilePlace {
  const directories = new Map<string, Set<string>>([["", new Set()]]);
  for (const path of Object.keys(tree)) {
    for (let child = path; child !== ""; child = parentOf(child)) {
      const siblings = directories.get(parentOf(child));
      const name = child.slice(child.lastIndexOf("/") + 1);
      if (siblings?.has(name) === true) break;
      if (siblings === undefined) directories.set(parentOf(child), new Set([name]));
      else siblings.add(name);
    }
  }
  const refOf = (path: string): FileRef | undefined => (Object.hasOwn(tree, path) ? tree[path] : undefined);
  const need = (path: string): FileRef => {
    const file = refOf(path);
    if (file === undefined) throw new MayflyError("BUILD_OUTPUT_INVALID", `There is no file "${path}".`);
    return file;
  };
  return {
    async entry(path) {
      const file = refOf(path);
      if (file === undefined) return directories.has(path) ? { kind: "directory" } : null;
      if (!isLink(file.mode)) return { kind: "file", size: file.size, mode: fileMode(file.mode) };
      if (file.size > linkBytesMax) throw tooLarge(path, file.size, linkBytesMax);
      return { kind: "link", target: (await blobs.read(file.digest)).toString("utf8") };
    },
    async list(path) {
      return [...(directories.get(path) ?? [])].sort();
    },
    async read(path, bytesMax) {
      const file = need(path);
      if (file.size > bytesMax) throw tooLarge(path, file.size, bytesMax);
      return blobs.read(file.digest);
    },
    async store(path) {
      const file = need(path);
      return { ...file, mode: fileMode(file.mode) };
    },
  };
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "" : path.slice(0, slash);
}

function tooLarge(path: string, size: number, bytesMax: number): MayflyError {
  return new MayflyError("BUILD_OUTPUT_INVALID", `"${path}" has ${size} bytes; it may have ${bytesMax}.`);
}

/** A place with its links: resolves every directory and stores every file once. */
export class OutputFiles {
  readonly #place: FilePlace;
  readonly #blobs: BlobTarget;
  readonly #directories = new Map<string, Promise<string | null>>();
  readonly #stored = new Map<string, Promise<FileRef>>();
  /** Bundles of many Functions name the same files. */
  readonly #entries = new Map<string, Promise<Entry | null>>();

  constructor(place: FilePlace, blobs: BlobTarget) {
    this.#place = place;
    this.#blobs = blobs;
  }

  list(path: string): Promise<readonly string[]> {
    return this.#place.list(path);
  }

  read(path: string, bytesMax: number): Promise<Buffer> {
    return this.#place.read(path, bytesMax);
  }

  /** What is at `path`, with links in its parents followed but none at its end; `at` is the real place. */
  async entry(path: string): Promise<{ readonly at: string; readonly entry: Entry } | null> {
    return this.#entry(path, 0);
  }

  /** The same with a link at the end followed too; null when it leads nowhere or out of the repository. */
  async resolve(path: string): Promise<{ readonly at: string; readonly entry: Exclude<Entry, { kind: "link" }> } | null> {
    return this.#resolve(path, 0);
  }

  /** Stores the file at a real place, once. */
  store(at: string): Promise<FileRef> {
    let stored = this.#stored.get(at);
    if (stored === undefined) this.#stored.set(at, (stored = this.#place.store(at)));
    return stored;
  }

  /** Stores a symbolic link. */
  async storeLink(target: string): Promise<FileRef> {
    const key = `link:${createHash("sha256").update(target).digest("hex")}`;
    let stored = this.#stored.get(key);
    if (stored === undefined) {
      stored = this.#blobs.put(target).then((info) => ({ digest: info.digest, size: info.size, mode: 0o120777 }));
      this.#stored.set(key, stored);
    }
    return stored;
  }

  async #entry(path: string, hops: number): Promise<{ at: string; entry: Entry } | null> {
    const parent = await this.#directory(parentOf(path), hops);
    if (parent === null) return null;
    const name = path.slice(path.lastIndexOf("/") + 1);
    const at = parent === "" ? name : `${parent}/${name}`;
    if (at === "") return { at, entry: { kind: "directory" } };
    let asked = this.#entries.get(at);
    if (asked === undefined) this.#entries.set(at, (asked = this.#place.entry(at)));
    const entry = await asked;
    return entry === null ? null : { at, entry };
  }

  async #resolve(path: string, hops: number): Promise<{ at: string; entry: Exclude<Entry, { kind: "link" }> } | null> {
    if (hops > linkHopsMax) return null;
    const found = await this.#entry(path, hops);
    if (found === null) return null;
    const { at, entry } = found;
    if (entry.kind !== "link") return { at, entry };
    const target = linkTarget(at, entry.target);
    return target === null ? null : this.#resolve(target, hops + 1);
  }

  #directory(path: string, hops: number): Promise<string | null> {
    if (path === "") return Promise.resolve("");
    // Only a walk from the top may be remembered: one in the middle of a chain of links could end for its length alone.
    const known = this.#directories.get(path);
    if (known !== undefined && hops === 0) return known;
    const walk = this.#resolve(path, hops).then((found) => (found?.entry.kind === "directory" ? found.at : null));
    if (hops === 0) this.#directories.set(path, walk);
    return walk;
  }
}

/** Where a link at `at` leads, relative to the repository; null when that is outside of it. */
export function linkTarget(at: string, target: string): string | null {
  if (target.includes("\0")) return null;
  // A build sees the repository at a path of its own, and tools write that down.
  const guest = `${guestPaths.repository}/`;
  const path = target.startsWith(guest) ? posix.normalize(target.slice(guest.length)) : posix.join(parentOf(at), target);
  if (target.startsWith("/") && !target.startsWith(guest)) return null;
  const trimmed = path.replace(/\/$/, "");
  if (trimmed === ".." || trimmed.startsWith("../") || trimmed.startsWith("/")) return null;
  return trimmed === "." ? "" : trimmed;
}
