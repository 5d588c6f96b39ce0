/**
 * Which content coding an answer gets (RFC 9110 §8.4, §12.5.3), static file or Function's, and what its head then says.
 * Pure. Invariant: an answer that says of itself how it is coded, or that nobody may touch it, is left as it is.
 */
import { Lru } from "./lru.ts";

export type Coding = "br" | "zstd" | "gzip";

/** Between equal weights the smaller result wins. */
const preferred: readonly Coding[] = ["br", "zstd", "gzip"];
/** Below this a head is larger than what is saved. */
const bytesMin = 512;

/** Whether compressing content of this type and size pays. */
export function isCompressible(contentType: string, size: number): boolean {
  if (size < bytesMin) return false;
  return /^(?:text\/|application\/(?:[\w.-]+\+)?(?:json|xml)|application\/(?:javascript|x-javascript|wasm|manifest|ld|rtf|vnd\.ms-fontobject|x-font)|image\/(?:svg|bmp|x-icon|vnd\.microsoft\.icon)|font\/(?:ttf|otf)|model\/)/i.test(
    contentType,
  );
}

/** What was negotiated for the values that browsers and tools send: a few, again and again. */
const negotiated = new Lru<string, Coding | null>(256);
/** Longer values are rare, and not remembered. */
const rememberedCharsMax = 100;

/** null: as it is. A client that refuses even that gets it all the same. */
export function negotiate(acceptEncoding: string | undefined): Coding | null {
  if (acceptEncoding === undefined || acceptEncoding === "") return null;
  const known = negotiated.get(acceptEncoding);
  if (known !== undefined) return known;
  const coding = weigh(acceptEncoding);
  if (acceptEncoding.length <= rememberedCharsMax) negotiated.set(acceptEncoding, coding);
  return coding;
}

function weigh(acceptEncoding: string): Coding | null {
  const weights = new Map<string, number>();
  for (const part of acceptEncoding.toLowerCase().split(",", 50)) {
    const [name = "", ...parameters] = part.split(";").map((text) => text.trim());
    const weight = parameters.find((parameter) => /^q\s*=/.test(parameter));
    const q = weight === undefined ? 1 : Number(weight.slice(weight.indexOf("=") + 1));
    if (!weights.has(name)) weights.set(name === "x-gzip" ? "gzip" : name, q >= 0 && q <= 1 ? q : 0);
  }
  let best: Coding | null = null;
  let bestWeight = 0;
  for (const coding of preferred) {
    const weight = weights.get(coding) ?? weights.get("*") ?? 0;
    if (weight > bestWeight) [best, bestWeight] = [coding, weight];
  }
  return best !== null && bestWeight >= (weights.get("identity") ?? 0) ? best : null;
}

/** Whether this header, by a Function or a route, keeps the edge from compressing: it is coded already, or a part, or must not be touched. */
export function isAgainstCompression(name: string, value: string): boolean {
  switch (name) {
    case "content-encoding":
    case "content-range":
    case "content-digest":
    case "content-md5":
    case "digest":
      return true;
    case "cache-control":
      return /\bno-transform\b/i.test(value);
    default:
      return false;
  }
}

/**
 * Whether a Function's answer may be compressed for clients that wish it. Event streams are not: their events are small,
 * and each of many that last for hours would hold a compressor's memory.
 * @param size null: the head's `content-length` says it, or nobody does
 */
export function mayBeCoded(status: number, headers: readonly string[], size: number | null): boolean {
  if (status < 200 || status === 204 || status === 205 || status === 206 || status === 304) return false;
  let type = "";
  let bytes = size ?? Infinity;
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]!;
    const value = headers[index + 1]!;
    if (isAgainstCompression(name, value)) return false;
    if (name === "content-type") type = value;
    else if (name === "content-length") bytes = Number(value);
  }
  return isCompressible(type, bytes) && !/^text\/event-stream/i.test(type);
}

/**
 * The head of an answer that {@link mayBeCoded}, flat.
 * @param coding null: it is given as it is to this client
 */
export function codedHeaders(headers: readonly string[], coding: Coding | null): string[] {
  const coded: string[] = [];
  let vary = "";
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]!;
    const value = headers[index + 1]!;
    if (name === "vary") vary = vary === "" ? value : `${vary}, ${value}`;
    else if (coding === null) coded.push(name, value);
    else if (name === "content-length" || name === "accept-ranges") continue;
    // Other bytes than the Function named (RFC 9110 §8.8.3.3); it still knows its own tag when it comes back.
    else if (name === "etag" && !value.startsWith("W/")) coded.push(name, `W/${value}`);
    else coded.push(name, value);
  }
  if (coding !== null) coded.push("content-encoding", coding);
  const isNamed = vary.split(",").some((name) => /^(?:accept-encoding|\*)$/i.test(name.trim()));
  coded.push("vary", isNamed ? vary : vary === "" ? "accept-encoding" : `${vary}, accept-encoding`);
  return coded;
}
