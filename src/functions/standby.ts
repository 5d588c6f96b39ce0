/**
 * Generic guests that wait, booted, warm and frozen, to become a Function. Node takes its heap limit only at its start,
 * so a guest fits one Node version and one memory size; what was asked for most of late decides what is kept. Refilled one
 * at a time, in the background. Invariant: at most `size` guests, and none without an owner after `close`.
 */
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { Guest } from "./guest.ts";

export interface StandbyOptions {
  readonly clock: Clock;
  readonly size: number;
  /** What is kept until anything was asked for. */
  readonly kind: GuestKind;
  readonly boot: (kind: GuestKind) => Promise<Guest>;
}

/** Guests of one kind can stand in for each other. */
export interface GuestKind {
  readonly memoryMB: number;
  readonly nodeMajor: number;
}

interface Waiting {
  readonly guest: Guest;
  readonly kind: GuestKind;
}

const isSame = (a: GuestKind, b: GuestKind): boolean => a.memoryMB === b.memoryMB && a.nodeMajor === b.nodeMajor;

/** So many wishes are remembered. */
const askedMax = 16;

/** After a boot that failed the next is tried so much later. */
const retryMs = 1000;

export class Standby {
  readonly #options: StandbyOptions;
  /** What was asked for, the last at the end. */
  readonly #asked: GuestKind[];
  readonly #waiting: Waiting[] = [];
  readonly #ending = new Set<Promise<void>>();
  #filling: Promise<void> | undefined;
  #cancelRetry: () => void = () => {};
  #closed = false;

  constructor(options: StandbyOptions) {
    this.#options = options;
    this.#asked = Array.from({ length: options.size }, () => options.kind);
  }

  /** How many wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /** A frozen guest of this kind, if one waits; the caller owns it and calls {@link fill} when its own hurry is over. */
  take(kind: GuestKind): Guest | undefined {
    if (this.#options.size > 0) {
      this.#asked.push(kind);
      if (this.#asked.length > askedMax) this.#asked.shift();
    }
    const index = this.#waiting.findIndex((waiting) => isSame(waiting.kind, kind));
    return index === -1 ? undefined : this.#waiting.splice(index, 1)[0]!.guest;
  }

  /** Boots in the background what is missing. */
  fill(): void {
    if (this.#closed || this.#filling !== undefined) return;
    this.#cancelRetry();
    this.#filling = this.#fill().finally(() => {
      this.#filling = undefined;
    });
  }

  async #fill(): Promise<void> {
    for (;;) {
      const missing = this.#reconcile();
      if (missing === undefined || this.#closed) return;
      let guest: Guest;
      try {
        guest = await this.#options.boot(missing);
        await guest.sandbox.freeze();
      } catch (error) {
        process.emitWarning(`Cannot boot a sandbox to stand by: ${messageOf(error)}`);
        this.#cancelRetry = this.#options.clock.after(retryMs, () => this.fill());
        return;
      }
      if (this.#closed) {
        this.#destroy(guest);
        return;
      }
      const waiting = { guest, kind: missing };
      this.#waiting.push(waiting);
      void this.#watch(waiting);
    }
  }

  /** One that ends while it waits is replaced. */
  async #watch(waiting: Waiting): Promise<void> {
    await waiting.guest.over;
    const index = this.#waiting.indexOf(waiting);
    if (index === -1) return;
    this.#waiting.splice(index, 1);
    this.#destroy(waiting.guest);
    this.fill();
  }

  /** Destroys what is not wanted any more. @returns a kind that is missing */
  #reconcile(): GuestKind | undefined {
    const missing = [...share(this.#asked, this.#options.size)];
    for (const waiting of this.#waiting.splice(0)) {
      const index = missing.findIndex((kind) => isSame(kind, waiting.kind));
      if (index === -1) this.#destroy(waiting.guest);
      else {
        missing.splice(index, 1);
        this.#waiting.push(waiting);
      }
    }
    return missing[0];
  }

  #destroy(guest: Guest): void {
    const ending: Promise<void> = guest.sandbox.destroy().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
    ending.catch((error: unknown) => process.emitWarning(`Cannot remove a sandbox: ${messageOf(error)}`));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry();
    for (const { guest } of this.#waiting.splice(0)) this.#destroy(guest);
    await this.#filling;
    await Promise.allSettled(this.#ending);
  }
}

/** Shares `size` places among the kinds by how often each was asked for (D'Hondt); of equals the one asked for last comes first. */
export function share(asked: readonly GuestKind[], size: number): readonly GuestKind[] {
  const parties: { readonly kind: GuestKind; votes: number; seats: number }[] = [];
  for (const kind of asked.toReversed()) {
    const party = parties.find((known) => isSame(known.kind, kind));
    if (party === undefined) parties.push({ kind, votes: 1, seats: 0 });
    else party.votes++;
  }
  const seats: GuestKind[] = [];
  while (seats.length < size && parties.length > 0) {
    const next = parties.reduce((best, party) => (party.votes / (party.seats + 1) > best.votes / (best.seats + 1) ? party : best));
    next.seats++;
    seats.push(next.kind);
  }
  return seats;
}
