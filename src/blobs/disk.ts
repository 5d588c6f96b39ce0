/**
 * Driver of the blob store: files below one directory, `ab/cdef…` by digest, read-only. A blob is written beside its
 * place, synced, and renamed into it, so whatever has the name is whole; what a crash leaves in `incoming/` is removed
 * at the next opening when its writer is gone.
 */
import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, rmSync } from "node:fs";
import { access, open, readFile, rename, rm, statfs, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { errnoOf, MayflyError } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import type { Digest } from "../model.ts";
import { randomId } from "../names.ts";
import type { BlobInfo, BlobRange, BlobStore } from "./blob-store.ts";

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

  constructor(directory: string) {
    this.#directory = directory;
    this.#incoming = join(directory, "incoming");
    mkdirSync(this.#incoming, { recursive: true, mode: 0o700 });
    sweepIncoming(this.#incoming);
  }

  async put(
    source: Readable | Uint8Array | string,
    options: { bytesMax?: number; check?: (info: BlobInfo) => void } = {},
  ): Promise<BlobInfo> {
    const bytesMax = options.bytesMax ?? Number.POSITIVE_INFINITY;
    if (!(source instanceof Readable)) {
      const bytes = typeof source === "string" ? Buffer.from(source) : source;
      if (bytes.byteLength > bytesMax) throw tooLarge(bytesMax);
      const info = { digest: sha("sha256", bytes), sha1: sha("sha1", bytes), size: bytes.byteLength };
      options.check?.(info);
      if (!(await this.has(info.digest))) await this.#write(info.digest, (file) => file.writeFile(bytes));
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

  async has(digest: Digest): Promise<boolean> {
    try {
      await access(this.#pathOf(digest));
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
      if (errnoOf(error) === "ENOSPC" || errnoOf(error) === "EDQUOT") {
        throw new MayflyError("disk_full", "Cannot store a file: the disk is full.", { cause: error });
      }
      throw error;
    }
  }

  #makePrefix(prefix: string): void {
    if (this.#prefixes.has(prefix)) return;
    mkdirSync(join(this.#directory, prefix), { recursive: true, mode: 0o755 });
    this.#prefixes.add(prefix);
  }
}

/** Removes what writers that no longer live have left. */
function sweepIncoming(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = Number(name.split("-", 1)[0]);
    if (pid !== process.pid && !isAlive(pid)) rmSync(join(directory, name), { force: true });
  }
}

function sha(algorithm: "sha1" | "sha256", bytes: Uint8Array): string {
  return createHash(algorithm).update(bytes).digest("hex");
}

function tooLarge(bytesMax: number): MayflyError {
  return new MayflyError("payload_too_large", `A file may have at most ${bytesMax} bytes.`);
}
