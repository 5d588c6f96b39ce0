/**
 * Reads the HTTP/1.1 answers of a guest, one after the other, as they come in pieces. All of it is hostile: whatever is
 * no well-formed answer to the request in hand is refused. Own code since Node's parser comes only with its client, which
 * costs several times as much a request and closes a connection whose answer overtakes the request's body.
 */
import { idleByte, recordHeader } from "../runtime/protocol.js";

export interface ResponseReader {
  /** @param headers flat, names lower-case, no hop-by-hop headers */
  head(status: number, headers: readonly string[]): void;
  data(chunk: Buffer): void;
  end(): void;
  /** The guest says, after the answer's end, that nothing is pending. */
  idle(): void;
}

/** Headers that speak of a connection, and so never pass to another. */
export const hopByHop: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
  recordHeader,
]);
const informationalMax = 16;
const chunkSizeDigitsMax = 12;

const statusPattern = /^HTTP\/1\.1 ([2-5]\d\d|1\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const headerPattern = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

type ParseState = "none" | "head" | "length" | "chunk-size" | "chunk-data" | "chunk-end" | "trailers" | "until-close" | "idle";

/**
 * ```
 * none ─ expect ─▶ head ─▶ a body's states ─▶ idle ─▶ none
 * ```
 */
export class ResponseParser {
  readonly #headBytesMax: number;
  readonly #reader: ResponseReader;
  #state: ParseState = "none";
  #method = "";
  #upgrade = false;
  #headBuffer: Buffer | undefined;
  #headLength = 0;
  #informational = 0;
  /** Bytes to come: of the body, or of the chunk. */
  #left = 0;
  #digits = 0;
  #trailerBytes = 0;
  #trailerLine = 0;

  constructor(headBytesMax: number, reader: ResponseReader) {
    this.#headBytesMax = headBytesMax;
    this.#reader = reader;
  }

  /** The answer to a request with this method comes next; it may have status 101 if an `upgrade` was asked for. Only when none is under way. */
  expect(method: string, upgrade: boolean): void {
    this.#state = "head";
    this.#method = method;
    this.#upgrade = upgrade;
    this.#informational = 0;
  }

  /** @returns what is wrong with it, else undefined */
  parse(chunk: Buffer): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      const next = this.#parseFrom(chunk, at);
      if (typeof next === "string") return next;
      at = next;
    }
    return undefined;
  }

  /** The guest has closed the connection: for a body without length that is its regular end. */
  close(): void {
    if (this.#state === "until-close") this.#finish();
  }

  /** @returns where to go on in `chunk`, or what is wrong */
  #parseFrom(chunk: Buffer, at: number): number | string {
    switch (this.#state) {
      case "none":
        return "it wrote what no request asked for";
      case "head":
        return this.#parseHead(chunk, at);
      case "idle":
        if (chunk[at] !== idleByte) return "it wrote more than its answer";
        this.#state = "none";
        this.#reader.idle();
        return at + 1;
      case "length": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#reader.data(chunk.subarray(at, end));
        if (this.#left === 0) this.#finish();
        return end;
      }
      case "until-close":
        this.#reader.data(chunk.subarray(at));
        return chunk.length;
      case "chunk-size":
        return this.#parseChunkSize(chunk, at);
      case "chunk-data": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#reader.data(chunk.subarray(at, end));
        if (this.#left === 0) {
          this.#state = "chunk-end";
          this.#left = 2;
        }
        return end;
      }
      case "chunk-end": {
        if (chunk[at] !== (this.#left === 2 ? 0x0d : 0x0a)) return "a chunk of its answer has the wrong length";
        this.#left--;
        if (this.#left === 0) this.#expectChunkSize();
        return at + 1;
      }
      case "trailers":
        return this.#parseTrailers(chunk, at);
    }
  }

  #parseHead(chunk: Buffer, at: number): number | string {
    // Usually the head is whole in the first chunk; only otherwise is it collected.
    if (this.#headBuffer === undefined) {
      const end = chunk.indexOf("\r\n\r\n", at, "latin1");
      if (end !== -1 && end - at <= this.#headBytesMax) return this.#readHead(chunk.toString("latin1", at, end)) ?? end + 4;
      this.#headBuffer = Buffer.allocUnsafe(this.#headBytesMax + 4);
      this.#headLength = 0;
    }
    const buffer = this.#headBuffer;
    const copied = chunk.copy(buffer, this.#headLength, at);
    const searchFrom = Math.max(0, this.#headLength - 3);
    const length = this.#headLength + copied;
    const end = buffer.subarray(0, length).indexOf("\r\n\r\n", searchFrom, "latin1");
    if (end === -1) {
      if (length === buffer.length) return `the head of its answer is larger than ${this.#headBytesMax} bytes`;
      this.#headLength = length;
      return at + copied;
    }
    const next = at + (end + 4 - this.#headLength);
    this.#headBuffer = undefined;
    return this.#readHead(buffer.toString("latin1", 0, end)) ?? next;
  }

  /** @returns what is wrong with it, else undefined */
  #readHead(text: string): string | undefined {
    const lines = text.split("\r\n");
    const status = Number(statusPattern.exec(lines[0]!)?.[1]);
    if (Number.isNaN(status)) return `its answer begins with ${JSON.stringify(lines[0]!.slice(0, 100))}`;
    const headers: string[] = [];
    let named: Set<string> | undefined;
    let length: number | undefined;
    let chunked = false;
    for (let index = 1; index < lines.length; index++) {
      const match = headerPattern.exec(lines[index]!);
      if (match === null) return `its answer has the header line ${JSON.stringify(lines[index]!.slice(0, 100))}`;
      const name = match[1]!.toLowerCase();
      const value = match[2]!.trimEnd();
      if (name === "content-length") {
        if (length !== undefined || !/^\d{1,15}$/.test(value))
          return `its answer has the content-length ${JSON.stringify(value.slice(0, 100))}`;
        length = Number(value);
        if (status === 204) continue;
      } else if (hopByHop.has(name)) {
        if (name === "transfer-encoding") {
          if (chunked || value.toLowerCase() !== "chunked")
            return `its answer has the transfer-encoding ${JSON.stringify(value.slice(0, 100))}`;
          chunked = true;
        } else if (name === "connection" && value !== "keep-alive" && value !== "close") {
          named ??= new Set();
          for (const option of value.split(",")) named.add(option.trim().toLowerCase());
        }
        continue;
      }
      headers.push(name, value);
    }
    if (status === 101 && this.#upgrade) {
      this.#state = "until-close";
      this.#reader.head(status, headers);
      return undefined;
    }
    if (status < 200) {
      this.#informational++;
      return status === 101 || this.#informational > informationalMax ? `it answered with status ${status}` : undefined;
    }
    if (chunked && length !== undefined) return "its answer has both content-length and transfer-encoding";
    this.#expectBody(status, length, chunked);
    this.#reader.head(status, named !== undefined ? without(headers, named) : headers);
    if (this.#left === 0 && this.#state === "length") this.#finish();
    return undefined;
  }

  #expectBody(status: number, length: number | undefined, chunked: boolean): void {
    if (this.#method === "HEAD" || status === 204 || status === 304) {
      this.#state = "length";
      this.#left = 0;
    } else if (chunked) this.#expectChunkSize();
    else if (length === undefined) this.#state = "until-close";
    else {
      this.#state = "length";
      this.#left = length;
    }
  }

  #expectChunkSize(): void {
    this.#state = "chunk-size";
    this.#left = 0;
    this.#digits = 0;
  }

  #parseChunkSize(chunk: Buffer, start: number): number | string {
    for (let at = start; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === 0x0a && this.#digits < 0) {
        if (this.#left > 0) this.#state = "chunk-data";
        else {
          this.#state = "trailers";
          this.#trailerBytes = 0;
          this.#trailerLine = 0;
        }
        return at + 1;
      }
      if (byte === 0x0d && this.#digits > 0) {
        this.#digits = -1;
        continue;
      }
      const digit = this.#digits < 0 ? -1 : hexDigit(byte);
      if (digit === -1 || ++this.#digits > chunkSizeDigitsMax) return "a chunk of its answer has no valid size";
      this.#left = this.#left * 16 + digit;
    }
    return chunk.length;
  }

  /** Trailers are read past: nobody further on would see them. */
  #parseTrailers(chunk: Buffer, start: number): number | string {
    for (let at = start; at < chunk.length; at++) {
      if (++this.#trailerBytes > this.#headBytesMax) return "the trailers of its answer are too large";
      const byte = chunk[at]!;
      if (byte === 0x0a) {
        if (this.#trailerLine === 0) {
          this.#finish();
          return at + 1;
        }
        this.#trailerLine = 0;
      } else if (byte !== 0x0d) this.#trailerLine++;
    }
    return chunk.length;
  }

  #finish(): void {
    this.#state = "idle";
    this.#reader.end();
  }
}

/** What a `Connection` header names goes no further. */
function without(headers: readonly string[], named: ReadonlySet<string>): readonly string[] {
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]!;
    if (name === "content-length" || !named.has(name)) kept.push(name, headers[index + 1]!);
  }
  return kept;
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
