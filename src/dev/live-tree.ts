/**
 * A directory on this machine as a source tree that is kept current: what changed is read and stored again, the rest is
 * taken from memory. Hides the watching: one watcher for each directory that is not ignored, and a look every second
 * where there are more of them than the system gives. Events only say that there is something to look for.
 */
import { watch, type FSWatcher } from "node:fs";
import { lstat, readlink, realpath } from "node:fs/promises";
import { join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { linkMode, listDirectory, openSourceFile, type Entry } from "../client/source.ts";
import { errnoOf, MayflyError } from "../errors.ts";
import type { FileRef, SourceTree } from "../model.ts";

/** Watchers at most; beyond it the directory is looked through every {@link lookEveryMs}. */
const watchersMax = 4096;
const lookEveryMs = 1000;
/** Editors write in several steps: so long after the last event it is read, in ms. */
const settleMs = 8;
const readsAtOnce = 16;
const smallBytesMax = 4 * 1024 * 1024;

interface Known {
  /** What tells a changed file: when, how large, which inode. */
  readonly stamp: string;
  readonly file: FileRef;
}

export interface Look {
  readonly tree: SourceTree;
  /** Paths that are new, changed or gone. */
  readonly changed: readonly string[];
}

export class LiveTree implements Disposable {
  readonly root: string;
  readonly #blobs: BlobStore;
  readonly #filesMax: number;
  #known = new Map<string, Known>();
  readonly #watchers = new Map<string, FSWatcher>();
  #onChange: (() => void) | undefined;
  #settling: NodeJS.Timeout | undefined;
  #polling: NodeJS.Timeout | undefined;

  private constructor(root: string, blobs: BlobStore, filesMax: number) {
    this.root = root;
    this.#blobs = blobs;
    this.#filesMax = filesMax;
  }

  /** @throws MayflyError not_a_directory */
  static async open(directory: string, blobs: BlobStore, filesMax: number): Promise<LiveTree> {
    try {
      return new LiveTree(await realpath(directory), blobs, filesMax);
    } catch (error) {
      throw new MayflyError("not_a_directory", `The directory "${directory}" cannot be read (${errnoOf(error)}).`, { cause: error });
    }
  }

  /** Calls back when something may have changed; the directory is then to be looked at. */
  watch(onChange: () => void): void {
    this.#onChange = onChange;
  }

  /** The tree as it is now. @throws MayflyError unreadable_file, too_many_files */
  async look(): Promise<Look> {
    const { entries, directories } = await listDirectory(this.root);
    if (entries.length > this.#filesMax) {
      throw new MayflyError(
        "too_many_files",
        `${this.root} has ${entries.length} files; ${this.#filesMax} can be served. Name some in .vercelignore.`,
      );
    }
    this.#follow(directories);
    const before = this.#known;
    const now = new Map<string, Known>();
    const changed: string[] = [];
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < entries.length) {
        const entry = entries[next++]!;
        const known = await this.#read(entry, before.get(entry.path));
        if (known === undefined) continue;
        now.set(entry.path, known);
        if (known !== before.get(entry.path)) changed.push(entry.path);
      }
    };
    await Promise.all(Array.from({ length: readsAtOnce }, work));
    for (const path of before.keys()) if (!now.has(path)) changed.push(path);
    this.#known = now;
    const tree = Object.fromEntries([...now].map(([path, { file }]) => [path, file]));
    return { tree, changed: changed.toSorted() };
  }

  [Symbol.dispose](): void {
    this.#onChange = undefined;
    clearTimeout(this.#settling);
    clearInterval(this.#polling);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  /** undefined: it has gone meanwhile. */
  async #read({ path, isLink }: Entry, before: Known | undefined): Promise<Known | undefined> {
    const at = join(this.root, path);
    try {
      const { mtimeNs, ctimeNs, size, ino } = await lstat(at, { bigint: true });
      const stamp = `${mtimeNs} ${ctimeNs} ${size} ${ino}`;
      if (before?.stamp === stamp) return before;
      const file = isLink ? await this.#storeLink(at) : await this.#storeFile(path);
      // Touched, but the same: nothing has changed.
      if (before?.file.digest === file.digest && before.file.mode === file.mode) {
        Object.assign(before, { stamp });
        return before;
      }
      return { stamp, file };
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || (error instanceof MayflyError && error.code === "file_changed")) return undefined;
      throw error;
    }
  }

  async #storeLink(at: string): Promise<FileRef> {
    const { digest, size } = await this.#blobs.put(await readlink(at));
    return { digest, size, mode: linkMode };
  }

  async #storeFile(path: string): Promise<FileRef> {
    const { handle, facts } = await openSourceFile(this.root, path);
    try {
      const bytes = facts.size <= smallBytesMax ? await handle.readFile() : handle.createReadStream({ autoClose: false });
      const { digest, size } = await this.#blobs.put(bytes);
      return { digest, size, mode: (facts.mode & 0o100) === 0 ? 0o100644 : 0o100755 };
    } finally {
      await handle.close();
    }
  }

  /** A watcher for each of these directories, none for others. */
  #follow(directories: readonly string[]): void {
    const wanted = new Set(directories);
    for (const [path, watcher] of this.#watchers) {
      if (wanted.has(path)) continue;
      watcher.close();
      this.#watchers.delete(path);
    }
    for (const path of directories) {
      if (this.#watchers.has(path) || this.#polling !== undefined) continue;
      if (this.#watchers.size >= watchersMax) return this.#poll();
      try {
        const watcher = watch(join(this.root, path), () => this.#tell());
        watcher.on("error", () => this.#tell());
        this.#watchers.set(path, watcher);
      } catch (error) {
        // The system gives no more of them (ENOSPC, EMFILE); a directory that is gone (ENOENT) is told of by its parent.
        if (errnoOf(error) !== "ENOENT") return this.#poll();
      }
    }
  }

  #poll(): void {
    this.#polling ??= setInterval(() => this.#tell(), lookEveryMs);
  }

  #tell(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#onChange?.(), settleMs);
  }
}
