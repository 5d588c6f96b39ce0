/**
 * One live λ: a guest that became a Function, and the invocation it is busy with. Hides freezing and thawing, the deadline,
 * the client that goes away, whose the printed lines are, and the goodbye. Invariants: at most one invocation at a time; a
 * response reaches only the invocation that caused it, and nothing after the instance is retired.
 *
 * ```
 * booting ─▶ idle (frozen, or about to be) ⇄ busy ─▶ free ─▶ idle, or busy again ("hot")
 *    └──────────┴─────────────────────────────┴────────┴──▶ retired
 * ```
 * `retire` and `kill` lead to the end from anywhere and are idempotent. An instance without work that is retired may run
 * on for a moment to hear SIGTERM; its owner has nothing to do with it any more.
 */
import type { Clock } from "../clock.ts";
import { MayflyError, messageOf, type ErrorCode } from "../errors.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { FunctionSpec, LogLine, Manifest } from "../model.ts";
import { recordDirectory, taskDirectory } from "../runtime/protocol.js";
import type { Sandbox } from "../sandbox/sandbox.ts";
import type { BundleLease } from "./bundles.ts";
import type { Call, CallHolder } from "./call.ts";
import type { InvocationStart } from "./functions.ts";
import { LoadError, type Guest, type GuestEnd } from "./guest.ts";
import type { InstanceMeter } from "./meter.ts";
import type { FunctionRecord } from "./records.ts";
import type { WireReader } from "./wire.ts";

export interface InstanceOptions {
  readonly clock: Clock;
  readonly logs: Pick<LogStore, "append">;
  readonly spec: FunctionSpec;
  readonly manifest: Manifest;
  /** Environment of the Function, plain. */
  readonly env: () => Readonly<Record<string, string>>;
  /** For boot and load together. */
  readonly loadMsMax: number;
  readonly cpuLimit: boolean;
  /** How long an instance that is retired may run on; asked then, 0: not at all. */
  readonly graceMs: () => number;
  readonly meter: InstanceMeter;
  readonly record: FunctionRecord;
  /** An invocation begins. */
  readonly onBusy: () => void;
  readonly onMeasured: (memoryMB: number) => void;
  /** It is retired or killed; `gone` tells when it has left the machine. */
  readonly onEnd: () => void;
}

export type InstanceState = "booting" | "idle" | "busy" | "free" | "retired";

/** Memory is looked at so often at most. */
const measureMsMin = 1000;
/** An instance that is retired has so long to record what V8 has compiled. */
const recordMsMax = 2000;
const MB = 1024 * 1024;

export class Instance implements CallHolder {
  /** Set by the owner: it turned out to be of no use before anything was sent: another may be asked. */
  onRefused: (call: Call) => void = () => {};
  /** Set by the owner: an invocation has ended and the instance, not frozen yet, may take the next or be rested. */
  onFree: () => void = () => {};
  /** Set by the owner. */
  onRetired: () => void = () => {};
  /** Settles when all of it is gone from the machine; never rejects. */
  readonly gone: Promise<void>;

