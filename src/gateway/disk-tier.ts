/**
 * Kept answers on disk: one file each, bounded in bytes, found again after a restart. Best effort: what cannot be written
 * is made anew by its Function. Invariant: a file is believed only when its length and checksum say that it is whole, so
 * gateways that share a data directory, and one that was killed, harm each other with nothing worse than a miss.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { isAlive } from "../liveness.ts";
import { Lru } from "./lru.ts";

export interface Kept<T> {
  /** JSON. */
  readonly head: T;
  readonly body: Buffer;
}

const magic = 0x4d_61_79_31;
const prefixBytes = 16;
const writesAtOnce = 4;

export class DiskTier<T> {
  readonly #directory: string;
  readonly #writingBytesMax: number;
  /** Name of the key → name of its file. */
  readonly #files: Lru<string, string>;
  readonly #ready: Promise<void>;
  #isReady = false;
  readonly #waiting = new Map<string, Kept<T> & { readonly at: number }>();
  #waitingBytes = 0;
  #writers = 0;
  #writing: Promise<unknown> = Promise.resolve();

  /** @param bytesMax of all files; 0: none is written */
  constructor(directory: string, bytesMax: number) {
    this.#directory = directory;
    this.#writingBytesMax = Math.min(bytesMax, 64 * 1024 * 1024);
    this.#files = new Lru(bytesMax, (_name, file) => void rm(join(directory, file), { force: true }).catch(() => {}));
    this.#ready = (bytesMax === 0 ? Promise.resolve() : this.#load()).then(() => void (this.#isReady = true));
  }

  /** Finds what an earlier gateway has left: oldest first, so that it goes first. */
  async #load(): Promise<void> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const found = (await readdir(this.#directory))
        .map((file) => ({ file, match: /^([0-9a-f]{40})-(\d+)-(\d+)$/.exec(file) }))
        .map(({ file, match }) => ({ file, name: match?.[1], at: Number(match?.[2]), size: Number(match?.[3]) }));
      for (const { file, name } of found) {
        // A writer that was killed leaves its draft; one that lives, in a gateway that is being relieved, still needs it.
        const writer = /^draft-(\d+)-/.exec(file)?.[1];
        if (name === undefined && (writer === undefined || !isAlive(Number(writer))))
          await rm(join(this.#directory, file), { force: true });
      }
      found.sort((a, b) => a.at - b.at);
      for (const { file, name, size } of found) {
        if (name !== undefined && !this.#files.has(name)) this.#files.set(name, file, size);
      }
    } catch {
      // Without a directory there is no disk tier.
    }
  }

  /** null: surely not here. */
  read(key: string): Promise<Kept<T> | null> | null {
    if (this.#isReady && this.#files.size === 0 && this.#waiting.size === 0) return null;
    const name = nameOf(key);
    const waiting = this.#waiting.get(name);
    if (waiting !== undefined) return Promise.resolve(waiting);
    if (this.#isReady && !this.#files.has(name)) return null;
    return this.#ready.then(async () => {
      const file = this.#files.get(name);
      if (file === undefined) return null;
      try {
        const kept = parse<T>(await readFile(join(this.#directory, file)));
        if (kept !== null) return kept;
      } catch {
        // Another gateway on this directory has removed it.
      }
      this.#files.delete(name);
      return null;
    });
  }

  /** Is written soon; dropped when too much waits. @param at orders what was found at the next start */
  write(key: string, kept: Kept<T>, at: number): void {
    const name = nameOf(key);
    this.#forget(name);
    if (this.#waitingBytes + kept.body.length > this.#writingBytesMax || this.#writingBytesMax === 0) return;
    this.#waiting.set(name, { ...kept, at });
    this.#waitingBytes += kept.body.length;
    if (this.#writers < writesAtOnce) {
      this.#writers++;
      this.#writing = Promise.all([this.#writing, this.#drain()]);
    }
  }

  async #drain(): Promise<void> {
    await this.#ready;
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined) break;
      const [name, kept] = next;
      this.#waiting.delete(name);
      await this.#store(name, kept);
      this.#waitingBytes -= kept.body.length;
    }
    this.#writers--;
  }

  async #store(name: string, { head, body, at }: Kept<T> & { readonly at: number }): Promise<void> {
    const bytes = serialize(head, body);
    const file = `${name}-${at}-${bytes.length}`;
    const draft = join(this.#directory, `draft-${process.pid}-${randomBytes(8).toString("hex")}`);
    try {
      await writeFile(draft, bytes, { mode: 0o600 });
      await rename(draft, join(this.#directory, file));
      // Sets the new file free of the old one of this key, which is removed.
      this.#files.set(name, file, bytes.length);
    } catch {
      await rm(draft, { force: true }).catch(() => {});
    }
  }

  delete(key: string): void {
    const name = nameOf(key);
    this.#forget(name);
    this.#files.delete(name);
  }

  #forget(name: string): void {
    this.#waitingBytes -= this.#waiting.get(name)?.body.length ?? 0;
    this.#waiting.delete(name);
  }

  /** Resolves when what waits is written. */
  async close(): Promise<void> {
    await this.#ready;
    await this.#writing;
  }
}

function nameOf(key: string): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 40);
}

/** magic, length of the head, length of the body, checksum of both; head; body */
function serialize(head: unknown, body: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32BE(magic, 0);
  prefix.writeUInt32BE(json.length, 4);
  prefix.writeUInt32BE(body.length, 8);
  prefix.writeUInt32BE(crc32(body, crc32(json)), 12);
  return Buffer.concat([prefix, json, body]);
}

function parse<T>(bytes: Buffer): Kept<T> | null {
  if (bytes.length < prefixBytes || bytes.readUInt32BE(0) !== magic) return null;
  const jsonEnd = prefixBytes + bytes.readUInt32BE(4);
  if (jsonEnd + bytes.readUInt32BE(8) !== bytes.length) return null;
  const json = bytes.subarray(prefixBytes, jsonEnd);
  const body = bytes.subarray(jsonEnd);
  if (crc32(body, crc32(json)) !== bytes.readUInt32BE(12)) return null;
  return { head: JSON.parse(json.toString()) as T, body };
}
