/**
 * Answers with a static file. Files are named by their digest, so what is in memory is true for ever and an ETag costs
 * nothing; small files are held in memory, larger ones stream from the blobs at the client's pace.
 */
import { once } from "node:events";
import { posix } from "node:path";
import { contentType } from "mime-types";
import type { BlobRange, BlobStore } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Digest, StaticOutput } from "../model.ts";
import type { Exchange } from "./exchange.ts";
import { Lru } from "./lru.ts";
import { clientCacheControl, isEdgeHeader } from "./freshness.ts";
import { changeHeaders, type HeaderChange, type RouteHeader } from "./route.ts";
import { matchesEtag, parseRange } from "./validators.ts";

/** What routing says of the answer. */
export interface StaticAnswer {
  readonly output: StaticOutput;
  /** Output path: gives type and name. */
  readonly path: string;
  /** Not 200: an error page. */
  readonly status?: number;
  readonly headers: readonly RouteHeader[];
  readonly responseChanges?: readonly HeaderChange[];
  /** More headers of the platform's, flat. */
  readonly platformHeaders?: readonly string[];
}

export class StaticFiles {
  readonly #blobs: Pick<BlobStore, "read" | "open">;
  readonly #fileBytesMax: number;
  readonly #memory: Lru<Digest, Buffer>;
  /** Reads under way, so that a burst reads a file once. */
  readonly #reading = new Map<Digest, Promise<Buffer>>();

  constructor(blobs: Pick<BlobStore, "read" | "open">, config: Pick<Config, "staticMemoryBytesMax" | "staticFileMemoryBytesMax">) {
    this.#blobs = blobs;
    this.#fileBytesMax = Math.min(config.staticFileMemoryBytesMax, config.staticMemoryBytesMax);
    this.#memory = new Lru(config.staticMemoryBytesMax);
  }

  /** @throws MayflyError METHOD_NOT_ALLOWED, RANGE_NOT_SATISFIABLE, or the blobs' own, all before anything is sent */
  async answer(exchange: Exchange, answer: StaticAnswer): Promise<void> {
    const isError = answer.status !== undefined && answer.status >= 400;
    const isHead = exchange.method === "HEAD";
    // An error page answers whatever method the failed request had.
    if (exchange.method !== "GET" && !isHead && !isError) throw new MayflyError("METHOD_NOT_ALLOWED");
    const { digest, size } = answer.output.file;
    const etag = `"${digest}"`;
    const headers = fileHeaders(answer, etag);

    const plain = answer.status === undefined || answer.status === 200;
    if (plain && matchesEtag(exchange.header("if-none-match"), etag)) {
      exchange.head(304, without(headers, "content-disposition", "content-type"));
      exchange.end();
      return;
    }
    const ifRange = exchange.header("if-range");
    const asked = plain && !isHead && (ifRange === undefined || ifRange === etag) ? exchange.header("range") : undefined;
    const range = asked === undefined ? null : parseRange(asked, size);
    if (range === "unsatisfiable") throw new MayflyError("RANGE_NOT_SATISFIABLE", undefined, { details: { size } });

    let status = answer.status ?? 200;
    if (range !== null) {
      status = 206;
      headers.push("content-range", `bytes ${range.start}-${range.end}/${size}`);
    }
    headers.push("content-length", String(range === null ? size : range.end - range.start + 1));
    if (isHead || status === 204 || status === 304) {
      exchange.head(status, headers);
      exchange.end();
    } else if (size <= this.#fileBytesMax) {
      const bytes = this.#memory.get(digest) ?? (await this.#read(digest));
      exchange.head(status, headers);
      exchange.end(range === null ? bytes : bytes.subarray(range.start, range.end + 1));
    } else {
      await this.#stream(exchange, status, headers, digest, range);
    }
  }

  #read(digest: Digest): Promise<Buffer> {
    const running = this.#reading.get(digest);
    if (running !== undefined) return running;
    const reading = this.#blobs.read(digest).then((bytes) => {
      this.#memory.set(digest, bytes, bytes.length);
      return bytes;
    });
    this.#reading.set(digest, reading);
    const forget = (): void => void this.#reading.delete(digest);
    reading.then(forget, forget);
    return reading;
  }

  async #stream(exchange: Exchange, status: number, headers: readonly string[], digest: Digest, range: BlobRange | null): Promise<void> {
    const source = this.#blobs.open(digest, range ?? undefined);
    // An absent blob must be known before the head says 200.
    await once(source, "readable");
    exchange.head(status, headers);
    await exchange.pipe(source);
  }
}

/** The platform's headers of a file; routes override all but what frames the message. */
function fileHeaders(answer: StaticAnswer, etag: string): string[] {
  const defaults: Record<string, string> = {
    "content-type": typeOf(answer.output.contentType, answer.path),
    "content-disposition": disposition(posix.basename(answer.path)),
    "cache-control": "public, max-age=0, must-revalidate",
    etag,
    "accept-ranges": "bytes",
    "x-vercel-cache": "HIT",
  };
  const cookies: string[] = [];
  for (const { name, value } of answer.headers) {
    if (name === "set-cookie") cookies.push(name, value);
    else if (!isEdgeHeader(name)) defaults[name] = name === "cache-control" ? clientCacheControl(value) : value;
  }
  const headers = [...Object.entries(defaults).flat(), ...cookies];
  const changed = answer.responseChanges === undefined ? headers : changeHeaders(headers, answer.responseChanges);
  return [...changed, ...(answer.platformHeaders ?? [])];
}

function typeOf(override: string | undefined, path: string): string {
  if (override !== undefined) return (override.includes(";") ? false : contentType(override)) || override;
  return contentType(posix.extname(path)) || "application/octet-stream";
}

/** RFC 6266: a plain name for old clients, the real one where it differs. */
function disposition(name: string): string {
  const plain = name.replaceAll(/[^\u0020-\u007e]|["\\%]/g, "_");
  const extended = encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `inline; filename="${plain}"${plain === name ? "" : `; filename*=UTF-8''${extended}`}`;
}

function without(headers: readonly string[], ...names: readonly string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    if (!names.includes(headers[index]!)) kept.push(headers[index]!, headers[index + 1]!);
  }
  return kept;
}
