/**
 * All instances of one Function of one deployment, and the requests that wait for one. Hides who gets which instance:
 * the last used idle one, else whichever is ready first, one that became free or one that is booted for the purpose.
 * Invariants: requests are served in the order they came; there are never more boots under way than requests that wait;
 * a boot that fails answers the requests it was for and is not repeated by itself; no timer runs while nothing lives.
 */
import type { Clock } from "../clock.ts";
import { MayflyError } from "../errors.ts";
import type { Call, CallHolder } from "./call.ts";
import type { Invocation, InvocationStart } from "./functions.ts";
import type { FunctionHistory } from "./history.ts";
import type { Instance } from "./instance.ts";
import { surplusKeepMs, type KeepAliveBounds } from "./keep-alive.ts";
import type { Processors } from "./processors.ts";
import { impatienceMs, keepProcessorsBusy, wantsBoot, type Demand, type Work } from "./scaling.ts";

export interface PoolOptions {
  readonly clock: Clock;
  readonly queueMax: number;
  readonly queueWaitMsMax: number;
  readonly instancesMax: number;
  readonly keepAlive: KeepAliveBounds;
  readonly freezeDelayMs: number;
  /** An instance that is at work for longer is not waited for. */
  readonly busyWaitMsMax: number;
  /** Share of a processor that an instance may have. */
  readonly cpuShare: number;
  readonly history: FunctionHistory;
  readonly processors: Pick<Processors, "count" | "saturated">;
  /** Makes an instance and starts its boot. */
  readonly boot: (invocation: Invocation) => { readonly instance: Instance; readonly booted: Promise<void> };
  /** Told when a request waits for which no boot is under way: answered by {@link Pool.startBoot}, some time or never. */
  readonly wantBoot: (pool: Pool) => void;
  /** Whether another Function has no instance and waits for room: then one of several is given up though it is wanted here. */
  readonly mustYield: () => boolean;
  /** Told when an instance has come to rest or was retired, a boot has ended or a request no longer waits. */
  readonly onChange: (pool: Pool) => void;
  /** Writes to the Function's log. */
  readonly log: (text: string, invocation: Invocation) => void;
}

/** From a complete response to the word that nothing is pending takes far less, unless there is `waitUntil` work. */
const finishingMsMax = 25;
/** When all at work turn out to wait for something, which was not to be expected, nobody waits for them for so long. */
const distrustMs = 1000;
/** Refusals of a queue that is full are written down so often at most. */
const throttleLogMsMin = 10_000;
const retryWhenThrottledS = 1;
const retryWhenUnavailableS = 5;

