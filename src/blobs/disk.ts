/**
 * Driver of the blob store: files below one directory, `ab/cdef…` by digest, read-only. A blob is written beside its
 * place, synced, and renamed into it, so whatever has the name is whole; what a crash leaves in `incoming/` is removed
 * at the next opening when its writer is gone.
 */
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { open, readdir, readFile, rename, rm, stat, statfs, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { errnoOf, MayflyError } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import type { Digest } from "../model.ts";
import { randomId } from "../names.ts";
import type { BlobBatch, BlobInfo, BlobRange, BlobStore } from "./blob-store.ts";
import { openSyncfs } from "./syncfs.ts";

/** The kernel stamps files by a coarser clock than ours. */
const markSlackMs = 20;

/** Smaller files are written together, in bytes. */
const smallBytesMax = 64 * 1024;

export interface DiskBlobsOptions {
  /** Made when absent. */
  readonly directory: string;
}

export function openDiskBlobs(options: DiskBlobsOptions): BlobStore {
  return new DiskBlobs(options.directory);
}

class DiskBlobs implements BlobStore {
  readonly #directory: string;
  readonly #incoming: string;
  readonly #prefixes = new Set<string>();
  readonly #syncfs: (() => Promise<void>) | null;

  constructor(directory: string) {
    this.#directory = directory;
    this.#incoming = join(directory, "incoming");
    mkdirSync(this.#incoming, { recursive: true, mode: 0o700 });
    sweepIncoming(this.#incoming, directory);
    this.#syncfs = openSyncfs(this.#incoming);
  }

  async put(
    source: Readable | Uint8Array | string,
    options: { bytesMax?: number; check?: (info: BlobInfo) => void } = {},
  ): Promise<BlobInfo> {
    const bytesMax = options.bytesMax ?? Number.POSITIVE_INFINITY;
    if (!(source instanceof Readable)) {
      const bytes = typeof source === "string" ? Buffer.from(source) : source;
      const info = infoOf(bytes, bytesMax);
      options.check?.(info);
      if (await this.has(info.digest)) return info;
      if (this.#syncfs !== null && bytes.byteLength <= smallBytesMax) await this.#writeSmall(info.digest, bytes, this.#syncfs);
      else await this.#write(info.digest, (file) => file.writeFile(bytes));
      return info;
    }
    const sha256 = createHash("sha256");
    const sha1 = createHash("sha1");
    let size = 0;
    let info: BlobInfo | undefined;
    await this.#write(
      () => info!.digest,
      async (file) => {
        for await (const chunk of source as AsyncIterable<Buffer>) {
          size += chunk.byteLength;
          if (size > bytesMax) throw tooLarge(bytesMax);
          sha256.update(chunk);
          sha1.update(chunk);
          await file.writeFile(chunk);
        }
        info = { digest: sha256.digest("hex"), sha1: sha1.digest("hex"), size };
        options.check?.(info);
      },
    );
    return info!;
  }

  batch(): BlobBatch {
    const syncfs = this.#syncfs;
    /** Digest → its file in `incoming/`. */
    const pending = new Map<Digest, string>();
    const drop = (): void => {
      for (const path of pending.values()) rmSync(path, { force: true });
      pending.clear();
    };
    return {
      read: (digest) => this.read(digest),
      put: async (source, options = {}) => {
        const bytes = typeof source === "string" ? Buffer.from(source) : source;
        if (syncfs === null || bytes instanceof Readable || bytes.byteLength > smallBytesMax) return this.put(bytes, options);
        const info = infoOf(bytes, options.bytesMax ?? Number.POSITIVE_INFINITY);
        options.check?.(info);
        if (pending.has(info.digest) || (await this.has(info.digest)) || pending.has(info.digest)) return info;
        pending.set(info.digest, this.#writeIncoming(bytes));
        return info;
      },
      commit: async () => {
        if (syncfs === null || pending.size === 0) return;
        await syncfs();
        for (const [digest, path] of pending) this.#giveName(path, digest);
        pending.clear();
      },
      [Symbol.asyncDispose]: async () => drop(),
    };
  }

  async has(digest: Digest): Promise<boolean> {
    try {
      const path = this.#pathOf(digest);
      const now = new Date();
      // Its time says when somebody last relied on it; a collection looks at it. A plain call: a build asks for hundreds in
      // turn, and each takes microseconds, a trip through the thread pool a hundred.
      utimesSync(path, now, now);
      return true;
    } catch {
      return false;
    }
  }

  async read(digest: Digest): Promise<Buffer> {
    try {
      return await readFile(this.#pathOf(digest));
    } catch (error) {
      throw new MayflyError("internal_error", `Cannot read blob ${digest}.`, { cause: error });
    }
  }

  open(digest: Digest, range?: BlobRange): Readable {
    return createReadStream(this.#pathOf(digest), range);
  }

  async localPath(digest: Digest): Promise<string> {
    return this.#pathOf(digest);
  }

  async *list(): AsyncIterable<{ readonly digest: Digest; readonly size: number }> {
    for (const prefix of await readdir(this.#directory)) {
      if (!/^[0-9a-f]{2}$/.test(prefix)) continue;
      for (const name of await readdir(join(this.#directory, prefix))) {
        if (!/^[0-9a-f]{62}$/.test(name)) continue;
        try {
          yield { digest: prefix + name, size: (await stat(join(this.#directory, prefix, name))).size };
        } catch (error) {
          if (errnoOf(error) !== "ENOENT") throw error;
        }
      }
    }
  }

  async mark(): Promise<number> {
    return Date.now() - markSlackMs;
  }

  async deleteUntouched(digest: Digest, mark: number): Promise<boolean> {
    const path = this.#pathOf(digest);
    const aside = join(this.#incoming, `${process.pid}-${digest}`);
    try {
      if ((await stat(path)).mtimeMs > mark) return false;
      // Out of the way first: whoever comes now writes it anew, and whoever was here before has left a time behind.
      await rename(path, aside);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return true;
      throw error;
    }
    if ((await stat(aside)).mtimeMs > mark) {
      await rename(aside, path);
      return false;
    }
    await rm(aside, { force: true });
    return true;
  }

  async delete(digest: Digest): Promise<void> {
    await rm(this.#pathOf(digest), { force: true });
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#directory);
    return bavail * bsize;
  }

  async close(): Promise<void> {
    // Every put closes its own file; nothing stays open.
  }

  #pathOf(digest: Digest): string {
    if (!/^[0-9a-f]{64}$/.test(digest)) throw new MayflyError("internal_error", `${JSON.stringify(digest)} is not a digest.`);
    return join(this.#directory, digest.slice(0, 2), digest.slice(2));
  }

  /** Runs `fill` on a new file and gives it its name only when all of it is on disk. */
  async #write(digest: Digest | (() => Digest), fill: (file: FileHandle) => Promise<void>): Promise<void> {
    const temporary = join(this.#incoming, `${process.pid}-${randomId(12)}`);
    try {
      const file = await open(temporary, "wx", 0o444);
      try {
        await fill(file);
        await file.datasync();
      } finally {
        await file.close();
      }
      const path = this.#pathOf(typeof digest === "string" ? digest : digest());
      this.#makePrefix(path.slice(this.#directory.length + 1, this.#directory.length + 3));
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw diskFull(error) ?? error;
    }
  }

  /** As {@link #write}, but many share one wait for the disk; each call is too short to be worth a thread. */
  async #writeSmall(digest: Digest, bytes: Uint8Array, syncfs: () => Promise<void>): Promise<void> {
    const temporary = this.#writeIncoming(bytes);
    try {
      await syncfs();
      this.#giveName(temporary, digest);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw diskFull(error) ?? error;
    }
  }

  /** Not synced. @returns its path */
  #writeIncoming(bytes: Uint8Array): string {
    const temporary = join(this.#incoming, `${process.pid}-${randomId(12)}`);
    try {
      writeFileSync(temporary, bytes, { flag: "wx", mode: 0o444 });
      return temporary;
    } catch (error) {
      rmSync(temporary, { force: true });
      throw diskFull(error) ?? error;
    }
  }

  #giveName(temporary: string, digest: Digest): void {
    this.#makePrefix(digest.slice(0, 2));
    renameSync(temporary, this.#pathOf(digest));
  }

  #makePrefix(prefix: string): void {
    if (this.#prefixes.has(prefix)) return;
    mkdirSync(join(this.#directory, prefix), { recursive: true, mode: 0o755 });
    this.#prefixes.add(prefix);
  }
}

/** Removes what writers that no longer live have left; what they had only put aside to delete it goes back to its place. */
function sweepIncoming(incoming: string, directory: string): void {
  for (const name of readdirSync(incoming)) {
    const [pid, rest = ""] = name.split("-");
    if (Number(pid) === process.pid || isAlive(Number(pid))) continue;
    if (!/^[0-9a-f]{64}$/.test(rest)) rmSync(join(incoming, name), { force: true });
    else renameSync(join(incoming, name), join(directory, rest.slice(0, 2), rest.slice(2)));
  }
}

function diskFull(error: unknown): MayflyError | null {
  if (errnoOf(error) !== "ENOSPC" && errnoOf(error) !== "EDQUOT") return null;
  return new MayflyError("disk_full", "Cannot store a file: the disk is full.", { cause: error });
}

function sha(algorithm: "sha1" | "sha256", bytes: Uint8Array): string {
  return createHash(algorithm).update(bytes).digest("hex");
}

function infoOf(bytes: Uint8Array, bytesMax: number): BlobInfo {
  if (bytes.byteLength > bytesMax) throw tooLarge(bytesMax);
  return { digest: sha("sha256", bytes), sha1: sha("sha1", bytes), size: bytes.byteLength };
}

function tooLarge(bytesMax: number): MayflyError {
  return new MayflyError("payload_too_large", `A file may have at most ${bytesMax} bytes.`);
}
