/**
 * What instances have recorded of their module packs (runtime/module-pack.js), for later instances of the same Function of
 * the same deployment: a directory each, `<key>-<digest>`, bounded and removed least recently used first. Hides where they
 * lie and whether they are whole. Invariants: the bytes are a guest's, so nothing here reads them but to find their digest,
 * and no guest of another deployment or Function ever sees them (V8 believes a code cache); one that was rejected, or with
 * which an instance ended before its first answer, is not used again.
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import type { FunctionSpec, Manifest } from "../model.ts";
import { randomId } from "../names.ts";
import { recordName } from "../runtime/module-pack.js";
import type { Guest } from "./guest.ts";

export interface RecordsOptions {
  /** Made when absent. */
  readonly directory: string;
  /** All together; 0: none is kept. */
  readonly bytesMax: number;
  /** One of them. */
  readonly recordBytesMax: number;
}

/** The record of one Function of one deployment. */
export interface FunctionRecord {
  /** Host directory; undefined: there is none, or it was not looked at yet. */
  find(): string | undefined;
  /** Whether it should make one: it has packs, and it was not done often enough. */
  isWanted(guest: Guest): boolean;
  /** Has a guest without work make one. Never rejects. */
  make(guest: Guest): Promise<void>;
  /** It was of no use. */
  discard(): void;
}

interface Entry {
  readonly digest: string;
  readonly bytes: number;
  /** This process has seen that it is whole. */
  isWhole: boolean;
}

/** Each builds on the one before, so that those that follow have what other paths of the Function call. */
const recordingsMax = 3;
const namePattern = /^([0-9a-f]{64})-([0-9a-f]{64})$/;
const making = /^\.new-(\d+)-/;

/** Opens the directory: removes what a process that is gone has left half-made, and takes stock of the rest. */
export async function openRecords(options: RecordsOptions): Promise<Records> {
  await mkdir(options.directory, { recursive: true });
  const records = new Records(options);
  await records.takeStock();
  return records;
}

export class Records {
  readonly #options: RecordsOptions;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  /** One at a time: it takes some ten milliseconds of a processor. */
  #isRecording = false;
  #closed = false;
  #work: Promise<void> = Promise.resolve();

  constructor(options: RecordsOptions) {
    this.#options = options;
  }

  /** To be called once, before anything else. */
  async takeStock(): Promise<void> {
    const found: { readonly key: string; readonly entry: Entry; readonly usedMs: number }[] = [];
    for (const name of await readdir(this.#options.directory)) {
      const pid = making.exec(name)?.[1];
      const [, key, digest] = namePattern.exec(name) ?? [];
      if (pid !== undefined && isAlive(Number(pid))) continue;
      const file = key === undefined ? undefined : await stat(join(this.#place(name), recordName)).catch(() => undefined);
      if (key === undefined || digest === undefined || file === undefined) await rm(this.#place(name), { recursive: true, force: true });
      else found.push({ key, entry: { digest, bytes: file.size, isWhole: false }, usedMs: file.mtimeMs });
    }
    for (const { key, entry } of found.sort((a, b) => a.usedMs - b.usedMs)) this.#set(key, entry);
  }

  /** @param history counts how often it was recorded, for as long as the Function is remembered */
  of(manifest: Manifest, spec: FunctionSpec, history: { recordings: number }): FunctionRecord {
    const key = createHash("sha256")
      .update([manifest.deploymentId, spec.id, spec.bundleDigest, process.version, process.arch].join(" "))
      .digest("hex");
    return {
      find: () => this.#find(key),
      isWanted: ({ packUse, usable }) =>
        packUse !== undefined &&
        usable &&
        !this.#isRecording &&
        !this.#closed &&
        history.recordings < recordingsMax &&
        this.#options.bytesMax > 0,
      make: async (guest) => {
        history.recordings++;
        this.#isRecording = true;
        try {
          const record = await Promise.race([guest.record(this.#options.recordBytesMax), guest.over]);
          if (record instanceof Buffer) await this.#keep(key, record);
        } catch (error) {
          process.emitWarning(`Cannot keep a record of "${spec.name}": ${messageOf(error)}`);
        } finally {
          this.#isRecording = false;
        }
      },
      discard: () => {
        this.#remove(key);
      },
    };
  }

  /** From now on nothing is recorded. Resolves when nothing is removed any more. */
  async close(): Promise<void> {
    this.#closed = true;
    // What is found not to be whole is removed after it was looked at.
    for (let work: unknown; work !== this.#work; await work) work = this.#work;
  }

  #place(name: string): string {
    return join(this.#options.directory, name);
  }

  #find(key: string): string | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const directory = this.#place(`${key}-${entry.digest}`);
    if (entry.isWhole) return directory;
    // Of an earlier process: whoever boots now does not wait for it.
    this.#later(async () => {
      const bytes = await readFile(join(directory, recordName)).catch(() => Buffer.alloc(0));
      if (digestOf(bytes) === entry.digest) entry.isWhole = true;
      else if (this.#entries.get(key) === entry) this.#remove(key);
    });
    return undefined;
  }

  async #keep(key: string, bytes: Buffer): Promise<void> {
    const digest = digestOf(bytes);
    if (this.#entries.get(key)?.digest === digest) return;
    const directory = this.#place(`.new-${process.pid}-${randomId(8)}`);
    try {
      await mkdir(directory, { mode: 0o755 });
      await writeFile(join(directory, recordName), bytes, { mode: 0o444 });
      await rename(directory, this.#place(`${key}-${digest}`));
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
    this.#remove(key);
    this.#set(key, { digest, bytes: bytes.length, isWhole: true });
  }

  #set(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#options.bytesMax) return;
      this.#remove(oldest);
    }
  }

  /** A guest that is about to read it goes without. */
  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    this.#later(async () => {
      // The same bytes may have been recorded again.
      if (this.#entries.get(key)?.digest !== entry.digest)
        await rm(this.#place(`${key}-${entry.digest}`), { recursive: true, force: true });
    });
  }

  #later(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => process.emitWarning(`Cannot tidy records: ${messageOf(error)}`));
  }
}

const digestOf = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
