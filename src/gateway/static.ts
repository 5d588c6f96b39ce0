/**
 * Answers with a static file. Files are named by their digest, so what is in memory is true for ever and an ETag costs
 * nothing; small files and their compressed variants are held in memory, larger ones stream from the blobs at the client's
 * pace.
 */
import { once } from "node:events";
import { posix } from "node:path";
import { contentType } from "mime-types";
import type { BlobRange, BlobStore } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Digest, StaticOutput } from "../model.ts";
import { isAgainstCompression, isCompressible, negotiate, type Coding } from "./content-coding.ts";
import type { Exchange } from "./exchange.ts";
import { Lru } from "./lru.ts";
import { clientCacheControl, isEdgeHeader, revalidateAlways } from "./freshness.ts";
import { changeHeaders, type HeaderChange } from "./header-change.ts";
import { PreparedHead } from "./prepared-head.ts";
import type { RouteHeader } from "./route.ts";
import type { SettledAnswer } from "./settled.ts";
import { matchesEtag, parseRange } from "./validators.ts";
import { Compressor } from "./variants.ts";

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

/** What is the same for every answer with a file. */
interface FileFacts {
  readonly type: string;
  readonly disposition: string;
  readonly isCompressible: boolean;
}

/** Of a file as it is, or of a variant. */
interface SettledHeads {
  readonly etag: string;
  readonly whole: PreparedHead;
  readonly unchanged: PreparedHead;
}

export class StaticFiles {
  readonly #blobs: Pick<BlobStore, "read" | "open">;
  readonly #fileBytesMax: number;
  /** By digest, and by {@link variantName}; an empty buffer stands for a variant that is no smaller. */
  readonly #memory: Lru<string, Buffer>;
  readonly #compressor = new Compressor();
  readonly #facts = new WeakMap<StaticOutput, FileFacts>();
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
    const facts = this.#factsOf(answer);
    const plain = answer.status === undefined || answer.status === 200;
    const rangeAsked = plain && !isHead ? exchange.header("range") : undefined;

    const isCompressible = this.#varies(answer, facts);
    // A range is of the file as it is.
    const coding = isCompressible && rangeAsked === undefined ? negotiate(exchange.header("accept-encoding")) : null;
    const variant = coding === null ? null : (this.#variant(digest, coding) ?? (await this.#makeVariant(digest, coding)));
    const etag = variant === null ? `"${digest}"` : `"${variantName(digest, coding!)}"`;
    const headers = fileHeaders(answer, facts, etag, isCompressible, variant === null ? null : coding);

    if (plain && matchesEtag(exchange.header("if-none-match"), etag)) {
      exchange.head(304, unchangedHeaders(headers));
      return exchange.end();
    }
    const ifRange = exchange.header("if-range");
    const range = rangeAsked === undefined || (ifRange !== undefined && ifRange !== etag) ? null : parseRange(rangeAsked, size);
    if (range === "unsatisfiable") throw new MayflyError("RANGE_NOT_SATISFIABLE", undefined, { details: { size } });

    let status = answer.status ?? 200;
    if (range !== null) {
      status = 206;
      headers.push("content-range", `bytes ${range.start}-${range.end}/${size}`);
    }
    headers.push("content-length", String(variant?.length ?? (range === null ? size : range.end - range.start + 1)));
    if (isHead || status === 204 || status === 304) {
      exchange.head(status, headers);
      exchange.end();
    } else if (size <= this.#fileBytesMax) {
      const bytes = variant ?? this.#memory.get(digest) ?? (await this.#read(digest));
      exchange.head(status, headers);
      exchange.end(range === null ? bytes : bytes.subarray(range.start, range.end + 1));
    } else {
      await this.#stream(exchange, status, headers, digest, range);
    }
  }

  /** The answer to every GET of this file; null: it is not for every GET, or too large to be held. */
  settle(answer: StaticAnswer): SettledAnswer | null {
    const { digest, size } = answer.output.file;
    if (answer.status !== undefined || size > this.#fileBytesMax) return null;
    const facts = this.#factsOf(answer);
    const varies = this.#varies(answer, facts);
    const heads = new Map<string, SettledHeads>();
    return {
      give: (exchange) => {
        if (exchange.header("range") !== undefined) return false;
        const coding = varies ? negotiate(exchange.header("accept-encoding")) : null;
        const variant = coding === null ? null : this.#variant(digest, coding);
        if (variant === undefined) return false;
        const name = variant === null ? digest : variantName(digest, coding!);
        const body = variant ?? this.#memory.get(digest);
        if (body === undefined) return false;
        let head = heads.get(name);
        if (head === undefined) {
          const etag = `"${name}"`;
          const headers = [...fileHeaders(answer, facts, etag, varies, variant === null ? null : coding), "server-timing", "settled"];
          head = { etag, whole: new PreparedHead(200, headers), unchanged: new PreparedHead(304, unchangedHeaders(headers)) };
          heads.set(name, head);
        }
        exchange.answeredBy = "static";
        exchange.cache = "HIT";
        if (matchesEtag(exchange.header("if-none-match"), head.etag)) exchange.give(head.unchanged, nothing, null);
        else exchange.give(head.whole, body, null);
        return true;
      },
    };
  }

  /** Whether there are compressed variants of the answer. */
  #varies({ output, headers }: StaticAnswer, facts: FileFacts): boolean {
    return (
      facts.isCompressible &&
      output.file.size <= this.#fileBytesMax &&
      !headers.some(({ name, value }) => isAgainstCompression(name, value))
    );
  }

  #factsOf({ output, path }: StaticAnswer): FileFacts {
    let facts = this.#facts.get(output);
    if (facts === undefined) {
      const type = typeOf(output.contentType, path);
      facts = { type, disposition: disposition(posix.basename(path)), isCompressible: isCompressible(type, output.file.size) };
      this.#facts.set(output, facts);
    }
    return facts;
  }

  /** undefined: not made yet; null: it is no smaller than the file. */
  #variant(digest: Digest, coding: Coding): Buffer | null | undefined {
    const variant = this.#memory.get(variantName(digest, coding));
    return variant?.length === 0 ? null : variant;
  }

  async #makeVariant(digest: Digest, coding: Coding): Promise<Buffer | null> {
    const name = variantName(digest, coding);
    const known = this.#memory.get(name);
    if (known !== undefined) return known.length === 0 ? null : known;
    let isRead = false;
    const variant = await this.#compressor.make(name, coding, async () => {
      const bytes = this.#memory.get(digest) ?? (await this.#read(digest));
      isRead = true;
      return bytes;
    });
    if (variant !== null) this.#memory.set(name, variant, variant.length);
    else if (isRead) this.#memory.set(name, nothing, 1);
    return variant;
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

const nothing = Buffer.alloc(0);

function variantName(digest: Digest, coding: Coding): string {
  return `${digest}-${coding}`;
}

/** The platform's headers of a file; routes override all but what frames the message. */
function fileHeaders(answer: StaticAnswer, facts: FileFacts, etag: string, varies: boolean, coding: Coding | null): string[] {
  const defaults: Record<string, string> = {
    "content-type": facts.type,
    "content-disposition": facts.disposition,
    "cache-control": revalidateAlways,
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
  if (coding !== null) headers.push("content-encoding", coding);
  if (varies) headers.push("vary", "accept-encoding");
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

const ofBody = new Set(["content-disposition", "content-type", "content-encoding"]);

/** What a 304 says again (RFC 9110 §15.4.5). */
function unchangedHeaders(headers: readonly string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    if (!ofBody.has(headers[index]!)) kept.push(headers[index]!, headers[index + 1]!);
  }
  return kept;
}
