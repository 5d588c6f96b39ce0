/**
 * Kept answers of Functions: a memory tier, least recently used first to go, over a disk tier that outlives a restart.
 * An answer is kept by key (deployment, address) and by the values of the request headers that it varies on. Invariant:
 * what comes out was put in for the same deployment and address, whole, and was not purged since it was made.
 */
import { join } from "node:path";
import type { Config } from "../config.ts";
import type { TimestampMs } from "../model.ts";
import { DiskTier, type Kept } from "./disk-tier.ts";
import { varyValue, type Storable } from "./freshness.ts";
import { Lru } from "./lru.ts";
import type { PurgeLog } from "./purge-log.ts";

export interface KeptAnswer extends Storable {
  readonly deploymentId: string;
  readonly projectId: string;
  readonly status: number;
  /** Flat, names lower-case; without what speaks to the edge. */
  readonly headers: readonly string[];
  readonly body: Buffer;
  /** When its making began. */
  readonly madeAt: TimestampMs;
  /** It came with the build, not from a request. */
  readonly prerendered?: boolean;
}

/** A request header's value by lower-case name. */
export type Header = (name: string) => string | undefined;
/** On disk at a key whose answers vary. */
interface Varying {
  readonly varying: readonly string[];
}
type Head = Omit<KeptAnswer, "body"> | Varying;

/** Of an entry beside its body and headers. */
const entryBytes = 500;

export interface CacheStoreParts {
  readonly config: Pick<Config, "cacheMemoryBytesMax" | "cacheDiskBytesMax" | "cacheAnswerBytesMax">;
  readonly purges: PurgeLog;
  /** The data directory. */
  readonly directory: string;
}

export function openCacheStore(parts: CacheStoreParts): CacheStore {
  return new CacheStore(parts);
}

export class CacheStore {
  /** Larger answers are not kept. */
  readonly answerBytesMax: number;
  readonly #purges: PurgeLog;
  readonly #memory: Lru<string, KeptAnswer>;
  /** Key → what its answers vary on, of those that vary. */
  readonly #varying: Lru<string, readonly string[]>;
  readonly #disk: DiskTier<Head>;

  constructor({ config, purges, directory }: CacheStoreParts) {
    this.answerBytesMax = config.cacheAnswerBytesMax;
    this.#purges = purges;
    this.#memory = new Lru(config.cacheMemoryBytesMax);
    this.#varying = new Lru(100_000);
    this.#disk = new DiskTier(join(directory, "edge-cache"), config.cacheDiskBytesMax);
  }

  /** Reads what was purged; null: nothing since it was last asked. Ask before {@link peek}. */
  refresh(): Promise<void> | null {
    return this.#purges.refresh();
  }

  /** Key of the answer for this request, as far as is known what the answers at `key` vary on. */
  variant(key: string, header: Header): string {
    const names = this.#varying.get(key);
    return names === undefined ? key : variantKey(key, names, header);
  }

  /** From memory. */
  peek(key: string, header: Header): KeptAnswer | null {
    const variant = this.variant(key, header);
    const kept = this.#memory.get(variant);
    return kept === undefined ? null : this.#unpurged(variant, kept);
  }

  /** From disk, into memory; null: surely nothing is there. */
  recall(key: string, header: Header): Promise<KeptAnswer | null> | null {
    const variant = this.variant(key, header);
    const reading = this.#disk.read(variant);
    return reading === null ? null : this.#recall(key, header, variant, reading);
  }

  async #recall(key: string, header: Header, asked: string, reading: Promise<Kept<Head> | null>): Promise<KeptAnswer | null> {
    let variant = asked;
    let found = await reading;
    if (found !== null && "varying" in found.head) {
      this.#varying.set(key, found.head.varying);
      variant = variantKey(key, found.head.varying, header);
      found = await this.#disk.read(variant);
    }
    if (found === null || "varying" in found.head) return null;
    const kept = this.#unpurged(variant, { ...found.head, body: found.body });
    if (kept !== null && !this.#memory.has(variant)) this.#memory.set(variant, kept, weightOf(kept));
    return kept;
  }

  keep(key: string, header: Header, kept: KeptAnswer): void {
    const { body, ...head } = kept;
    if (kept.vary.length > 0) {
      this.#varying.set(key, kept.vary);
      this.#disk.write(key, { head: { varying: kept.vary }, body: Buffer.alloc(0) }, kept.madeAt);
    } else {
      this.#varying.delete(key);
    }
    const variant = this.variant(key, header);
    this.#memory.set(variant, kept, weightOf(kept));
    this.#disk.write(variant, { head, body }, kept.madeAt);
  }

  /** Takes what can be had again from elsewhere into memory; null when it was purged. */
  admit(key: string, header: Header, kept: KeptAnswer): KeptAnswer | null {
    const variant = this.variant(key, header);
    const admitted = this.#unpurged(variant, kept);
    if (admitted !== null) this.#memory.set(variant, kept, weightOf(kept));
    return admitted;
  }

  delete(key: string, header: Header): void {
    const variant = this.variant(key, header);
    this.#memory.delete(variant);
    this.#disk.delete(variant);
  }

  /** As it may be given now: not at all, or only while it is made anew. */
  #unpurged(variant: string, kept: KeptAnswer): KeptAnswer | null {
    const verdict = this.#purges.verdict(kept);
    if (verdict === null) return kept;
    if (verdict === "invalidate") return { ...kept, freshMs: 0, staleMs: kept.freshMs + kept.staleMs };
    this.#memory.delete(variant);
    this.#disk.delete(variant);
    return null;
  }

  /** Resolves when what is to be on disk is there. */
  close(): Promise<void> {
    return this.#disk.close();
  }
}

function variantKey(key: string, names: readonly string[], header: Header): string {
  return `${key}\n${names.map((name) => `${name}: ${varyValue(name, header(name))}`).join("\n")}`;
}

function weightOf(kept: KeptAnswer): number {
  return entryBytes + kept.body.length + kept.headers.reduce((sum, text) => sum + text.length, 0);
}
