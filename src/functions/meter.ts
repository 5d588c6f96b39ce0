/**
 * What Functions use, as records for the usage store. A request costs additions in memory only: figures are handed on, and
 * CPU time is read, once for each second in which an instance served something, when the second is over. Counted: requests
 * that an instance was given, and those for which the code could not be loaded. Free: boot, waiting, frozen time.
 */
import type { Clock } from "../clock.ts";
import type { ErrorCode, MayflyError } from "../errors.ts";
import type { FunctionSpec, Manifest } from "../model.ts";
import type { Sandbox } from "../sandbox/sandbox.ts";
import type { UsageAmounts, UsageRecord, UsageStore } from "../usage/usage-store.ts";
import type { Call } from "./call.ts";
import type { FunctionHistory } from "./history.ts";

/** Figures are handed on so often; also what a crash of the platform costs. */
const windowMs = 1000;
const minuteMs = 60_000;
/**
 * CPU time counts from the end of an instance's first request, or from so much later than its begin: read at once it would
 * cost a cold start 0.3 ms, and nobody is harmed when so little is free.
 */
const baselineMs = 5;

const nothing: UsageAmounts = { invocations: 0, errors: 0, coldStarts: 0, wallMs: 0, cpuMs: null, gbSeconds: 0 };

/** Failures of the Function's own; others, as a full queue, are the platform's and cost nothing. */
const ownFailures: ReadonlySet<ErrorCode> = new Set([
  "FUNCTION_INVOCATION_FAILED",
  "FUNCTION_INVOCATION_TIMEOUT",
  "FUNCTION_RESPONSE_INVALID",
  "NO_RESPONSE_FROM_FUNCTION",
]);

export interface MeterOptions {
  readonly clock: Clock;
  readonly usage: Pick<UsageStore, "append">;
}

/** The meters of a node's instances. */
export class Meter {
  readonly #options: MeterOptions;

  constructor(options: MeterOptions) {
    this.#options = options;
  }

  /** For one instance of the Function. @param history told what its invocations compute */
  ofInstance(manifest: Manifest, spec: FunctionSpec, history: Pick<FunctionHistory, "tookCpuMs">): InstanceMeter {
    const { clock } = this.#options;
    return new InstanceMeter(clock, spec.memoryMB / 1024, (timestampMs, amounts) => {
      if (amounts.cpuMs !== null && amounts.invocations > 0) history.tookCpuMs(amounts.cpuMs, amounts.invocations);
      this.#record(manifest, spec, timestampMs, amounts);
    });
  }

  /** A call has failed: counted here, unless an instance was given it and has counted it. */
  failed({ invocation, metered }: Call, error: MayflyError): void {
    if (metered || !ownFailures.has(error.code)) return;
    this.#record(invocation.manifest, invocation.spec, this.#options.clock.now(), { ...nothing, invocations: 1, errors: 1 });
  }

  #record({ teamId, projectId, deploymentId }: Manifest, { name }: FunctionSpec, timestampMs: number, amounts: UsageAmounts): void {
    const record: UsageRecord = { teamId, projectId, deploymentId, functionName: name, timestampMs, ...amounts };
    this.#options.usage.append([record]);
  }
}

type Record = (timestampMs: number, amounts: UsageAmounts) => void;

/**
 * A window is open from a request's begin until its figures are handed on; while requests come, one follows another.
 * No window crosses a minute.
 */
export class InstanceMeter {
  readonly #clock: Clock;
  readonly #memoryGB: number;
  readonly #record: Record;
  #sandbox: Pick<Sandbox, "usage"> | undefined;
  /** CPU time at the last reading; undefined before the first, null when there is none to be had. */
  #cpuMs: number | null | undefined;
  /** The first reading has begun: of what boot and load took. */
  #hasBaseline = false;
  /** Readings follow each other. */
  #reading: Promise<unknown> = Promise.resolve();

  #window: { readonly timestampMs: number; readonly cancel: () => void } | undefined;
  #invocations = 0;
  #errors = 0;
  #coldStarts = 0;
  #wallMs = 0;
  /** Since when the time of the request in hand is not in {@link #wallMs}. */
  #sinceMs: number | undefined;
  #failing = false;

  constructor(clock: Clock, memoryGB: number, record: Record) {
    this.#clock = clock;
    this.#memoryGB = memoryGB;
    this.#record = record;
  }

  /**
   * The instance was given a request, and it has been sent: it costs.
   * @param sentMs since when, by `performance.now()`: before the first byte left, as the instance may run on at once.
   */
  begin(sandbox: Pick<Sandbox, "usage">, cold: boolean, sentMs: number): void {
    if (this.#sandbox === undefined) {
      this.#sandbox = sandbox;
      this.#clock.after(baselineMs, () => this.#readBaseline());
    }
    this.#invocations++;
    if (cold) this.#coldStarts++;
    this.#failing = false;
    this.#sinceMs = sentMs;
    if (this.#window === undefined) this.#openWindow();
  }

  /** The invocation in hand counts as an error. */
  fail(): void {
    if (this.#sinceMs === undefined || this.#failing) return;
    this.#failing = true;
    this.#errors++;
  }

  /** Nothing of the invocation is pending, or the instance is retired: it costs no more. No effect when none is in hand. */
  end(): void {
    if (this.#sinceMs === undefined) return;
    this.#addWall();
    this.#sinceMs = undefined;
    this.#readBaseline();
  }

  /** Hands on what is left. After the sandbox has ended, when a driver knows all that it used. */
  async close(): Promise<void> {
    this.end();
    this.#closeWindow();
    await this.#reading;
  }

  #openWindow(): void {
    const timestampMs = this.#clock.now();
    const cancel = this.#clock.after(Math.min(windowMs, minuteMs - (timestampMs % minuteMs)), () => {
      this.#addWall();
      this.#closeWindow();
      if (this.#sinceMs !== undefined) this.#openWindow();
    });
    this.#window = { timestampMs, cancel };
  }

  #closeWindow(): void {
    if (this.#window === undefined) return;
    const { timestampMs, cancel } = this.#window;
    cancel();
    this.#window = undefined;
    this.#readBaseline();
    const wallMs = this.#wallMs;
    const amounts = {
      invocations: this.#invocations,
      errors: this.#errors,
      coldStarts: this.#coldStarts,
      wallMs,
      gbSeconds: (this.#memoryGB * wallMs) / 1000,
    };
    this.#invocations = this.#errors = this.#coldStarts = this.#wallMs = 0;
    this.#reading = this.#reading.then(async () => this.#record(timestampMs, { ...amounts, cpuMs: await this.#readCpu() }));
  }

  #readBaseline(): void {
    if (this.#hasBaseline) return;
    this.#hasBaseline = true;
    this.#reading = this.#readCpu();
  }

  #addWall(): void {
    if (this.#sinceMs === undefined) return;
    const nowMs = performance.now();
    this.#wallMs += nowMs - this.#sinceMs;
    this.#sinceMs = nowMs;
  }

  /** @returns milliseconds since the last reading; null when they cannot be told. Never throws. */
  async #readCpu(): Promise<number | null> {
    const before = this.#cpuMs;
    if (before === null) return null;
    try {
      const { cpuMs } = await this.#sandbox!.usage();
      // A guest that has booted has used some: a driver that says 0 cannot measure it.
      this.#cpuMs = cpuMs > 0 ? cpuMs : null;
    } catch {
      this.#cpuMs = null;
    }
    return this.#cpuMs === null ? null : Math.max(0, this.#cpuMs - (before ?? this.#cpuMs));
  }
}
