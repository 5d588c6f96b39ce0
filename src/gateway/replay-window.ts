/**
 * Tells a statement that is heard for the first time from one that was heard before. Senders number theirs; numbers may
 * come out of order, as far as the window reaches. Invariant: no number of a sender is taken twice, in bounded memory.
 */

/** A number further behind the highest than this counts as heard. */
const windowSize = 65_536;
/** Senders that are remembered; each start of a node is one. Whose turn is longest ago is forgotten first. */
const sendersMax = 256;

interface Sender {
  highest: number;
  /** A bit for each number of the window, at the number modulo its size. */
  readonly heard: Uint8Array;
}

export class ReplayWindow {
  readonly #senders = new Map<string, Sender>();

  /** @param number a safe integer, at least 0. @returns whether it is new */
  take(name: string, number: number): boolean {
    const sender = this.#senders.get(name) ?? { highest: -1, heard: new Uint8Array(windowSize / 8) };
    this.#senders.delete(name);
    this.#senders.set(name, sender);
    if (this.#senders.size > sendersMax) this.#senders.delete(this.#senders.keys().next().value!);
    if (number <= sender.highest - windowSize) return false;
    if (number > sender.highest) {
      if (number - sender.highest >= windowSize) sender.heard.fill(0);
      else for (let skipped = sender.highest + 1; skipped <= number; skipped++) mark(sender.heard, skipped, false);
      sender.highest = number;
    }
    const at = number % windowSize;
    if ((sender.heard[at >> 3]! & (1 << (at & 7))) !== 0) return false;
    mark(sender.heard, number, true);
    return true;
  }
}

function mark(bits: Uint8Array, number: number, isHeard: boolean): void {
  const at = number % windowSize;
  if (isHeard) bits[at >> 3]! |= 1 << (at & 7);
  else bits[at >> 3]! &= ~(1 << (at & 7));
}
