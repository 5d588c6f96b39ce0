/**
 * One invocation under way, from `invoke` until its response is through: what pool and instance hand to each other. Hides
 * from them whether anybody still wants the response. Invariant: its sink is told the end once at most, and nothing after it.
 *
 * ```
 * open ─▶ over      by the response's end, a failure or a cancel
 * ```
 */
import type { MayflyError } from "../errors.ts";
import type { Invocation, InvocationStart, ResponseSink, RunningInvocation } from "./functions.ts";

/** Whoever has a call in hand: a queue, an instance. */
export interface CallHolder {
  /** Nobody wants it any more. */
  canceled(call: Call): void;
  /** The sink takes more, after `data` said false. */
  resumed(call: Call): void;
}

export class Call implements RunningInvocation {
  readonly invocation: Invocation;
  readonly begunMs = performance.now();
  readonly timings: Record<string, number> = {};
  start: InvocationStart = "warm";
  /** An instance was given it, so that it counts. */
  metered = false;
  /** When it began to wait for an instance, by the pool's clock. */
  waitsSinceMs = 0;
  /** Not functions that are set anew: such fields keep dead calls alive (docs/decisions/012-young-garbage.md). */
  holder: CallHolder | null = null;
  readonly #sink: ResponseSink;
  readonly #onFail: (call: Call, error: MayflyError) => void;
  #over = false;
  #canceled = false;

  /** @param onFail told of a failure, before the sink is */
  constructor(invocation: Invocation, sink: ResponseSink, onFail: (call: Call, error: MayflyError) => void) {
    this.invocation = invocation;
    this.#sink = sink;
    this.#onFail = onFail;
  }

  /** Nobody waits for anything of it. */
  get over(): boolean {
    return this.#over;
  }

  head(status: number, headers: readonly string[]): void {
    if (!this.#over) this.#sink.head({ status, headers, start: this.start, timings: this.timings });
  }

  /** @returns false: no more until {@link CallHolder.resumed} */
  data(chunk: Buffer): boolean {
    return this.#over || this.#sink.data(chunk);
  }

  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#sink.end();
  }

  fail(error: MayflyError): void {
    if (this.#over) return;
    this.#onFail(this, error);
    this.#end(error);
  }

  /** As {@link fail}, when nothing was tried: it costs nothing. */
  refuse(error: MayflyError): void {
    if (!this.#over) this.#end(error);
  }

  #end(error: MayflyError): void {
    this.#over = true;
    // What fails at once fails after `invoke` has returned.
    queueMicrotask(() => {
      if (!this.#canceled) this.#sink.fail(error);
    });
  }

  resume(): void {
    if (!this.#over) this.holder?.resumed(this);
  }

  cancel(): void {
    this.#canceled = true;
    if (this.#over) return;
    this.#over = true;
    this.holder?.canceled(this);
  }
}
