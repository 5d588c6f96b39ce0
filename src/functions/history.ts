/**
 * What the node remembers of a Function while none of its instances lives: its rhythm, its costs, its failures. Some 700
 * bytes each, of a bounded number of Functions, those without a request for the longest time forgotten first.
 */
import { BackOff, type BackOffBounds } from "./back-off.ts";
import { IdleGaps } from "./keep-alive.ts";
import { ServiceTime, smoothed } from "./scaling.ts";

/** Until one was measured. */
const bootMsGuess = 100;
/** Of a generic guest with a small Function. */
const footprintMBGuess = 64;
/** What the CPU time of earlier invocations weighs when that of later ones has come. */
const cpuMemory = 0.8;

export class FunctionHistory {
  readonly gaps = new IdleGaps();
  readonly backOff: BackOff;
  /** When its last request was over; undefined: never. */
  restingSinceMs: number | undefined;
  /** How often an instance was asked for its record. */
  recordings = 0;
  readonly #serviceTime = new ServiceTime();
  #bootMs: number | undefined;
  #footprintMB: number | undefined;
  #cpuMs = 0;
  #cpuInvocations = 0;

  constructor(bounds: BackOffBounds) {
    this.backOff = new BackOff(bounds);
  }

  /** From the wish for an instance until it can be used. */
  get bootMs(): number {
    return this.#bootMs ?? bootMsGuess;
  }

  /** How long an instance is busy with one invocation. */
  get serviceMs(): number | undefined {
    return this.#serviceTime.ms;
  }

  /** CPU time that an invocation takes; undefined while that is not known. */
  get cpuMs(): number | undefined {
    return this.#cpuInvocations === 0 ? undefined : this.#cpuMs / this.#cpuInvocations;
  }

  /** Memory of an instance. */
  get footprintMB(): number {
    return this.#footprintMB ?? footprintMBGuess;
  }

  tookBootMs(ms: number): void {
    this.#bootMs = smoothed(this.#bootMs, ms);
  }

  tookServiceMs(ms: number, nowMs: number): void {
    this.#serviceTime.record(ms, nowMs);
  }

  /** @param ms of so many invocations together */
  tookCpuMs(ms: number, invocations: number): void {
    // Newer values count for more; each with the number of invocations that it stands for.
    this.#cpuMs = this.#cpuMs * cpuMemory + ms;
    this.#cpuInvocations = this.#cpuInvocations * cpuMemory + invocations;
  }

  tookMemoryMB(megabytes: number): void {
    this.#footprintMB = smoothed(this.#footprintMB, megabytes);
  }
}

export class Histories {
  readonly #max: number;
  readonly #bounds: BackOffBounds;
  /** Longest without a request first. */
  readonly #histories = new Map<string, FunctionHistory>();
  #newest: { readonly key: string; readonly history: FunctionHistory } | undefined;

  constructor(max: number, bounds: BackOffBounds) {
    this.#max = max;
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#histories.size;
  }

  /** The history of a Function, which counts as used by this. */
  of(key: string): FunctionHistory {
    // To delete and set costs garbage: not for the same Function again and again.
    if (this.#newest?.key === key) return this.#newest.history;
    const history = this.#histories.get(key) ?? new FunctionHistory(this.#bounds);
    this.#histories.delete(key);
    this.#histories.set(key, history);
    this.#newest = { key, history };
    if (this.#histories.size > this.#max) this.#histories.delete(this.#histories.keys().next().value!);
    return history;
  }
}
