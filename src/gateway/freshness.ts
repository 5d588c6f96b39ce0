/**
 * Whether a Function's answer may be kept, for how long, and what of its head clients see. Pure; after RFC 9111 (caching),
 * RFC 5861 (stale-while-revalidate, stale-if-error) and RFC 9213 (targeted fields), narrowed to what Vercel's CDN does:
 * only `s-maxage`, or a `CDN-Cache-Control` of any kind, lets the edge keep an answer. Invariant: what one client may see
 * and another may not is never kept.
 */

/** How long an answer lives, in milliseconds from its making. */
export interface Lifetime {
  /** Given without a question. */
  readonly freshMs: number;
  /** After that: given, while it is made anew. */
  readonly staleMs: number;
  /** After that it was fresh: given, when making it anew fails. */
  readonly errorMs: number;
}

export interface Storable extends Lifetime {
  /** Request headers that tell answers at one address apart: lower-case, sorted. */
  readonly vary: readonly string[];
  readonly tags: readonly string[];
}

/** A year: longer lives are cut. */
const secondsMax = 31_536_000;
const varyMax = 16;
const tagsMax = 128;
const tagCharsMax = 256;

const keptStatuses = new Set([200, 301, 302, 307, 308, 404, 410]);
const tagNames = new Set(["vercel-cache-tag", "x-vercel-cache-tags", "x-next-cache-tags"]);
/** For the edge alone, or the record of one hop. */
const edgeNames = new Set([...tagNames, "vercel-cdn-cache-control", "age", "x-vercel-cache"]);

/** Whether the answer to such a request may come from what is kept, and be kept. */
export function isCacheableRequest(request: { readonly method: string; header(name: string): string | undefined }): boolean {
  return (
    (request.method === "GET" || request.method === "HEAD") &&
    request.header("authorization") === undefined &&
    request.header("range") === undefined &&
    request.header("upgrade") === undefined
  );
}

/** null: it must not be kept. @param headers flat, names lower-case */
export function storable(status: number, headers: readonly string[]): Storable | null {
  if (!keptStatuses.has(status)) return null;
  const control = controlOf(headers);
  if (control === null) return null;
  const { directives, targeted } = control;
  for (const forbidden of ["private", "no-store", "no-cache"]) if (directives.has(forbidden)) return null;
  const age = seconds(valueOf(headers, "age"));
  const seen = directives.get("s-maxage") ?? (targeted ? directives.get("max-age") : undefined);
  const fresh = Math.max(0, seconds(seen) - age);
  if (seen === undefined || fresh === 0) return null;
  if (valueOf(headers, "set-cookie") !== undefined || valueOf(headers, "content-range") !== undefined) return null;
  const vary = varyOf(headers);
  if (vary === null) return null;
  const revalidated = directives.has("must-revalidate") && targeted ? true : directives.has("proxy-revalidate");
  const stale = directives.get("stale-while-revalidate");
  return {
    freshMs: fresh * 1000,
    // Without a number Next.js means "for ever".
    staleMs: revalidated ? 0 : (stale === "" ? secondsMax : seconds(stale)) * 1000,
    errorMs: revalidated ? 0 : seconds(directives.get("stale-if-error")) * 1000,
    vary,
    tags: tagsOf(headers),
  };
}

/** For how long the answer says that it is fresh, whoever is told so. @param headers flat, names lower-case */
export function maxAgeMs(headers: readonly string[]): number {
  const directives = controlOf(headers)?.directives;
  return seconds(directives?.get("s-maxage") ?? directives?.get("max-age")) * 1000;
}

/** The request headers that an answer depends on; null: on more than can be told. */
export function varyOf(headers: readonly string[]): readonly string[] | null {
  const names = new Set<string>();
  for (const value of valuesOf(headers, "vary")) {
    for (const part of value.toLowerCase().split(",")) {
      const name = part.trim();
      if (name === "*") return null;
      if (name !== "") names.add(name);
    }
  }
  // An encoded body is only for those who read the encoding, said or not.
  if (valueOf(headers, "content-encoding") !== undefined) names.add("accept-encoding");
  return names.size > varyMax ? null : [...names].sort();
}

