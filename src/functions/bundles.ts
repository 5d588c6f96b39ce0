/**
 * The unpacked bundles of this node: leases on read-only directories `<directory>/<digest>`, made on first use, shared by
 * all instances, removed least recently used first. A directory that several bundles have is one of its own, to be mounted
 * into theirs. Hides unpacking (unpack.ts). Invariants: a directory that has its
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
import type { Digest, FileRef } from "../model.ts";
import { randomId } from "../names.ts";
import type { InnerDirectory } from "../sandbox/sandbox.ts";
import { bundleBytes, parseBundle, removeTree, unpack, type BundleParts } from "./unpack.ts";

export interface BundlesOptions {
  /** Made when absent. */
  readonly directory: string;
  readonly blobs: BlobStore;
  readonly bytesMax: number;
  readonly pathBytesMax: number;
  readonly filesMax: number;
  /** Directories that bundles share are unpacked once and mounted; else every bundle has its own. */
  readonly mounts: boolean;
}

/** Keeps a bundle's directories in their places until it is disposed. */
export interface BundleLease extends Disposable {
  readonly directory: string;
  /** To be mounted over empty directories of it: those that it has in common with other bundles. */
  readonly inner: readonly InnerDirectory[];
}

interface Entry {
  readonly digest: Digest;
  /** Whole, in its place, and marked as ours; undefined: of an earlier process, not asked for yet. */
  held: Promise<void> | undefined;
  bytes: number;
  leases: number;
  /** Path in the bundle → tree. */
  directories: ReadonlyMap<string, Digest>;
}

const noDirectories: ReadonlyMap<string, Digest> = new Map();

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
        const parts = await this.#read(name);
        // One that was to be completed by mounts is not what a driver without them can use.
        for (const path of this.#options.mounts ? [] : parts.directories.keys()) {
          if ((await readdir(join(this.#place(name), path))).length === 0) throw new Error(`"${path}" is empty`);
        }
        const bytes = bundleBytes(parts.files);
        this.#entries.set(name, { digest: name, held: undefined, bytes, leases: 0, directories: this.#mounted(parts) });
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
    const { entry, lease } = await this.#lease(digest);
    if (entry.directories.size === 0) return lease;
    const places = [...entry.directories];
    const trees = await Promise.allSettled(places.map(async ([, tree]) => (await this.#lease(tree)).lease));
    const held = [lease, ...trees.flatMap((tree) => (tree.status === "fulfilled" ? [tree.value] : []))];
    const dispose = (): void => {
      for (const one of held) one[Symbol.dispose]();
    };
    const failure = trees.find((tree) => tree.status === "rejected");
    if (failure !== undefined) {
      dispose();
      throw failure.reason;
    }
    const inner = places.map(([path, tree]) => ({ path, source: this.#place(tree) }));
    return { directory: lease.directory, inner, [Symbol.dispose]: dispose };
  }

  async #lease(digest: Digest): Promise<{ readonly entry: Entry; readonly lease: BundleLease }> {
    let entry = this.#entries.get(digest);
    if (entry === undefined) {
      entry = { digest, held: undefined, bytes: 0, leases: 0, directories: noDirectories };
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
    const dispose = (): void => {
      if (disposed) return;
      disposed = true;
      held.leases--;
      this.#trim();
    };
    return { entry: held, lease: { directory: this.#place(digest), inner: [], [Symbol.dispose]: dispose } };
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
      const parts = await this.#read(digest);
      await this.#unpack(digest, parts);
      const bytes = bundleBytes(parts.files);
      this.#bytes += bytes - entry.bytes;
      entry.bytes = bytes;
      entry.directories = this.#mounted(parts);
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

  /** What is laid out here: all files of the bundle, but for those of directories that are mounted. */
  async #read(digest: Digest): Promise<BundleParts> {
    const parts = parseBundle(await this.#options.blobs.read(digest), this.#options);
    if (this.#options.mounts || parts.directories.size === 0) return parts;
    const files: [string, FileRef][] = Object.entries(parts.files);
    for (const [directory, { treeDigest }] of parts.directories) {
      const tree = parseBundle(await this.#options.blobs.read(treeDigest), this.#options);
      for (const [path, file] of Object.entries(tree.files)) files.push([`${directory}/${path}`, file]);
    }
    return { files: Object.fromEntries(files), directories: parts.directories };
  }

  #mounted({ directories }: BundleParts): ReadonlyMap<string, Digest> {
    return this.#options.mounts ? new Map([...directories].map(([path, { treeDigest }]) => [path, treeDigest])) : noDirectories;
  }

  async #unpack(digest: Digest, { files, directories }: BundleParts): Promise<void> {
    const making = this.#place(`.new-${process.pid}-${randomId(8)}`);
    try {
      await unpack(files, making, this.#options.blobs, this.#options.mounts ? [...directories.keys()] : []);
      await rename(making, this.#place(digest));
    } catch (error) {
      await removeTree(making);
      // Another process that shares the directory was first.
      if (errnoOf(error) !== "ENOTEMPTY" && errnoOf(error) !== "EEXIST") throw error;
    }
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
