/**
 * The unpacked bundles of this node: leases on read-only directories `<directory>/<digest>`, made on first use, shared by
 * all instances, removed least recently used first. Hides unpacking (unpack.ts). Invariants: a directory that has its
 * name is whole, also after kill -9; one with a lease is never removed, also not by another process on the same directory.
 * For that each process leaves a mark `.held-<pid>-<digest>` before it looks for `.going-<digest>`, and who removes leaves
 * that before it looks for marks: whatever the order, one of the two sees the other.
 */
import { access, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
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
  /** Whole, in its place, and marked as ours; undefined: of an earlier process, not asked for yet. */
  held: Promise<void> | undefined;
  bytes: number;
  leases: number;
}

const passing = /^\.(?:new|old|held)-(\d+)-/;
/** Another process takes so long at most to get a directory out of its name. */
const goingMsMax = 5000;
const goingLookMs = 10;

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
        if (!isAlive(Number(pid)))
          await (name.startsWith(".held") ? rm(this.#place(name), { force: true }) : removeTree(this.#place(name)));
        continue;
      }
      if (name.startsWith(".going-")) await this.#isGoing(name.slice(".going-".length));
      if (!/^[0-9a-f]{64}$/.test(name)) continue;
      try {
        const bytes = bundleBytes(await this.#tree(name));
        this.#entries.set(name, { digest: name, held: undefined, bytes, leases: 0 });
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
      entry = { digest, held: undefined, bytes: 0, leases: 0 };
    } else this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    const held = entry;
    held.leases++;
    try {
      await (held.held ??= this.#hold(held));
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
    for (const { digest, held } of this.#entries.values()) if (held !== undefined) await rm(this.#mark(digest), { force: true });
  }

  #place(name: string): string {
    return join(this.#options.directory, name);
  }

  #mark(digest: Digest): string {
    return this.#place(`.held-${process.pid}-${digest}`);
  }

  /** Marks a bundle as ours, and unpacks it when it is not there. */
  async #hold(entry: Entry): Promise<void> {
    const { digest } = entry;
    // A removal of the same bundle may be under way.
    await this.#removals;
    await writeFile(this.#mark(digest), "");
    for (let waitedMs = 0; (await this.#isGoing(digest)) && waitedMs < goingMsMax; waitedMs += goingLookMs) await sleep(goingLookMs);
    const isThere = await access(this.#place(digest)).then(
      () => true,
      () => false,
    );
    if (isThere && entry.bytes > 0) return;
    try {
      const bytes = await this.#unpack(digest);
      this.#bytes += bytes - entry.bytes;
      entry.bytes = bytes;
    } catch (error) {
      await rm(this.#mark(digest), { force: true });
      throw error;
    }
    this.#trim();
  }

  /** Whether a process that lives takes it away now; forgets one that has died meanwhile. */
  async #isGoing(digest: Digest): Promise<boolean> {
    const pid = await readFile(this.#place(`.going-${digest}`), "utf8").catch(() => null);
    if (pid === null) return false;
    // Empty for a moment, between its making and its writing.
    if (pid === "" || isAlive(Number(pid))) return true;
    await rm(this.#place(`.going-${digest}`), { force: true });
    return false;
  }

  async #tree(digest: Digest): Promise<ReturnType<typeof parseBundle>> {
    return parseBundle(await this.#options.blobs.read(digest), this.#options);
  }

  /** @returns its bytes */
  async #unpack(digest: Digest): Promise<number> {
    const tree = await this.#tree(digest);
    const making = this.#place(`.new-${process.pid}-${randomId(8)}`);
    try {
      await unpack(tree, making, this.#options.blobs);
      await rename(making, this.#place(digest));
    } catch (error) {
      await removeTree(making);
      // Another process that shares the directory was first.
      if (errnoOf(error) !== "ENOTEMPTY" && errnoOf(error) !== "EEXIST") throw error;
    }
    return bundleBytes(tree);
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

  /** Out of its name first, so that nobody meets it half removed. What another process holds stays: it counts it. */
  async #remove(digest: Digest): Promise<void> {
    const going = this.#place(`.going-${digest}`);
    try {
      await writeFile(going, String(process.pid), { flag: "wx" });
    } catch (error) {
      // Another process removes it.
      if (errnoOf(error) === "EEXIST") return;
      throw error;
    }
    const old = this.#place(`.old-${process.pid}-${randomId(8)}`);
    try {
      await rm(this.#mark(digest), { force: true });
      const names = await readdir(this.#options.directory);
      const isHeld = names.some((name) => {
        const pid = name.startsWith(".held-") && name.endsWith(digest) ? passing.exec(name)?.[1] : undefined;
        return pid !== undefined && isAlive(Number(pid));
      });
      if (isHeld) return;
      await rename(this.#place(digest), old);
    } finally {
      await rm(going, { force: true });
    }
    await removeTree(old);
  }
}
