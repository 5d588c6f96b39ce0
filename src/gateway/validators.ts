/** Conditional and range requests (RFC 9110 §13, §14): what a client has already, and which part it wants. Pure. */
import type { BlobRange } from "../blobs/blob-store.ts";

/** RFC 9110 §13.1.2: weak comparison. */
export function matchesEtag(ifNoneMatch: string | undefined, etag: string | undefined): boolean {
  if (ifNoneMatch === undefined || etag === undefined) return false;
  const plain = etag.replace(/^W\//, "");
  return ifNoneMatch.trim() === "*" || ifNoneMatch.split(",").some((tag) => tag.trim().replace(/^W\//, "") === plain);
}

/**
 * One range of bytes; null: answer with the whole (RFC 9110 §14.2 lets us): another unit, nonsense, or several ranges. No
 * browser, player or download manager needs those in one answer, and many that overlap would multiply a body (§17.15).
 */
export function parseRange(header: string, size: number): BlobRange | "unsatisfiable" | null {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header.trim());
  if (match === null || (match[1] === "" && match[2] === "")) return null;
  const first = match[1] === "" ? null : Number(match[1]);
  const last = match[2] === "" ? null : Number(match[2]);
  if (first === null) {
    if (last === 0 || size === 0) return "unsatisfiable";
    return { start: Math.max(0, size - last!), end: size - 1 };
  }
  if (last !== null && last < first) return null;
  if (first >= size) return "unsatisfiable";
  return { start: first, end: Math.min(last ?? size - 1, size - 1) };
}
