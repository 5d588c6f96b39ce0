/**
 * SEAM between gateway and pools: what the gateway asks of a node's Functions. `pools.ts` is the implementation; a later
 * one may forward to another node.
 */
import type { Readable } from "node:stream";
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
  readonly body: Readable | null;
  /** Aborted when the client has gone: the invocation is then cut off. */
  readonly signal: AbortSignal;
}

export interface InvocationResponse {
  readonly status: number;
  /** Flat: name, value, …; hop-by-hop headers are already gone. */
  readonly headers: readonly string[];
  /** The caller reads it to its end or destroys it; it errors when the Function dies in the middle. */
  readonly body: Readable;
  /** `cold`: a new instance was booted for it; `warm`: an idle one was thawed; `hot`: one was re-used before it froze. */
  readonly start: "cold" | "warm" | "hot";
  /** Milliseconds by step, for `Server-Timing`: `queue`, `boot`, `thaw`, … */
  readonly timings: Readonly<Record<string, number>>;
}

export interface Functions {
  /**
   * Runs one invocation; resolves with the head of its response.
   * @throws MayflyError FUNCTION_INVOCATION_FAILED, FUNCTION_OUT_OF_MEMORY, FUNCTION_RESPONSE_INVALID,
   * NO_RESPONSE_FROM_FUNCTION, FUNCTION_INVOCATION_TIMEOUT, FUNCTION_THROTTLED, FUNCTION_UNAVAILABLE, SHUTTING_DOWN
   */
  invoke(invocation: Invocation): Promise<InvocationResponse>;
  /** Retires every instance; running invocations may finish within `drainMs`. */
  close(drainMs: number): Promise<void>;
}
