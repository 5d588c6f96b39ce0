/**
 * What one node says to another when it hands a request on: headers that only a holder of the shared secret can write.
 * Invariant: a hop is taken for one only if method, target, headers and time are exactly those that were signed, and once.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../clock.ts";
import type { InvocationStart } from "../functions/functions.ts";
import { isFramingHeader } from "./headers.ts";
import { ReplayWindow } from "./replay-window.ts";

/** Names of the hop's own headers; clients' are stripped with all else that begins with `x-mayfly-`. */
export const hopNames = {
  /** Request: the signed statement. Response: region of the node that ran it. */
  hop: "x-mayfly-hop",
  /** Request: the `host` that the Function sees. */
  host: "x-mayfly-hop-host",
  /** Response: a {@link HopResult}. */
  result: "x-mayfly-hop-result",
} as const;

/** A statement is believed for so long: nodes' clocks may differ, and a recorded one must not serve for ever. */
const validMs = 60_000;

export interface Hop {
  /** The request id. */
  readonly id: string;
  /** Empty: it only asks whether the node is there. */
  readonly functionId: string;
  /** Region of the node where the request came in. */
  readonly from: string;
}

export interface HopRequest {
  readonly method: string;
  readonly target: string;
  /** Flat, names lower-case. What is the hop's own, or frames the message, is not looked at. */
  readonly headers: readonly string[];
}

/** Of an answer `start` and `timings`, of a failure the others. */
export interface HopResult {
  readonly start?: InvocationStart;
  readonly timings?: Readonly<Record<string, number>>;
  readonly code?: string;
  readonly message?: string;
  readonly details?: Record<string, unknown>;
}

/** Signs a node's statements, and checks those of the others. */
export class HopSeal {
  readonly #secret: string;
  readonly #clock: Pick<Clock, "now">;
  readonly #replays = new ReplayWindow();
  /** This start of this node, as others tell it from each other. */
  readonly #sender = randomBytes(9).toString("base64url");
  #number = 0;

  constructor(secret: string, clock: Pick<Clock, "now">) {
    this.#secret = secret;
    this.#clock = clock;
  }

  /** @returns the value of `x-mayfly-hop` */
  sign({ id, functionId, from }: Hop, request: HopRequest): string {
    const said = [id, functionId, from, this.#clock.now(), this.#sender, this.#number++];
    const statement = Buffer.from(JSON.stringify(said)).toString("base64url");
    return `${statement}.${this.#digest(statement, request).toString("base64url")}`;
  }

  /** null: not from a node of ours, too old, or heard before. */
  read(value: string, request: HopRequest): Hop | null {
    const [statement = "", signature = "", ...more] = value.split(".");
    const expected = this.#digest(statement, request);
    const given = Buffer.from(signature, "base64url");
    if (more.length > 0 || given.length !== expected.length || !timingSafeEqual(given, expected)) return null;
    type Said = [id: string, functionId: string, from: string, atMs: number, sender: string, number: number];
    const [id, functionId, from, atMs, sender, number] = JSON.parse(Buffer.from(statement, "base64url").toString()) as Said;
    const isNew = Math.abs(this.#clock.now() - atMs) <= validMs && this.#replays.take(sender, number);
    return isNew ? { id, functionId, from } : null;
  }

  #digest(statement: string, { method, target, headers }: HopRequest): Buffer {
    return createHmac("sha256", this.#secret)
      .update(JSON.stringify([statement, method, target, signedHeaders(headers)]))
      .digest();
  }
}

/** All but what each hop decides for itself. */
function signedHeaders(headers: readonly string[]): string[] {
  const signed: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!;
    if (name === hopNames.hop || (isFramingHeader(name) && name !== "host")) continue;
    signed.push(name, headers[index + 1]!);
  }
  return signed;
}

/** Flat headers of a response to a hop. */
export function resultHeaders(region: string, result: HopResult): string[] {
  return [hopNames.hop, region, hopNames.result, encodeURIComponent(JSON.stringify(result))];
}

/** null: whoever answered has not taken it for a hop. */
export function readResult(value: unknown): HopResult | null {
  if (typeof value !== "string") return null;
  try {
    return JSON.parse(decodeURIComponent(value)) as HopResult;
  } catch {
    return null;
  }
}
