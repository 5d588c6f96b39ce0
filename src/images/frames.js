/**
 * What the optimiser and its worker say to each other, on descriptor 3 of the worker: a JSON head and bytes. Shared by
 * both sides, so checked JavaScript. Frame: length of the head and of the body (4 bytes each, big-endian), head, body.
 *
 *   worker → host   {kind: "ready"}                                       once
 *   host → worker   {width, quality, format, pixelsMax} + the picture     one at a time
 *   worker → host   {kind: "made", type} + the new picture
 *                   {kind: "as-is"}                                       it moves: it is to be given as it is
 *                   {kind: "refused", message}                            it is no picture, or too large a one
 */

/** Longest head, in bytes. */
const headBytesMax = 4096;

/** Types that a worker makes. */
export const madeTypes = ["image/avif", "image/webp", "image/jpeg", "image/png", "image/gif"];

/**
 * @typedef {object} ImageJob
 * @property {number} width Of the new picture at most, in pixels; a smaller one is not made larger.
 * @property {number} quality 1 to 100.
 * @property {string | null} format `image/webp` or `image/avif`; null: the source's own, as far as browsers show it.
 * @property {number} pixelsMax A picture that has more is refused before it is decoded.
 */

/**
 * @param {object} head
 * @param {Uint8Array} [body]
 * @returns {Buffer}
 */
export function encodeFrame(head, body = new Uint8Array()) {
  const text = Buffer.from(JSON.stringify(head));
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(text.length, 0);
  lengths.writeUInt32BE(body.length, 4);
  return Buffer.concat([lengths, text, body]);
}

/** Cuts what comes into frames. The other side is hostile: lengths are checked before anything is kept. */
export class FrameReader {
  /** @type {Buffer[]} */
  #chunks = [];
  #bytes = 0;
  #needed = 8;
  #bodyBytesMax;
  #onFrame;

  /**
   * @param {number} bodyBytesMax
   * @param {(head: unknown, body: Buffer) => void} onFrame
   */
  constructor(bodyBytesMax, onFrame) {
    this.#bodyBytesMax = bodyBytesMax;
    this.#onFrame = onFrame;
  }

  /**
   * @param {Buffer} chunk
   * @throws {Error} when a length is beyond its limit, or a head is no JSON
   */
  push(chunk) {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= this.#needed) {
      const all = Buffer.concat(this.#chunks, this.#bytes);
      this.#chunks = [all];
      const headBytes = all.readUInt32BE(0);
      const bodyBytes = all.readUInt32BE(4);
      if (headBytes > headBytesMax || bodyBytes > this.#bodyBytesMax) throw new Error("a frame is too long");
      const end = 8 + headBytes + bodyBytes;
      this.#needed = end;
      if (all.length < end) return;
      this.#chunks = [all.subarray(end)];
      this.#bytes = all.length - end;
      this.#needed = 8;
      this.#onFrame(JSON.parse(all.toString("utf8", 8, 8 + headBytes)), all.subarray(8 + headBytes, end));
    }
  }
}
