/**
 * SEAM between gateway and pools: what the gateway asks of a node's Functions. `pools.ts` is the implementation; a later
 * one may forward to another node. Bytes pass through plain calls, since a Node stream, a promise or an abort signal for
 * each request costs more than the rest of its way (docs/decisions/003-plain-calls.md).
 */
import type { MayflyError } from "../errors.ts";
import type { FunctionSpec, Manifest } from "../model.ts";

export interface Invocation {
  /** The request id, which the client sees and the log lines carry. */
  readonly id: string;
  readonly manifest: Manifest;
  readonly spec: FunctionSpec;
  readonly method: string;
  /** Request target as the Function sees it: path and query. */
  readonly url: string;
  /** Names lower-case, in order, flat: name, value, name, value. Hop-by-hop headers are already gone. */
  readonly headers: readonly string[];
  /** null: no body. Its size is the gateway's to limit. */
  readonly body: BodySource | null;
  /**
   * The protocol that the client asks to go on with (`websocket`); it has a body then. When the Function agrees, the head has
   * status 101; from then on `data` is what it sends and the body, read only now, what the client sends, until either ends.
   */
  readonly upgrade?: string;
}

/** Bytes of a request on their way in. Nothing comes before `read`, which is called once at most. */
export interface BodySource {
  /** Chunks come from now on, maybe before it returns. */
  read(reader: BodyReader): void;
  /** A chunk that is under way may still come. */
  pause(): void;
  resume(): void;
}

/** After `onEnd` or `onError` nothing more is said. */
export interface BodyReader {
  /** The chunk is the reader's to keep. */
  onData(chunk: Buffer): void;
  onEnd(): void;
  /** The rest will not come. */
  onError(error: Error): void;
}

/** `cold`: a new instance was booted for it; `warm`: an idle one was thawed; `hot`: one was re-used before it froze. */
export type InvocationStart = "cold" | "warm" | "hot";

export interface ResponseHead {
  readonly status: number;
  /** Flat: name, value, …; names lower-case, checked, hop-by-hop headers are already gone. */
  readonly headers: readonly string[];
  readonly start: InvocationStart;
  /** Milliseconds by step, for `Server-Timing`: `queue`, `boot`, `thaw`, `function`. */
  readonly timings: Readonly<Record<string, number>>;
  /** Where it ran; absent: on this node. */
  readonly region?: string;
}

/**
 * Whoever takes a response: `head`, any number of `data`, `end`; or `fail`, instead of the head or of the end. Nothing
 * comes before `invoke` has returned, after `end` or `fail`, or after a cancel. None of these may throw.
 */
export interface ResponseSink {
  head(head: ResponseHead): void;
  /** @returns false: no more until `resume`; a little that is under way may still come */
  data(chunk: Buffer): boolean;
  end(): void;
  /**
   * @param error FUNCTION_INVOCATION_FAILED, FUNCTION_RESPONSE_INVALID, NO_RESPONSE_FROM_FUNCTION,
   * FUNCTION_INVOCATION_TIMEOUT, FUNCTION_THROTTLED, FUNCTION_UNAVAILABLE, BAD_REQUEST, SHUTTING_DOWN
   */
  fail(error: MayflyError): void;
}

/** An invocation that was begun. */
export interface RunningInvocation {
  /** After `data` was answered with false. */
  resume(): void;
  /** Nobody wants the rest: what runs is cut off. Without effect on what is through. */
  cancel(): void;
}

export interface Functions {
  /** Runs one invocation; never throws. */
  invoke(invocation: Invocation, sink: ResponseSink): RunningInvocation;
  /** Retires every instance; running invocations may finish within `drainMs`. */
  close(drainMs: number): Promise<void>;
}
