/**
 * Keeps a guest that floods its output from flooding the platform: beyond a rate the streams are not read, so that the
 * pipes fill and the writer waits. What one read held in excess of all measure is dropped and counted.
 */
import type { Readable } from "node:stream";
import type { Clock } from "../clock.ts";

export interface FlowOptions {
  readonly clock: Clock;
  /** Also as many at once. */
  readonly linesPerSecond: number;
  /** Told how many lines were dropped, when reading goes on or ends. */
  readonly onDropped: (lines: number) => void;
}

export class Flow {
  readonly #streams: readonly Readable[];
  readonly #options: FlowOptions;
  /** Lines that may still come; below zero: those that came too early. */
  #credit: number;
  #creditAtMs: number;
  #dropped = 0;
  #cancelPause: (() => void) | undefined;
  #open = false;

  constructor(streams: readonly Readable[], options: FlowOptions) {
    this.#streams = streams;
    this.#options = options;
    this.#credit = options.linesPerSecond;
    this.#creditAtMs = options.clock.elapsed();
  }

  /** Counts a line. @returns whether it is to be kept */
  take(): boolean {
    if (this.#credit <= -this.#options.linesPerSecond) {
      this.#dropped++;
      return false;
    }
    this.#credit--;
    return true;
  }

  /** To be called when what was read has been taken: pauses the streams when it was too much. */
  settle(): void {
    if (this.#credit > 0 || this.#open || this.#cancelPause !== undefined) return;
    const { clock, linesPerSecond } = this.#options;
    const nowMs = clock.elapsed();
    const passedMs = nowMs - this.#creditAtMs;
    this.#credit = Math.min(linesPerSecond, this.#credit + (passedMs * linesPerSecond) / 1000);
    this.#creditAtMs = nowMs;
    if (this.#credit > 0) return;
    for (const stream of this.#streams) stream.pause();
    this.#cancelPause = clock.after(Math.max(10, Math.ceil((-this.#credit * 1000) / linesPerSecond)), () => this.#resume());
  }

  /** Reads what is left without measure: the guest has ended, so it is no more than the pipes hold. */
  open(): void {
    this.#open = true;
    this.#cancelPause?.();
    this.#resume();
  }

  /** Says how much was dropped. */
  report(): void {
    if (this.#dropped === 0) return;
    this.#options.onDropped(this.#dropped);
    this.#dropped = 0;
  }

  #resume(): void {
    this.#cancelPause = undefined;
    this.report();
    for (const stream of this.#streams) stream.resume();
  }
}
