/**
 * Compressed variants of static files: which one a client gets, and how they come to be. Each is made once, by zlib's
 * threads, few at a time; while it is not there, or too many wait, the file is given as it is.
 */
import { promisify } from "node:util";
import { brotliCompress, constants, gzip, zstdCompress } from "node:zlib";

export type Coding = "br" | "zstd" | "gzip";

/** Between equal weights the smaller result wins. */
const preferred: readonly Coding[] = ["br", "zstd", "gzip"];
/** Below this a head is larger than what is saved. */
const bytesMin = 512;
const makingMax = 2;
const waitingMax = 64;

const compressors: Readonly<Record<Coding, (bytes: Buffer) => Promise<Buffer>>> = {
  br: (bytes) =>
    promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  zstd: (bytes) => promisify(zstdCompress)(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 12 } }),
  gzip: (bytes) => promisify(gzip)(bytes, { level: 8 }),
};

/** Whether compressing a file of this type and size pays. */
export function isCompressible(contentType: string, size: number): boolean {
  if (size < bytesMin) return false;
  return /^(?:text\/|application\/(?:[\w.-]+\+)?(?:json|xml)|application\/(?:javascript|x-javascript|wasm|manifest|ld|rtf|vnd\.ms-fontobject|x-font)|image\/(?:svg|bmp|x-icon|vnd\.microsoft\.icon)|font\/(?:ttf|otf)|model\/)/i.test(
    contentType,
  );
}

/** RFC 9110 §12.5.3; null: as it is. A client that refuses even that gets it all the same. */
export function negotiate(acceptEncoding: string | undefined): Coding | null {
  if (acceptEncoding === undefined || acceptEncoding === "") return null;
  const weights = new Map<string, number>();
  for (const part of acceptEncoding.toLowerCase().split(",", 50)) {
    const [name = "", ...parameters] = part.split(";").map((text) => text.trim());
    const weight = parameters.find((parameter) => /^q\s*=/.test(parameter));
    const q = weight === undefined ? 1 : Number(weight.slice(weight.indexOf("=") + 1));
    if (!weights.has(name)) weights.set(name === "x-gzip" ? "gzip" : name, q >= 0 && q <= 1 ? q : 0);
  }
  let best: Coding | null = null;
  let bestWeight = 0;
  for (const coding of preferred) {
    const weight = weights.get(coding) ?? weights.get("*") ?? 0;
    if (weight > bestWeight) [best, bestWeight] = [coding, weight];
  }
  return best !== null && bestWeight >= (weights.get("identity") ?? 0) ? best : null;
}

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
