/**
 * What one node says to another when it hands a request on: headers that only a holder of the shared secret can write.
 * Invariant: a hop is taken for one only if method, target, headers and time are exactly those that were signed.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

/** Names of the hop's own headers; clients' are stripped with all else that begins with `x-mayfly-`. */
export const hopNames = {
  /** Request: the signed statement. Response: region of the node that ran it. */
  hop: "x-mayfly-hop",
  /** Request: the `host` that the Function sees. */
  host: "x-mayfly-hop-host",
  /** Response: `{"start","timings"}` of an answer, `{"code","message","details"}` of a failure. */
  result: "x-mayfly-hop-result",
} as const;

/** A statement is believed for so long: nodes' clocks may differ, and a recorded one must not serve for ever. */
const validMs = 60_000;

export interface Hop {
  /** The request id. */
  readonly id: string;
  readonly functionId: string;
  /** Region of the node where the request came in. */
  readonly from: string;
}

export interface HopRequest {
  readonly method: string;
  readonly target: string;
  /** Flat, names lower-case; without the hop's own and without what frames the message. */
  readonly headers: readonly string[];
}

/** @returns the value of `x-mayfly-hop` */
export function signHop(secret: string, hop: Hop, request: HopRequest, nowMs: number): string {
  const statement = Buffer.from(JSON.stringify([hop.id, hop.functionId, hop.from, nowMs])).toString("base64url");
  return `${statement}.${digest(secret, statement, request).toString("base64url")}`;
}

/** null: not from a node of ours, or too old. */
export function readHop(secret: string, value: string, request: HopRequest, nowMs: number): Hop | null {
  const [statement = "", signature = "", ...more] = value.split(".");
  const expected = digest(secret, statement, request);
  const given = Buffer.from(signature, "base64url");
  if (more.length > 0 || given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
  const [id, functionId, from, atMs] = JSON.parse(Buffer.from(statement, "base64url").toString()) as [string, string, string, number];
  return Math.abs(nowMs - atMs) <= validMs ? { id, functionId, from } : null;
}

function digest(secret: string, statement: string, { method, target, headers }: HopRequest): Buffer {
  return createHmac("sha256", secret)
    .update(JSON.stringify([statement, method, target, headers]))
    .digest();
}
