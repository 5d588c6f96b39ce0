/**
 * Compressed variants of what is given many times, static files and kept answers. Each is made once, by zlib's threads, few
 * at a time; when too many wait, the content is given as it is.
 */
import { promisify } from "node:util";
import { brotliCompress, constants, gzip, zstdCompress } from "node:zlib";
import type { Coding } from "./content-coding.ts";

const makingMax = 2;
const waitingMax = 64;

const compressors: Readonly<Record<Coding, (bytes: Buffer) => Promise<Buffer>>> = {
  br: (bytes) =>
    promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  zstd: (bytes) => promisify(zstdCompress)(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 12 } }),
  gzip: (bytes) => promisify(gzip)(bytes, { level: 8 }),
};

/** Makes variants, few at a time. */
export class Compressor {
  #making = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #underWay = new Map<string, Promise<Buffer | null>>();

  /**
   * null: too many wait, or it would be no smaller.
   * @param name of the variant: asked for again while it is made, it is made once
   */
  make(name: string, coding: Coding, read: () => Promise<Buffer>): Promise<Buffer | null> {
    const underWay = this.#underWay.get(name);
    if (underWay !== undefined) return underWay;
    if (this.#waiting.length >= waitingMax) return Promise.resolve(null);
    const making = this.#make(coding, read).finally(() => this.#underWay.delete(name));
    this.#underWay.set(name, making);
    return making;
  }

  async #make(coding: Coding, read: () => Promise<Buffer>): Promise<Buffer | null> {
    if (this.#making >= makingMax) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#making++;
    try {
      const bytes = await read();
      const made = await compressors[coding](bytes);
      return made.length < bytes.length ? made : null;
    } finally {
      this.#making--;
      this.#waiting.shift()?.();
    }
  }
}