export class Pool implements CallHolder {
  readonly #options: PoolOptions;
  readonly #history: FunctionHistory;
  /** Last used last. */
  readonly #idle: Instance[] = [];
  /** In the order they came. */
  readonly #waiting: Call[] = [];
  /** For the deadline of the first that waits. */
  #cancelOverdue: (() => void) | undefined;
  readonly #instances = new Set<Instance>();
  #boots = 0;
  #lastBootMs = Number.NEGATIVE_INFINITY;
  #closing = false;
  /** How long the first idle instance is kept, as of the last look at the rhythm. */
  #keepMs = 0;
  #retirement: { readonly atMs: number; readonly cancel: () => void } | undefined;
  #cancelRecheck: (() => void) | undefined;
  #lastFreeMs = Number.NEGATIVE_INFINITY;
  #distrustsUntilMs = Number.NEGATIVE_INFINITY;
  #brisk = false;
  #throttled = 0;
  #throttleLoggedMs = Number.NEGATIVE_INFINITY;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#history = options.history;
  }

  /** Live instances, booting ones included. */
  get size(): number {
    return this.#instances.size;
  }

  /** Idle instances. */
  get resting(): number {
    return this.#idle.length;
  }

  /** Those, last used last. */
  get idle(): readonly Instance[] {
    return this.#idle;
  }

  get history(): FunctionHistory {
    return this.#history;
  }

  /** Requests without an instance. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Nothing lives and nobody waits. */
  get empty(): boolean {
    return this.#instances.size === 0 && this.#waiting.length === 0;
  }

  get needsBoot(): boolean {
    // Those that wait though one is idle do so for those at work.
    if (this.#closing || this.#waiting.length === 0 || this.#idle.length > 0) return false;
    if (this.#instances.size >= this.#options.instancesMax) return false;
    const { backOff } = this.#history;
    if (backOff.leftMs(this.#options.clock.elapsed()) > 0 || (backOff.onTrial && this.#boots > 0)) return false;
    return wantsBoot(this.#demand());
  }

  #demand(): Demand {
    const nowMs = this.#options.clock.elapsed();
    return {
      ...this.#work(nowMs),
      waiting: this.#waiting.length,
      oldestWaitMs: this.#waiting.length === 0 ? 0 : nowMs - this.#waiting[0]!.waitsSinceMs,
      boots: this.#boots,
      finishing: this.#countFinishing(nowMs),
      busy: this.#instances.size - this.#boots - this.#idle.length,
      bootMs: this.#history.bootMs,
      sinceLastBootMs: nowMs - this.#lastBootMs,
      saturated: this.#options.processors.saturated,
    };
  }

  #work(nowMs: number): Work {
    const { processors, cpuShare, busyWaitMsMax } = this.#options;
    const { serviceMs, cpuMs } = this.#history;
    let fresh = 0;
    if (nowMs >= this.#distrustsUntilMs) {
      for (const { state, busySinceMs } of this.#instances) if (state === "busy" && nowMs - busySinceMs < busyWaitMsMax) fresh++;
    }
    return { fresh, serviceMs, cpuMs, processors: processors.count, cpuShare };
  }

  // ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

  invoke(call: Call): void {
    this.#noteGap();
    this.#place(call);
  }

  /** A request that finds the Function without work ends a gap. */
  #noteGap(): void {
    const { restingSinceMs } = this.#history;
    if (restingSinceMs === undefined) return;
    this.#history.restingSinceMs = undefined;
    this.#history.gaps.record(this.#options.clock.elapsed() - restingSinceMs);
  }

  /** Gives it to an instance, or lets it wait for one. */
  #place(call: Call): void {
    if (call.over) return;
    if (this.#closing) return call.refuse(new MayflyError("SHUTTING_DOWN"));
    const { clock, freezeDelayMs, queueMax } = this.#options;
    const nowMs = clock.elapsed();
    this.#brisk = freezeDelayMs > 0 && nowMs - this.#lastFreeMs <= freezeDelayMs;
    if (this.#idle.length > 0 && (this.#waiting.length >= queueMax || !keepProcessorsBusy(this.#work(nowMs)))) {
      return this.#rouse(call);
    }
    const { backOff } = this.#history;
    // Nothing can become free, and nothing is booted.
    if (this.#instances.size === 0 && backOff.leftMs(nowMs) > 0) {
      this.#options.onChange(this);
      return call.refuse(backOff.refusal(nowMs));
    }
    if (this.#waiting.length >= queueMax) return call.refuse(this.#throttle(call.invocation, nowMs));
    this.#wait(call, nowMs);
  }

  /** Gives it to an idle instance. Only when there is one. */
  #rouse(call: Call): void {
    const instance = this.#idle.pop()!;
    this.#give(call, instance, instance.frozen ? "warm" : "hot");
  }

  /** Gives those that wait for instances at work to idle ones, when that is no longer better. */
  #spread(): void {
    while (this.#waiting.length > 0 && this.#idle.length > 0 && !keepProcessorsBusy(this.#work(this.#options.clock.elapsed()))) {
      this.#rouse(this.#waiting.shift()!);
    }
  }

  #give(call: Call, instance: Instance, start: InvocationStart): void {
    call.timings[start === "cold" ? "boot" : "queue"] = performance.now() - call.begunMs;
    instance.run(call, start);
  }

  #throttle(invocation: Invocation, nowMs: number): MayflyError {
    this.#throttled++;
    if (nowMs - this.#throttleLoggedMs >= throttleLogMsMin) {
      const { queueMax } = this.#options;
      this.#options.log(
        `429 FUNCTION_THROTTLED: ${queueMax} requests wait; refused since this was last said: ${this.#throttled}.`,
        invocation,
      );
      this.#throttleLoggedMs = nowMs;
      this.#throttled = 0;
    }
    return new MayflyError("FUNCTION_THROTTLED", undefined, { details: { retryAfterS: retryWhenThrottledS } });
  }

  #wait(call: Call, sinceMs: number): void {
    call.waitsSinceMs = sinceMs;
    call.holder = this;
    this.#waiting.push(call);
    if (this.#cancelOverdue === undefined) this.#watchOverdue(this.#options.queueWaitMsMax);
    if (this.needsBoot) this.#options.wantBoot(this);
    else this.#recheckLater();
  }

  /** One that waits is no longer wanted. */
  canceled(call: Call): void {
    const index = this.#waiting.indexOf(call);
    if (index !== -1) this.#waiting.splice(index, 1);
    this.#options.onChange(this);
  }

  /** What waits has nothing to go on with. */
  resumed(): void {}

  /** One timer for all that wait: when it is due, it looks for whom it is too late. */
  #watchOverdue(afterMs: number): void {
    const { clock, queueWaitMsMax } = this.#options;
    this.#cancelOverdue = clock.after(afterMs, () => {
      this.#cancelOverdue = undefined;
      const beforeMs = clock.elapsed() - queueWaitMsMax;
      while (this.#waiting.length > 0 && this.#waiting[0]!.waitsSinceMs <= beforeMs) {
        this.#waiting.shift()!.refuse(
          new MayflyError("FUNCTION_UNAVAILABLE", `No instance was free within ${queueWaitMsMax} ms.`, {
            details: { retryAfterS: retryWhenUnavailableS },
          }),
        );
      }
      if (this.#waiting.length > 0) this.#watchOverdue(Math.min(queueWaitMsMax, this.#waiting[0]!.waitsSinceMs - beforeMs));
      this.#options.onChange(this);
    });
  }

  /**
   * While requests wait without a boot, the reasons for that are looked at again: estimates err and pauses end. What has
   * come in the meantime is read before, as the platform may have been put aside itself.
   */
  #recheckLater(): void {
    if (this.#cancelRecheck !== undefined || this.#closing) return;
    const { clock, busyWaitMsMax } = this.#options;
    const ms = Math.ceil(
      this.#history.backOff.leftMs(clock.elapsed()) || Math.min(busyWaitMsMax || Infinity, impatienceMs(this.#demand())),
    );
    this.#cancelRecheck = clock.after(Math.max(1, ms), () => setImmediate(this.#recheck));
  }

  readonly #recheck = (): void => {
    this.#cancelRecheck = undefined;
    if (this.#waiting.length === 0 || this.#closing) return;
    const { clock, busyWaitMsMax, onChange } = this.#options;
    const nowMs = clock.elapsed();
    if (this.#idle.length > 0) {
      if (nowMs - this.#lastFreeMs >= busyWaitMsMax) this.#distrustsUntilMs = nowMs + distrustMs;
      this.#spread();
    }
    onChange(this);
    if (this.#waiting.length > 0) this.#recheckLater();
  };

  // ── boots ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Boots an instance for the request that waits longest without one. Only when {@link needsBoot}. */
  startBoot(): void {
    const { invocation } = this.#waiting[Math.min(this.#boots, this.#waiting.length - 1)]!;
    this.#boots++;
    this.#lastBootMs = this.#options.clock.elapsed();
    const { instance, booted } = this.#options.boot(invocation);
    this.#instances.add(instance);
    instance.onRetired = () => this.#forget(instance, invocation);
    instance.onRefused = (call) => this.#place(call);
    instance.onFree = () => {
      this.#history.tookServiceMs(instance.busyMs, this.#options.clock.elapsed());
      this.#offer(instance, false);
    };
    void this.#finishBoot(instance, booted, invocation);
  }

  async #finishBoot(instance: Instance, booted: Promise<void>, invocation: Invocation): Promise<void> {
    const begun = performance.now();
    try {
      await booted;
      // Otherwise it would be booted, and end, again and again.
      if (instance.state !== "free") throw new MayflyError("FUNCTION_INVOCATION_FAILED", "The Function ended as soon as it was loaded.");
      this.#boots--;
      this.#history.tookBootMs(performance.now() - begun);
      this.#offer(instance, true);
    } catch (error) {
      this.#boots--;
      if (!this.#closing && error instanceof MayflyError) this.#noteFailure(error, invocation);
      // It was for the first that waits; with nothing else alive, the same would happen to those without a boot.
      const others = this.#instances.size > this.#boots ? 0 : this.#waiting.length - 1 - this.#boots;
      const refused = [...this.#waiting.splice(0, 1), ...this.#waiting.splice(this.#boots, Math.max(0, others))];
      for (const call of refused) call.fail(error as MayflyError);
    }
    this.#options.onChange(this);
  }

  /** An instance has ended without having answered anything. */
  #noteFailure(error: MayflyError, invocation: Invocation): void {
    const { backOff } = this.#history;
    const pauseMs = backOff.fail(error, this.#options.clock.elapsed());
    if (pauseMs === undefined) return;
    this.#options.log(
      `${backOff.failures} instances in a row have ended without an answer, the last with ${error.code}: ` +
        `no other is booted for ${pauseMs / 1000} s, requests are refused meanwhile.`,
      invocation,
    );
  }

  #forget(instance: Instance, invocation: Invocation): void {
    this.#instances.delete(instance);
    const index = this.#idle.indexOf(instance);
    if (index !== -1) this.#idle.splice(index, 1);
    if (instance.answered > 0) this.#history.backOff.succeed();
    else if (instance.booted && instance.crash !== undefined) this.#noteFailure(instance.crash, invocation);
    if (this.#instances.size === 0) {
      this.#retirement?.cancel();
      this.#retirement = undefined;
      if (this.#waiting.length === 0) {
        this.#cancelOverdue?.();
        this.#cancelOverdue = undefined;
      }
    }
    this.#spread();
    this.#noteRest();
    this.#options.onChange(this);
  }

  // ── instances between requests ──────────────────────────────────────────────────────────────────────────────────────

  #offer(instance: Instance, cold: boolean): void {
    if (instance.state !== "free") return;
    if (instance.answered > 0) this.#history.backOff.succeed();
    if (this.#closing || (this.#instances.size > 1 && this.#options.mustYield())) return instance.retire();
    const { clock, keepAlive, freezeDelayMs } = this.#options;
    this.#lastFreeMs = clock.elapsed();
    // More may be at work than keep the processors busy: it is known by now what the Function does.
    const call = this.#waiting.length > 0 && !keepProcessorsBusy(this.#work(this.#lastFreeMs)) ? this.#waiting.shift() : undefined;
    if (call !== undefined) return this.#give(call, instance, cold ? "cold" : "hot");
    if (keepAlive.fixedMs === 0) return instance.retire();
    // Requests that follow each other closely should not pay for a thaw each.
    instance.rest(this.#brisk ? freezeDelayMs : 0);
    this.#idle.push(instance);
    this.#noteRest();
    this.#planRetirement();
    this.#options.onChange(this);
  }

  /** The Function may have run out of work. */
  #noteRest(): void {
    if (this.#waiting.length > 0 || this.#instances.size > this.#idle.length) return;
    this.#history.restingSinceMs ??= this.#options.clock.elapsed();
  }

  /** One timer for all idle instances, for the one whose time comes first: that which rests longest. */
  #planRetirement(): void {
    const { clock, keepAlive } = this.#options;
    const first = this.#idle[0];
    if (first === undefined) return;
    if (this.#retirement === undefined) this.#keepMs = this.#history.gaps.keepMs(keepAlive);
    const atMs = first.idleSinceMs + surplusKeepMs(this.#keepMs, this.#idle.length - 1, keepAlive);
    if (this.#retirement !== undefined && this.#retirement.atMs <= atMs) return;
    this.#retirement?.cancel();
    const nowMs = clock.elapsed();
    const cancel = clock.after(Math.max(0, atMs - nowMs), () => {
      this.#retirement = undefined;
      this.#retireOverdue();
    });
    this.#retirement = { atMs, cancel };
  }

  #retireOverdue(): void {
    const { clock, keepAlive } = this.#options;
    const keepMs = this.#history.gaps.keepMs(keepAlive);
    const nowMs = clock.elapsed();
    for (;;) {
      const first = this.#idle[0];
      if (first === undefined || nowMs - first.idleSinceMs < surplusKeepMs(keepMs, this.#idle.length - 1, keepAlive)) break;
      first.retire();
    }
    this.#planRetirement();
  }

  /** A request that comes now had better wait for these than for a boot, but not for long. */
  #countFinishing(nowMs: number): number {
    let count = 0;
    for (const { finishingSinceMs } of this.#instances) {
      if (finishingSinceMs !== undefined && nowMs - finishingSinceMs < finishingMsMax) count++;
    }
    return count;
  }

  // ── end ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Retires what is idle and refuses what waits; what is busy is retired when it becomes free. */
  beginClose(): void {
    this.#closing = true;
    this.#cancelRecheck?.();
    this.#cancelOverdue?.();
    for (const call of this.#waiting.splice(0)) call.refuse(new MayflyError("SHUTTING_DOWN"));
    for (const instance of this.#instances) if (instance.state !== "busy") instance.retire();
  }

  /** Ends all. */
  endClose(): void {
    for (const instance of this.#instances) instance.kill();
  }
}
