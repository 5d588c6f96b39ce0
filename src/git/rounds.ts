/**
 * Work that lies in the store and is done in rounds: find what is due, act on each, one at a time for each key, so many at
 * once; then sleep until the next is due or somebody wakes it. What it has in hand is in the store too, so it may be cut off.
 */
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";

/** When the store cannot be asked. */
const failurePauseMs = 1000;
/** Longest sleep: timers hold no more than 2^31 ms, and a clock may be set. */
const sleepMsMax = 60_000;

export interface RoundsOptions<T> {
  readonly clock: Clock;
  readonly atOnce: number;
  /** What is due, the most urgent first. */
  readonly find: (limit: number) => Promise<readonly T[]>;
  /** Two of the same key are never acted on at once. */
  readonly keyOf: (work: T) => string;
  /** Never rejects for reasons of the work: it writes them down. */
  readonly act: (work: T) => Promise<void>;
  /** ms since 1970 of what is due next; null: nothing is. */
  readonly nextAt: () => Promise<number | null>;
  readonly log: (line: string) => void;
}

export class Rounds<T> {
  readonly #options: RoundsOptions<T>;
  readonly #acting = new Map<string, Promise<void>>();
  #round: Promise<void> | null = null;
  #again = false;
  #closed = false;
  #cancelSleep: () => void = () => {};

  constructor(options: RoundsOptions<T>) {
    this.#options = options;
  }

  /** Something may be due now. */
  wake(): void {
    if (this.#closed) return;
    if (this.#round !== null) {
      this.#again = true;
      return;
    }
    this.#cancelSleep();
    this.#round = this.#run().finally(() => {
      this.#round = null;
      if (this.#again) {
        this.#again = false;
        this.wake();
      }
    });
  }

  /** Begins nothing more, and waits for what is in hand. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelSleep();
    await this.#round;
    await Promise.all(this.#acting.values());
  }

  async #run(): Promise<void> {
    const { clock, atOnce, find, keyOf, act, nextAt, log } = this.#options;
    let sleepMs = failurePauseMs;
    try {
      // More than can be begun: what is first may wait for others of its key.
      for (const work of await find(atOnce * 4)) {
        const key = keyOf(work);
        if (this.#closed || this.#acting.size >= atOnce) break;
        if (this.#acting.has(key)) continue;
        const acting = act(work)
          .catch((error: unknown) => log(`git: ${messageOf(error)}`))
          .finally(() => {
            this.#acting.delete(key);
            this.wake();
          });
        this.#acting.set(key, acting);
      }
      if (this.#acting.size > 0) return; // its end wakes
      const at = await nextAt();
      sleepMs = at === null ? sleepMsMax : Math.min(Math.max(at - clock.now(), 0), sleepMsMax);
    } catch (error) {
      if (!this.#closed) log(`git: ${messageOf(error)}`);
    }
    if (!this.#closed) this.#cancelSleep = clock.after(sleepMs, () => this.wake());
  }
}
