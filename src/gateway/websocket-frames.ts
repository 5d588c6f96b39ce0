/**
 * Where one frame of a WebSocket ends and the next begins (RFC 6455 §5.2): only there may the platform say a last word to a
 * client whose Function was ended. It looks at lengths alone; what the frames say passes as it is.
 */

export class WebSocketFrames {
  /** Bytes of the present frame's payload that are still to come. */
  #left = 0;
  /** The present frame's head, as far as it has come: at most 14 bytes. */
  #head: number[] = [];

  /** Bytes that a server has sent; frames from a client end elsewhere, since they have a mask. */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const taken = Math.min(this.#left, chunk.length - at);
        this.#left -= taken;
        at += taken;
        continue;
      }
      this.#head.push(chunk[at++]!);
      const length = this.#payloadLength();
      if (length === null) continue;
      this.#left = length;
      this.#head = [];
    }
  }

  /** Nothing has begun that has not ended. */
  get isBetween(): boolean {
    return this.#left === 0 && this.#head.length === 0;
  }

  /** null: the head is not whole. */
  #payloadLength(): number | null {
    const [, second] = this.#head;
    if (second === undefined) return null;
    const short = second & 0x7f;
    const more = short === 126 ? 2 : short === 127 ? 8 : 0;
    // A server must not mask; one that does has four bytes more.
    const headLength = 2 + more + (second & 0x80 ? 4 : 0);
    if (this.#head.length < headLength) return null;
    return more === 0 ? short : this.#head.slice(2, 2 + more).reduce((length, byte) => length * 256 + byte, 0);
  }
}

/** A server's last frame, code 1001 (RFC 6455 §7.4.1): the time is over, or the node stops. */
export const goingAway: Buffer = Buffer.from([0x88, 2, 1001 >> 8, 1001 & 0xff]);
