/**
 * The unpacked bundles of this node: leases on read-only directories `<directory>/<digest>`, made on first use, shared by
 * all instances, removed least recently used first. Hides unpacking (unpack.ts). Invariants: a directory that has its
 * name is whole, also after kill -9; one with a lease is never removed.
 */
import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { errnoOf, messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import type { Digest } from "../model.ts";
import { randomId } from "../names.ts";
import { bundleBytes, parseBundle, removeTree, unpack } from "./unpack.ts";

export interface BundlesOptions {
  /** Made when absent. */
  readonly directory: string;
  readonly blobs: BlobStore;
  readonly bytesMax: number;
  readonly pathBytesMax: number;
  readonly filesMax: number;
}

/** Keeps a bundle's directory in its place until it is disposed. */
export interface BundleLease extends Disposable {
  readonly directory: string;
}

interface Entry {
  readonly digest: Digest;
  readonly unpacked: Promise<void>;
  bytes: number;
  leases: number;
}

const passing = /^\.(?:new|old)-(\d+)-/;

/** Opens the directory: removes what a process that is gone has left half-made, and takes stock of the rest. */
export async function openBundles(options: BundlesOptions): Promise<Bundles> {
  await mkdir(options.directory, { recursive: true });
  const bundles = new Bundles(options);
  await bundles.takeStock();
  return bundles;
}

export class Bundles {
  readonly #options: BundlesOptions;
  /** Least recently used first. */
  readonly #entries = new Map<Digest, Entry>();
  #bytes = 0;
  #removals: Promise<void> = Promise.resolve();

  constructor(options: BundlesOptions) {
    this.#options = options;
  }

  /** To be called once, before any lease. */
  async takeStock(): Promise<void> {
    for (const name of await readdir(this.#options.directory)) {
      const pid = passing.exec(name)?.[1];
      if (pid !== undefined) {
        if (!isAlive(Number(pid))) await removeTree(join(this.#options.directory, name));
        continue;
      }
      if (!/^[0-9a-f]{64}$/.test(name)) continue;
      try {
        const bytes = bundleBytes(await this.#tree(name));
        this.#entries.set(name, { digest: name, unpacked: Promise.resolve(), bytes, leases: 0 });
        this.#bytes += bytes;
      } catch {
        await this.#remove(name);
      }
    }
    this.#trim();
  }

  /**
   * The directory of a bundle, unpacked when it is not there yet; concurrent callers share one unpacking.
   * @throws MayflyError internal_error when a blob is absent or the bundle is not valid, disk_full
   */
  async lease(digest: Digest): Promise<BundleLease> {
    let entry = this.#entries.get(digest);
    if (entry === undefined) {
      const made: Entry = { digest, unpacked: this.#unpack(digest), bytes: 0, leases: 0 };
      entry = made;
    } else this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    const held = entry;
    held.leases++;
    try {
      await held.unpacked;
    } catch (error) {
      if (this.#entries.get(digest) === held) this.#entries.delete(digest);
      throw error;
    }
    let disposed = false;
    return {
      directory: join(this.#options.directory, digest),
      [Symbol.dispose]: () => {
        if (disposed) return;
        disposed = true;
        held.leases--;
        this.#trim();
      },
    };
  }

  /** Resolves when all removals are through. */
  async close(): Promise<void> {
    await this.#removals;
  }

  async #tree(digest: Digest): Promise<ReturnType<typeof parseBundle>> {
    return parseBundle(await this.#options.blobs.read(digest), this.#options);
  }

  async #unpack(digest: Digest): Promise<void> {
    // A removal of the same bundle may be under way.
    await this.#removals;
    const tree = await this.#tree(digest);
    const target = join(this.#options.directory, digest);
    const making = join(this.#options.directory, `.new-${process.pid}-${randomId(8)}`);
    try {
      await unpack(tree, making, this.#options.blobs);
      await rename(making, target);
    } catch (error) {
      await removeTree(making);
      // Another node that shares the directory was first.
      if (errnoOf(error) !== "ENOTEMPTY" && errnoOf(error) !== "EEXIST") throw error;
    }
    const entry = this.#entries.get(digest);
    if (entry !== undefined) entry.bytes = bundleBytes(tree);
    this.#bytes += bundleBytes(tree);
    this.#trim();
  }

  #trim(): void {
    for (const entry of this.#entries.values()) {
      if (this.#bytes <= this.#options.bytesMax) return;
      if (entry.leases > 0) continue;
      this.#entries.delete(entry.digest);
      this.#bytes -= entry.bytes;
      this.#removals = this.#removals
        .then(() => this.#remove(entry.digest))
        .catch((error: unknown) => {
          process.emitWarning(`Cannot remove the unpacked bundle ${entry.digest}: ${messageOf(error)}`);
        });
    }
  }

  /** Out of its name first, so that nobody meets it half removed. */
  async #remove(digest: Digest): Promise<void> {
    const going = join(this.#options.directory, `.old-${process.pid}-${randomId(8)}`);
    await rename(join(this.#options.directory, digest), going);
    await removeTree(going);
  }
}
