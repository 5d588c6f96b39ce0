/**
 * Cuts a byte stream into lines. Hides that characters and lines arrive in pieces; holds at most one line's bytes.
 * A longer line becomes several, never cut within a UTF-8 character; bytes that are not UTF-8 become U+FFFD.
 */

const newline = 0x0a;
const carriageReturn = 0x0d;

export class LineCutter {
  readonly #bytesMax: number;
  readonly #onLine: (text: string) => void;
  #held: Buffer[] = [];
  #heldBytes = 0;

  /** @param bytesMax longest line in bytes of UTF-8, at least 4 */
  constructor(bytesMax: number, onLine: (text: string) => void) {
    this.#bytesMax = bytesMax;
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(newline, start);
      this.#hold(chunk.subarray(start, end === -1 ? chunk.length : end));
      if (end === -1) return;
      this.#emit();
      start = end + 1;
    }
  }

  /** Gives out what has no newline yet. */
  flush(): void {
    if (this.#heldBytes > 0) this.#emit();
  }

  #hold(bytes: Buffer): void {
    let rest = bytes;
    while (this.#heldBytes + rest.length > this.#bytesMax) {
      const all = Buffer.concat([...this.#held, rest.subarray(0, this.#bytesMax - this.#heldBytes + 1)]);
      const cut = characterBoundary(all, this.#bytesMax);
      this.#onLine(all.toString("utf8", 0, cut));
      // What was held is never longer than a line, so a cut falls into or just before `rest`.
      const left = all.subarray(cut, this.#bytesMax);
      rest = rest.subarray(Math.min(rest.length, this.#bytesMax - this.#heldBytes));
      this.#held = left.length > 0 ? [left] : [];
      this.#heldBytes = left.length;
    }
    if (rest.length === 0) return;
    // A copy: the chunk's memory may be much larger than what is held of it.
    this.#held.push(this.#held.length > 64 ? Buffer.concat([...this.#held.splice(0), rest]) : Buffer.from(rest));
    this.#heldBytes += rest.length;
  }

  #emit(): void {
    const line = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held);
    this.#held = [];
    this.#heldBytes = 0;
    const end = line.at(-1) === carriageReturn ? line.length - 1 : line.length;
    this.#onLine(line.toString("utf8", 0, end));
  }
}

/** The last place at or before `at` where no UTF-8 character is cut; `at` itself where there is none within four bytes. */
function characterBoundary(bytes: Buffer, at: number): number {
  for (let place = at; place > at - 4 && place > 0; place--) {
    if (((bytes[place] ?? 0) & 0xc0) !== 0x80) return place;
  }
  return at;
}