export function tagsOf(headers: readonly string[]): readonly string[] {
  const tags = new Set<string>();
  for (let index = 0; index < headers.length; index += 2) {
    if (!tagNames.has(headers[index]!)) continue;
    for (const part of headers[index + 1]!.split(",")) {
      const tag = part.trim();
      if (tag !== "" && tag.length <= tagCharsMax && tags.size < tagsMax) tags.add(tag);
    }
  }
  return [...tags];
}

/** One value for all spellings that a server would answer alike. */
export function varyValue(name: string, value: string | undefined): string {
  if (value === undefined) return "";
  if (name !== "accept-encoding") return value;
  const codings = value
    .toLowerCase()
    .split(",")
    .map((part) => part.trim())
    .filter((part) => !/;\s*q=0(?:\.0*)?$/.test(part))
    .map((part) => part.split(";", 1)[0]!)
    .filter((coding) => ["br", "gzip", "zstd", "deflate", "*"].includes(coding));
  return [...new Set(codings)].sort().join(",");
}

/** Whether a Function says it to the edge alone. */
export function isEdgeHeader(name: string): boolean {
  return edgeNames.has(name);
}

/** What a browser may do with an answer whose edge lifetime is the edge's business. */
export const revalidateAlways = "public, max-age=0, must-revalidate";

/** A `cache-control` as clients see it: without what was said to the edge. */
export function clientCacheControl(value: string): string {
  if (!/s-maxage|stale-while-revalidate/i.test(value)) return value;
  const kept = value
    .split(",")
    .map((part) => part.trim())
    .filter((part) => !/^(?:s-maxage|stale-while-revalidate|stale-if-error)(?:\s*=|$)/i.test(part));
  return kept.some((part) => /^(?:max-age|no-store|no-cache|private)\b/i.test(part)) ? kept.join(", ") : revalidateAlways;
}

/** The directives that count for the edge, by precedence (RFC 9213 §2.2); null: none. `targeted`: they were said to CDNs. */
function controlOf(headers: readonly string[]): { readonly directives: ReadonlyMap<string, string>; readonly targeted: boolean } | null {
  for (const name of ["vercel-cdn-cache-control", "cdn-cache-control", "cache-control"]) {
    const values = valuesOf(headers, name);
    if (values.length > 0) return { directives: parseDirectives(values.join(",")), targeted: name !== "cache-control" };
  }
  return null;
}

/** Of a directive that comes twice the first counts (RFC 9111 §4.2.1). */
function parseDirectives(value: string): ReadonlyMap<string, string> {
  const directives = new Map<string, string>();
  for (const match of value.matchAll(/([\w-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s,"]*)))?/g)) {
    const name = match[1]!.toLowerCase();
    if (!directives.has(name)) directives.set(name, match[2] ?? match[3] ?? "");
  }
  return directives;
}

function seconds(text: string | undefined): number {
  return text !== undefined && /^\d+$/.test(text.trim()) ? Math.min(Number(text), secondsMax) : 0;
}

function valueOf(headers: readonly string[], name: string): string | undefined {
  for (let index = 0; index < headers.length; index += 2) if (headers[index] === name) return headers[index + 1];
  return undefined;
}

function valuesOf(headers: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let index = 0; index < headers.length; index += 2) if (headers[index] === name) values.push(headers[index + 1]!);
  return values;
}

// ── how old ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * ```
 * fresh ──freshMs──▶ stale ──staleMs──▶ (failing: errorMs) ──▶ gone
 * ```
 * `stale`: give it and make it anew; `failing`: make it anew, give it only when that fails; `gone`: of no use.
 */
export type Age = "fresh" | "stale" | "failing" | "gone";

/** @param agedMs since it was made */
export function ageOf(lifetime: Lifetime, agedMs: number): Age {
  if (agedMs < lifetime.freshMs) return "fresh";
  const staleMs = agedMs - lifetime.freshMs;
  if (staleMs < lifetime.staleMs) return "stale";
  return staleMs < lifetime.errorMs ? "failing" : "gone";
}
