/**
 * The Node versions that Functions run on besides the platform's own: `<directory>/<version>/bin/node`, fetched from npm
 * when a Function first asks for one and kept. Hides fetching. Invariants: a directory that has a version's name is whole,
 * also after kill -9; one fetch of a version at a time, and after a failure none for a while.
 */
import { access, chmod, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import { errnoOf, messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import { randomId } from "../names.ts";
import { fetchNpmPackage } from "../npm-package.ts";
import { warmPages } from "../sandbox/pages.ts";

export interface NodesOptions {
  /** Made when needed. */
  readonly directory: string;
  readonly clock: Clock;
  readonly npmRegistry: string;
  readonly fetchMsMax: number;
}

/** What Functions may ask for. */
const supported: readonly number[] = [20, 22, 24];
const retryMs = 10_000;
const packageName = `node-${process.platform}-${process.arch}`;

/** The platform's own major version, which needs no fetch. */
const ownMajor = Number.parseInt(process.versions.node, 10);

/** `nodejs22.x` → 22; `edge` → the platform's own; 0 for what is no version of Node. */
export function nodeMajorOf(runtime: string): number {
  if (runtime === "edge") return ownMajor;
  return Number(/^nodejs(\d{1,3})\.x$/.exec(runtime)?.[1] ?? 0);
}

/** Takes stock of what was fetched, and removes what a process that is gone left half-fetched. */
export async function openNodes(options: NodesOptions): Promise<Nodes> {
  const nodes = new Nodes(options);
  await nodes.takeStock();
  return nodes;
}

export class Nodes {
  readonly own = ownMajor;
  readonly #options: NodesOptions;
  /** Host path of the binary, by major version. */
  readonly #binaries = new Map<number, string>();
  readonly #fetching = new Map<number, Promise<void>>();
  readonly #failed = new Map<number, { readonly atMs: number; readonly error: unknown }>();
  readonly #closing = new AbortController();

  constructor(options: NodesOptions) {
    this.#options = options;
  }

  /** To be called once, before anything else. */
  async takeStock(): Promise<void> {
    const names = await readdir(this.#options.directory).catch(() => []);
    for (const name of names.toSorted((a, b) => a.localeCompare(b, "en", { numeric: true }))) {
      const pid = /^\.new-(\d+)-/.exec(name)?.[1];
      if (pid !== undefined && !isAlive(Number(pid))) await rm(join(this.#options.directory, name), { recursive: true, force: true });
      const major = Number(/^(\d+)\.\d+\.\d+$/.exec(name)?.[1] ?? 0);
      if (supported.includes(major)) this.#binaries.set(major, this.#place(name));
    }
    for (const path of this.#binaries.values()) void warmPages(path).catch(() => {});
  }

  has(major: number): boolean {
    return major === this.own || this.#binaries.has(major);
  }

  /** Host path of a version that is here; null for the platform's own, which every guest has anyway. */
  binary(major: number): string | null {
    return major === this.own ? null : (this.#binaries.get(major) ?? null);
  }

  /** Gets a version here. @throws with the reason when it cannot be had */
  fetch(major: number): Promise<void> {
    if (this.has(major)) return Promise.resolve();
    if (!supported.includes(major)) return Promise.reject(new Error(`the versions of Node are ${supported.join(", ")}`));
    const failed = this.#failed.get(major);
    if (failed !== undefined && this.#options.clock.elapsed() - failed.atMs < retryMs) return Promise.reject(failed.error);
    let fetching = this.#fetching.get(major);
    if (fetching === undefined) {
      fetching = this.#fetch(major)
        .catch((error: unknown) => {
          this.#failed.set(major, { atMs: this.#options.clock.elapsed(), error });
          throw error;
        })
        .finally(() => this.#fetching.delete(major));
      this.#fetching.set(major, fetching);
      // Whoever waits may have left.
      fetching.catch(() => {});
    }
    return fetching;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#fetching.values());
  }

  #place(version: string): string {
    return join(this.#options.directory, version, "bin/node");
  }

  async #fetch(major: number): Promise<void> {
    const { directory, npmRegistry, fetchMsMax } = this.#options;
    await mkdir(directory, { recursive: true });
    const making = join(directory, `.new-${process.pid}-${randomId(8)}`);
    try {
      await fetchNpmPackage({
        spec: `${packageName}@${major}`,
        directory: making,
        registry: npmRegistry,
        msMax: fetchMsMax,
        signal: this.#closing.signal,
      });
      const fetched = join(making, "node_modules", packageName);
      await access(join(fetched, "bin/node"));
      await chmod(join(fetched, "bin/node"), 0o755);
      const { version } = JSON.parse(await readFile(join(fetched, "package.json"), "utf8")) as { version?: unknown };
      if (typeof version !== "string" || !version.startsWith(`${major}.`)) throw new Error(`it is Node ${String(version).slice(0, 50)}`);
      await rename(fetched, join(directory, version)).catch((error: unknown) => {
        // Another node that shares the directory was first.
        if (errnoOf(error) !== "ENOTEMPTY" && errnoOf(error) !== "EEXIST") throw error;
      });
      this.#binaries.set(major, this.#place(version));
    } catch (error) {
      throw new Error(`Node ${major} could not be fetched: ${messageOf(error).slice(0, 1000)}`, { cause: error });
    } finally {
      await rm(making, { recursive: true, force: true });
    }
    await warmPages(this.#binaries.get(major)!);
  }
}
