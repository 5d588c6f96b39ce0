/**
 * Keeps a Function that cannot start from being started again and again (pure). After so many boots in a row without one
 * answered request, boots pause, twice as long each time; after a pause one boot is tried.
 *
 * ```
 * trusted ─ failures ─▶ paused ─ time ─▶ on trial ─ failure ─▶ paused, longer
 *    ▲────────────────── an answered request ──┘
 * ```
 */
import { MayflyError } from "../errors.ts";

export interface BackOffBounds {
  /** Failures in a row that are taken as they come. */
  readonly failuresMax: number;
  readonly pauseMsMax: number;
}

const firstPauseMs = 1000;

export class BackOff {
  readonly #bounds: BackOffBounds;
  #failures = 0;
  #pausedUntilMs = 0;
  #last: MayflyError | undefined;

  constructor(bounds: BackOffBounds) {
    this.#bounds = bounds;
  }

  /** How many instances in a row have not answered anything. */
  get failures(): number {
    return this.#failures;
  }

  /** Boots are tried one at a time. */
  get onTrial(): boolean {
    return this.#failures >= this.#bounds.failuresMax;
  }

  /** @returns the length of the pause that begins, if one does; failures within a pause are those of boots begun before */
  fail(error: MayflyError, nowMs: number): number | undefined {
    this.#last = error;
    if (this.leftMs(nowMs) > 0) return undefined;
    this.#failures++;
    if (!this.onTrial) return undefined;
    const pauseMs = Math.min(this.#bounds.pauseMsMax, firstPauseMs * 2 ** Math.min(30, this.#failures - this.#bounds.failuresMax));
    this.#pausedUntilMs = nowMs + pauseMs;
    return pauseMs;
  }

  succeed(): void {
    this.#failures = 0;
    this.#pausedUntilMs = 0;
  }

  /** Milliseconds until a boot may be tried, 0: now. */
  leftMs(nowMs: number): number {
    return Math.max(0, this.#pausedUntilMs - nowMs);
  }

  /** What a request within a pause is answered: the last failure, and when to come again. */
  refusal(nowMs: number): MayflyError {
    const { code, message } = this.#last ?? new MayflyError("FUNCTION_UNAVAILABLE");
    return new MayflyError(code, message, {
      cause: this.#last,
      details: { retryAfterS: Math.max(1, Math.ceil(this.leftMs(nowMs) / 1000)) },
    });
  }
}
