/**
 * Kept answers that are only the beginning of one (partial prerendering): the state in which the rendering was left, then the
 * shell that every client is given at once. A Function goes on from there for each request, with that request's own cookies.
 * Invariant: the state never leaves for a client, and what completes a shell is never kept.
 */
import type { KeptAnswer } from "./cache-store.ts";

export interface PartialAnswer {
  readonly status: number;
  /** Flat; those of the whole answer. */
  readonly headers: readonly string[];
  /** Empty: the Function's answer is all of it. */
  readonly shell: Buffer;
  /** Opaque: only the Function that made it can read it. */
  readonly state: Buffer;
}

/** `application/x-nextjs-pre-render; state-length=123; origin="text/html"`, as Next.js and its builder write it. */
const partialType = /^application\/x-nextjs-pre-render\s*;\s*state-length=(\d{1,10})\s*;\s*origin="((?:[^"\\]|\\.)*)"$/i;
/** What Next.js itself says of a page that is completed for each request. */
const oneClients = "private, no-cache, no-store, max-age=0, must-revalidate";

export const isPartial = ({ headers }: Pick<KeptAnswer, "headers">): boolean => partialType.test(headerOf(headers, "content-type"));

/** @returns null when it is whole @throws RangeError when its state is longer than it */
export function partialAnswer({ status, headers, body }: KeptAnswer): PartialAnswer | null {
  const found = partialType.exec(headerOf(headers, "content-type"));
  if (found === null) return null;
  const stateBytes = Number(found[1]);
  if (stateBytes > body.length)
    throw new RangeError(`A kept answer has ${body.length} bytes and should begin with ${stateBytes} of state.`);
  const whole = ["content-type", found[2]!.replaceAll(/\\(.)/g, "$1"), "cache-control", oneClients];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]!;
    // No validator fits: of two answers only the beginning is the same.
    if (name !== "content-type" && name !== "cache-control" && name !== "etag" && name !== "last-modified")
      whole.push(name, headers[index + 1]!);
  }
  return { status, headers: whole, shell: body.subarray(stateBytes), state: body.subarray(0, stateBytes) };
}

function headerOf(headers: readonly string[], name: string): string {
  for (let index = 0; index < headers.length; index += 2) if (headers[index] === name) return headers[index + 1]!;
  return "";
}