  readonly #options: InstanceOptions;
  readonly #gone = Promise.withResolvers<void>();
  #state: InstanceState = "booting";
  #guest: Guest | undefined;
  #bundle: BundleLease | undefined;
  /** It was given what an earlier instance has recorded. */
  #hasRecord = false;
  /** Guest and bundle, or their failures, are here. */
  #taken = false;
  /** Whose the printed lines are. */
  #invocationId: string;
  /** What it is busy with. */
  #call: Call | undefined;
  #sentMs = 0;
  /** It was sent to the guest. */
  #sent = false;
  /** Request and response are through. */
  #done = false;
  #doneAtMs = 0;
  /** The guest said that nothing is pending. */
  #idleSaid = false;
  /** That was so, and what it printed has been read. */
  #idle = false;
  readonly #reader: WireReader = {
    head: (status, headers) => this.#onHead(status, headers),
    data: (chunk) => this.#call?.data(chunk) ?? true,
    end: () => this.#call?.end(),
    done: () => this.#onDone(),
    idle: (isWhole) => this.#onIdle(isWhole),
    // The connection cannot be used again.
    abandoned: () => this.#cutOff(),
  };
  /** When the invocation in hand, or the last, has to have ended. */
  #deadlineMs = 0;
  #cancelDeadline: (() => void) | undefined;
  /** Frozen, or about to be. */
  #frozen = false;
  #freezeAtMs = 0;
  #cancelFreeze: (() => void) | undefined;
  #cutGrace: () => void = () => {};
  #idleSinceMs = 0;
  #booted = false;
  #answered = 0;
  #busySinceMs = 0;
  #busyMs = 0;
  #crash: MayflyError | undefined;
  #memoryMB: number | undefined;
  #measuredAtMs = Number.NEGATIVE_INFINITY;

  /** @param invocationId the invocation it is booted for, whose log gets what is printed while loading */
  constructor(options: InstanceOptions, invocationId: string) {
    this.#options = options;
    this.#invocationId = invocationId;
    this.gone = this.#gone.promise;
  }

  get state(): InstanceState {
    return this.#state;
  }

  /** When it became idle last. */
  get idleSinceMs(): number {
    return this.#idleSinceMs;
  }

  /** It has been free once. */
  get booted(): boolean {
    return this.#booted;
  }

  /** How long its last invocation took, `waitUntil` work included. */
  get busyMs(): number {
    return this.#busyMs;
  }

  /** Invocations whose response is complete. */
  get answered(): number {
    return this.#answered;
  }

  /** Since when it has the call in hand, or had its last. */
  get busySinceMs(): number {
    return this.#busySinceMs;
  }

  /** Since when request and response of the call in hand are through, so that it will most likely be free in a moment. */
  get finishingSinceMs(): number | undefined {
    return this.#state === "busy" && this.#done ? this.#doneAtMs : undefined;
  }

  /** What its guest did, when that was its end. */
  get crash(): MayflyError | undefined {
    return this.#crash;
  }

  /** Frozen, so that it has to be thawed before it is of use. */
  get frozen(): boolean {
    return this.#frozen;
  }

  /** Memory it really uses, as far as that was looked at. */
  get memoryMB(): number | undefined {
    return this.#memoryMB;
  }

  /**
   * Boots a guest into this Function; the instance is free afterwards, or retired.
   * @param guest running or frozen, ready or about to be
   * @throws MayflyError FUNCTION_INVOCATION_FAILED, FUNCTION_INVOCATION_TIMEOUT, FUNCTION_UNAVAILABLE, …
   */
  async boot(guest: Promise<Guest>, bundle: Promise<BundleLease>): Promise<void> {
    const { spec, loadMsMax, clock } = this.#options;
    const late = Promise.withResolvers<never>();
    const cancel = clock.after(loadMsMax, () =>
      late.reject(new MayflyError("FUNCTION_INVOCATION_TIMEOUT", this.#text(`was not loaded within ${loadMsMax} ms`))),
    );
    try {
      await Promise.race([this.#load(guest, bundle), late.promise]);
      this.#state = "free";
      this.#booted = true;
    } catch (error) {
      this.kill();
      this.#discardRecord();
      const why = error instanceof LoadError ? `The Function could not be loaded: ${error.message}` : messageOf(error);
      // After what it printed to explain it.
      const invocationId = this.#invocationId;
      void this.gone.then(() => this.#system(why, invocationId));
      if (error instanceof LoadError) {
        throw new MayflyError("FUNCTION_INVOCATION_FAILED", this.#text(`could not be loaded: ${error.message}`), { cause: error });
      }
      if (error instanceof MayflyError) throw error;
      throw new MayflyError("FUNCTION_UNAVAILABLE", `Cannot boot "${spec.name}": ${messageOf(error)}`, { cause: error });
    } finally {
      cancel();
      late.promise.catch(() => {});
    }
  }

  async #load(booting: Promise<Guest>, leasing: Promise<BundleLease>): Promise<void> {
    const { spec, cpuLimit } = this.#options;
    // Both are taken over whatever happens, so that neither is lost when the other fails.
    const [guest, bundle] = await Promise.allSettled([booting, leasing]);
    if (guest.status === "fulfilled") this.#guest = guest.value;
    if (bundle.status === "fulfilled") this.#bundle = bundle.value;
    this.#taken = true;
    if (this.#state === "retired") {
      void this.#dispose(0);
      throw new MayflyError("FUNCTION_UNAVAILABLE");
    }
    if (guest.status === "rejected") throw guest.reason;
    if (bundle.status === "rejected") throw bundle.reason;

    const env = this.#options.env();
    const { sandbox } = guest.value;
    guest.value.onLine = (stream, text) => this.#log(stream, text);
    guest.value.onLinesDropped = (lines) => this.#system(`${lines} lines were dropped: the Function writes too fast.`);
    guest.value.onIdle = () => this.#onUpgradeOver();
    const over = guest.value.over.then((end) => {
      this.#fail(end);
      throw new MayflyError(
        end.code === "NO_RESPONSE_FROM_FUNCTION" ? "FUNCTION_INVOCATION_FAILED" : end.code,
        this.#text(end.outOfMemory === true ? this.#sentence(end) : `ended while it was loaded: ${end.reason}`),
        statusOf(end),
      );
    });
    over.catch(() => {});
    // It wakes up while it is given the bundle.
    const [root, record] = await Promise.all([
      sandbox.attach(bundle.value.directory, taskDirectory, bundle.value.inner),
      this.#attachRecord(sandbox),
      sandbox.thaw(),
    ]);
    await Promise.race([
      guest.value.load({
        type: "load",
        root,
        handler: spec.handler,
        helpers: spec.helpers,
        awsHandler: spec.awsHandler,
        ...(spec.web === undefined ? {} : { web: spec.web }),
        ...(record === undefined ? {} : { record }),
        ...(spec.runtime === "edge" ? { edge: { assets: spec.assets ?? {} } } : {}),
        env,
      }),
      over,
    ]);
    if (guest.value.packUse === "rejected") this.#discardRecord();
    // Only now: code loads at full speed. The request need not wait for it.
    if (cpuLimit) {
      sandbox.setLimits({ memoryMB: spec.memoryMB, cpuByMemory: true }).catch((error: unknown) => {
        this.#system(`The instance could not be limited: ${messageOf(error)}`);
        this.kill();
      });
    }
  }

  /** Spares work, no more: whatever goes wrong, it goes without. */
  async #attachRecord(sandbox: Sandbox): Promise<string | undefined> {
    const directory = this.#options.record.find();
    if (directory === undefined) return undefined;
    try {
      this.#hasRecord = true;
      return await sandbox.attach(directory, recordDirectory);
    } catch {
      return undefined;
    }
  }

  #discardRecord(): void {
    if (this.#hasRecord && this.#answered === 0) this.#options.record.discard();
  }

  /** Answers an invocation, or refuses it. Only when idle or free. */
  run(call: Call, start: InvocationStart): void {
    if (this.#state !== "idle" && this.#state !== "free") return this.onRefused(call);
    this.#state = "busy";
    this.#busySinceMs = this.#options.clock.elapsed();
    this.#invocationId = call.invocation.id;
    this.#call = call;
    this.#sent = this.#done = this.#idleSaid = this.#idle = false;
    call.start = start;
    call.holder = this;
    if (this.#frozen) void this.#thaw(call);
    else this.#send(call);
  }

  async #thaw(call: Call): Promise<void> {
    const begunMs = performance.now();
    try {
      // Also when it is not frozen through yet.
      this.#frozen = false;
      await this.#guest!.sandbox.thaw();
    } catch (error) {
      this.#system(`The instance could not be thawed: ${messageOf(error)}`);
      this.kill();
    }
    call.timings["thaw"] = performance.now() - begunMs;
    // Its end, when that came meanwhile, has refused it.
    if (this.#call === call) this.#send(call);
  }

  #send(call: Call): void {
    const guest = this.#guest!;
    // It may have met it in the moment of its end.
    if (!guest.usable) return this.kill();
    this.#sentMs = performance.now();
    // Nobody wants it any more, and nothing was sent: the instance is as good as before.
    if (call.over) return this.#free();
    this.#options.onBusy();
    this.#sent = call.metered = true;
    try {
      guest.send(call.invocation, this.#reader);
    } catch (error) {
      call.fail(error as MayflyError);
      return this.#free();
    }
    // The request's body may have failed at once.
    if (this.#call !== call) return;
    this.#options.meter.begin(guest.sandbox, call.start === "cold", this.#sentMs);
    const ms = this.#options.spec.maxDurationS * 1000;
    this.#deadlineMs = this.#options.clock.elapsed() + ms;
    if (this.#cancelDeadline === undefined) this.#watchDeadline(ms);
  }

  /** One timer for many invocations: when it is due, it looks whether the present one's time is over. */
  #watchDeadline(afterMs: number): void {
    const { clock, spec } = this.#options;
    this.#cancelDeadline = clock.after(afterMs, () => {
      this.#cancelDeadline = undefined;
      if (this.#call === undefined) return;
      const leftMs = this.#deadlineMs - clock.elapsed();
      if (leftMs > 0) this.#watchDeadline(leftMs);
      else this.#fail({ code: "FUNCTION_INVOCATION_TIMEOUT", reason: `timed out after ${spec.maxDurationS} s` });
    });
  }

  resumed(): void {
    if (this.#sent) this.#guest!.resume();
  }

  /** The client has gone: what it asked for is done all the same, and the instance is as good as before. */
  canceled(): void {
    if (!this.#sent) return;
    if (this.#call?.invocation.upgrade === undefined) this.#guest!.resume();
    else this.#guest!.hangUp();
  }

  #cutOff(): void {
    this.#call?.fail(new MayflyError("FUNCTION_INVOCATION_FAILED", this.#text("was cut off: the client has gone")));
    this.kill();
  }

  #onHead(status: number, headers: readonly string[]): void {
    const call = this.#call;
    if (call === undefined) return;
    call.timings["function"] = performance.now() - this.#sentMs;
    if (status >= 500) this.#options.meter.fail();
    call.head(status, headers);
  }

  #onDone(): void {
    this.#done = true;
    this.#answered++;
    this.#doneAtMs = this.#options.clock.elapsed();
    this.#settle();
  }

  /** Freezes it until the next invocation, `delayMs` from now. Only when free. */
  rest(delayMs: number): void {
    if (this.#state !== "free") return;
    this.#state = "idle";
    this.#invocationId = "";
    this.#idleSinceMs = this.#options.clock.elapsed();
    this.#freezeAtMs = this.#idleSinceMs + delayMs;
    if (delayMs === 0) this.#freeze();
    else if (this.#cancelFreeze === undefined) this.#freezeLater(delayMs);
  }

  /** One timer for many rests: when it is due, it looks whether the present one is long enough. */
  #freezeLater(delayMs: number): void {
    this.#cancelFreeze = this.#options.clock.after(delayMs, () => {
      this.#cancelFreeze = undefined;
      if (this.#state !== "idle" || this.#frozen) return;
      const leftMs = this.#freezeAtMs - this.#options.clock.elapsed();
      if (leftMs > 0) this.#freezeLater(leftMs);
      else this.#freeze();
    });
  }

  #freeze(): void {
    this.#frozen = true;
    this.#freezeNow().catch((error: unknown) => {
      this.#system(`The instance could not be frozen: ${messageOf(error)}`);
      this.kill();
    });
  }

  async #freezeNow(): Promise<void> {
    await this.#guest!.sandbox.freeze();
    if (this.#options.clock.elapsed() - this.#measuredAtMs >= measureMsMin) void this.measure();
  }

  /** Looks at the memory it uses; never rejects. */
  async measure(): Promise<void> {
    this.#measuredAtMs = this.#options.clock.elapsed();
    try {
      const usage = await this.#guest?.sandbox.usage();
      if (usage === undefined || usage.memoryBytes === 0) return;
      this.#memoryMB = usage.memoryBytes / MB;
      this.#options.onMeasured(this.#memoryMB);
    } catch {
      // What was seen last holds: a sandbox that cannot be looked at is one that ends.
    }
  }

  /** Ends it: without work it may say goodbye, what it was busy with fails. */
  retire(): void {
    this.#end(this.#state === "idle" || this.#state === "free" ? this.#options.graceMs() : 0);
  }

  /** Ends it at once, also one that says goodbye. What it was busy with fails. */
  kill(): void {
    this.#cutGrace();
    this.#end(0);
  }

  #end(graceMs: number): void {
    if (this.#state === "retired") return;
    this.#state = "retired";
    this.#cancelFreeze?.();
    this.#cancelDeadline?.();
    this.#options.meter.end();
    const call = this.#call;
    this.#call = undefined;
    if (call !== undefined && !this.#sent) this.onRefused(call);
    else if (call !== undefined) {
      this.#guest!.drop();
      call.fail(new MayflyError("FUNCTION_INVOCATION_FAILED", this.#text("was ended by the platform")));
    }
    // Before, #load disposes of what it gets.
    if (this.#taken) void this.#dispose(graceMs);
    this.#options.onEnd();
    this.onRetired();
  }

  async #dispose(graceMs: number): Promise<void> {
    try {
      if (graceMs > 0) await this.#sayGoodbye(graceMs);
      await this.#guest?.sandbox.destroy();
      await this.#guest?.drained();
    } catch (error) {
      this.#system(`The instance could not be removed: ${messageOf(error)}`);
    }
    this.#bundle?.[Symbol.dispose]();
    await this.#options.meter.close();
    this.#gone.resolve();
  }

  /** Lets the Function hear SIGTERM; returns when its process has ended or the time is over. */
  async #sayGoodbye(graceMs: number): Promise<void> {
    const guest = this.#guest!;
    if (!guest.listening) return;
    const { clock, record } = this.#options;
    const cut = Promise.withResolvers<void>();
    this.#cutGrace = cut.resolve;
    const within = async (ms: number, work: () => Promise<unknown>): Promise<void> => {
      const late = Promise.withResolvers<void>();
      const cancel = clock.after(ms, late.resolve);
      await Promise.race([guest.sandbox.thaw().then(work), late.promise, cut.promise]);
      cancel();
    };
    // Of the platform's time, not of the Function's.
    if (record.isWanted(guest)) await within(recordMsMax, () => record.make(guest));
    await within(graceMs, () => {
      guest.retire();
      return guest.sandbox.ended;
    });
  }

  // ── what the guest does ─────────────────────────────────────────────────────────────────────────────────────────────

  #onIdle(isWhole: boolean): void {
    if (this.#call === undefined || this.#idleSaid) return;
    this.#idleSaid = true;
    // What it printed before has been written before: let it be read, so that it counts to this invocation. Of an answer in
    // pieces the last may have been read later than the kernel was asked what there is to read: it is asked once more.
    setImmediate(isWhole ? this.#settleIdle : () => setImmediate(this.#settleIdle));
  }

  readonly #settleIdle = (): void => {
    if (!this.#idleSaid) return;
    this.#idle = true;
    this.#settle();
  };

  #onUpgradeOver(): void {
    if (this.#sent && this.#call?.invocation.upgrade !== undefined) return this.#onIdle(false);
    this.#fail({
      code: "FUNCTION_RESPONSE_INVALID",
      reason: "broke the guest protocol: it said idle when it was not asked to",
    });
  }

  #settle(): void {
    if (this.#idle && this.#done && this.#call !== undefined) this.#free();
  }

  #free(): void {
    if (this.#state !== "busy") return;
    const upgraded = this.#call?.invocation.upgrade !== undefined;
    if (!this.#guest!.usable && !upgraded) return this.kill();
    this.#busyMs = performance.now() - this.#sentMs;
    this.#options.meter.end();
    this.#guest!.flushLines();
    this.#call = undefined;
    this.#state = "free";
    // An upgrade has used up its connection.
    if (this.#guest!.usable) this.onFree();
    else this.retire();
  }

  /** The guest is over, or its time is. */
  #fail(end: GuestEnd): void {
    if (this.#state === "retired") return;
    this.#discardRecord();
    // Between two invocations, or after an answer that only the connection's end ends: nobody is harmed.
    const isHarmless = (this.#call === undefined || this.#done) && end.code === "NO_RESPONSE_FROM_FUNCTION";
    if (!isHarmless) this.#options.meter.fail();
    const words = this.#sentence(end);
    const error = new MayflyError(end.code, this.#text(words), statusOf(end));
    if (end.code !== "FUNCTION_INVOCATION_TIMEOUT") this.#crash = error;
    if (this.#sent) this.#call?.fail(error);
    const invocationId = this.#invocationId;
    const booting = this.#state === "booting";
    this.kill();
    // What ends while booting is reported by boot().
    if (booting || isHarmless) return;
    void this.gone.then(() => this.#system(`The Function ${words} (${end.code})`, invocationId));
  }

  // ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  #text(what: string): string {
    return `The Function "${this.#options.spec.name}" ${what}.`;
  }

  #sentence(end: GuestEnd): string {
    if (end.outOfMemory === true) return `ran out of memory: it needed more than its ${this.#options.spec.memoryMB} MB`;
    return sentences[end.code]?.(end.reason) ?? end.reason;
  }

  #system(text: string, invocationId?: string): void {
    this.#log("system", text, invocationId);
  }

  #log(stream: LogLine["stream"], text: string, invocationId = this.#invocationId): void {
    const { clock, logs, manifest, spec } = this.#options;
    logs.append([
      {
        deploymentId: manifest.deploymentId,
        source: "function",
        functionName: spec.name,
        invocationId,
        stream,
        timestampMs: clock.now(),
        text,
      },
    ]);
  }
}

const sentences: Partial<Record<ErrorCode, (reason: string) => string>> = {
  FUNCTION_INVOCATION_FAILED: (reason) => `has crashed: ${reason}`,
  NO_RESPONSE_FROM_FUNCTION: (reason) => `ended without a response: ${reason}`,
};

/** What the platform stopped is 502, what stopped itself 500. */
const statusOf = (end: GuestEnd): { status?: number } => (end.outOfMemory === true ? { status: 502 } : {});
