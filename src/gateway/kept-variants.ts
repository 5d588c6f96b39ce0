/**
 * Compressed variants of kept answers, made once each and held in memory beside them. A variant belongs to the bytes that it
 * was made of: an answer that was made anew has none yet.
 */
import { mayBeCoded, type Coding } from "./content-coding.ts";
import type { KeptAnswer } from "./cache-store.ts";
import { Lru } from "./lru.ts";
import { Compressor } from "./variants.ts";

/** Of an entry beside its bytes. */
const entryBytes = 200;

export class KeptVariants {
  readonly #bytesMax: number;
  readonly #compressor = new Compressor();
  /** By the bytes they were made of. */
  readonly #ids = new WeakMap<Buffer, string>();
  /** null: it is no smaller. */
  readonly #variants: Lru<string, Buffer | null>;
  #lastId = 0;

  constructor({ cacheVariantsBytesMax }: { readonly cacheVariantsBytesMax: number }) {
    this.#bytesMax = cacheVariantsBytesMax;
    this.#variants = new Lru(cacheVariantsBytesMax);
  }

  /** @param headers what clients are to see, flat */
  mayBeCoded(status: number, headers: readonly string[], { body }: KeptAnswer): boolean {
    return body.length <= this.#bytesMax && mayBeCoded(status, headers, body.length);
  }

  /** From memory; undefined: not made yet; null: the answer is given as it is. */
  peek(kept: KeptAnswer, coding: Coding): Buffer | null | undefined {
    return this.#variants.get(this.#name(kept, coding));
  }

  /** null: the answer is given as it is. */
  async of(kept: KeptAnswer, coding: Coding): Promise<Buffer | null> {
    const name = this.#name(kept, coding);
    const known = this.#variants.get(name);
    if (known !== undefined) return known;
    let isRead = false;
    const variant = await this.#compressor.make(name, coding, () => {
      isRead = true;
      return Promise.resolve(kept.body);
    });
    if (variant !== null || isRead) this.#variants.set(name, variant, entryBytes + (variant?.length ?? 0));
    return variant;
  }

  #name({ body }: KeptAnswer, coding: Coding): string {
    let id = this.#ids.get(body);
    if (id === undefined) {
      id = String(++this.#lastId);
      this.#ids.set(body, id);
    }
    return `${id} ${coding}`;
  }
}
