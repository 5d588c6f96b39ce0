/**
 * The host's end of a guest's request connection: HTTP/1.1, one exchange at a time, on a stream that stays open. Bodies
 * stream both ways with backpressure. All that the guest writes is hostile: anything but a well-formed answer to the
 * request in hand breaks the wire for good. Own code rather than a client library since a library closes the connection
 * when an answer overtakes its request's body, which would cost the instance.
 */
import { Readable, type Duplex } from "node:stream";
import { MayflyError } from "../errors.ts";
import { invocationHeader } from "../runtime/protocol.js";

export interface WireRequest {
  readonly invocation: string;
  readonly method: string;
  readonly url: string;
  /** Flat: name, value, … */
  readonly headers: readonly string[];
  readonly body: Readable | null;
}

export interface WireHead {
  readonly status: number;
  /** Flat, names lower-case, no hop-by-hop headers. */
  readonly headers: readonly string[];
  readonly body: Readable;
}

/** `closed`: the guest has gone. `invalid`: it wrote something that is no answer. */
export type WireBreak = { readonly why: "closed" | "invalid"; readonly message: string };

const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
  invocationHeader,
]);
const informationalMax = 16;
const chunkSizeDigitsMax = 12;

const tokenPattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const targetPattern = /^[\x21-\x7e\x80-\xff]+$/;
const valuePattern = /^[\t\x20-\x7e\x80-\xff]*$/;
const statusPattern = /^HTTP\/1\.1 ([2-5]\d\d|1\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const headerPattern = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/;

type ParseState = "head" | "length" | "chunk-size" | "chunk-data" | "chunk-end" | "trailers" | "until-close";

/**
 * ```
 * free ⇄ exchange ─▶ broken
 * ```
 */
export class Wire {
  readonly #stream: Duplex;
  readonly #headBytesMax: number;
  readonly #onBreak: (broken: WireBreak) => void;
  #exchange: Exchange | undefined;
  #broken = false;

  /** @param onBreak called at most once; the wire is of no use afterwards */
  constructor(stream: Duplex, headBytesMax: number, onBreak: (broken: WireBreak) => void) {
    this.#stream = stream;
    this.#headBytesMax = headBytesMax;
    this.#onBreak = onBreak;
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("error", () => this.#closed());
    stream.on("end", () => this.#closed());
    stream.on("close", () => this.#closed());
  }

  get broken(): boolean {
    return this.#broken;
  }

  /**
   * Sends a request's head; `begin` of the exchange sends its body. Its `head` settles when the response begins.
   * @throws MayflyError BAD_REQUEST when the request cannot be written as HTTP/1.1
   */
  send(request: WireRequest): Exchange {
    if (this.#broken || this.#exchange !== undefined) throw new Error("The wire is not free.");
    const { text, framing } = requestHead(request);
    const exchange = new Exchange(this.#stream, request, framing, this.#headBytesMax, () => {
      if (this.#exchange === exchange) this.#exchange = undefined;
    });
    this.#exchange = exchange;
    this.#stream.write(text, "latin1");
    return exchange;
  }

  #receive(chunk: Buffer): void {
    if (this.#broken) return;
    if (this.#exchange === undefined || this.#exchange.answered) {
      return this.#break({ why: "invalid", message: "it wrote an answer that no request asked for" });
    }
    const trouble = this.#exchange.parse(chunk);
    if (trouble !== undefined) this.#break({ why: "invalid", message: trouble });
  }

  #closed(): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#exchange?.finishUntilClose();
    this.#break({ why: "closed", message: "the connection is closed" });
  }

  #break(broken: WireBreak): void {
    this.#broken = true;
    this.#onBreak(broken);
  }
}

type Framing = { readonly kind: "none" } | { readonly kind: "chunked" } | { readonly kind: "length"; readonly bytes: number };

function requestHead(request: WireRequest): { text: string; framing: Framing } {
  const { method, url, body } = request;
  if (!tokenPattern.test(method) || !targetPattern.test(url)) throw new MayflyError("BAD_REQUEST");
  let text = `${method} ${url} HTTP/1.1\r\n${invocationHeader}: ${request.invocation}\r\n`;
  let framing: Framing = body === null ? { kind: "none" } : { kind: "chunked" };
  for (let index = 0; index + 1 < request.headers.length; index += 2) {
    const name = request.headers[index]!.toLowerCase();
    const value = request.headers[index + 1]!;
    if (hopByHop.has(name)) continue;
    if (!tokenPattern.test(name) || !valuePattern.test(value))
      throw new MayflyError("BAD_REQUEST", `Header ${JSON.stringify(name)} is not valid.`);
    if (name === "content-length") {
      if (!/^\d{1,15}$/.test(value) || framing.kind === "length") throw new MayflyError("BAD_REQUEST", "The content-length is not valid.");
      if (body === null && value !== "0") continue;
      if (body !== null) framing = { kind: "length", bytes: Number(value) };
    }
    text += `${name}: ${value}\r\n`;
  }
  if (framing.kind === "chunked") text += "transfer-encoding: chunked\r\n";
  return { text: `${text}\r\n`, framing };
}

/** One request and its response. */
export class Exchange {
  readonly head: Promise<WireHead>;
  /** Set by the owner: request and response are through. Never called when the wire breaks before. */
  onDone: () => void = () => {};
  /** Set by the owner: the client has gone, or the reader of the response has. Called at most once. */
  onAbandoned: () => void = () => {};
  readonly #stream: Duplex;
  readonly #request: WireRequest;
  readonly #framing: Framing;
  readonly #headBytesMax: number;
  readonly #release: () => void;
  readonly #head = Promise.withResolvers<WireHead>();

  #state: ParseState = "head";
  #sent = false;
  #answered = false;
  #failed = false;
  #abandoned = false;
  #body: Readable | undefined;
  #headBuffer: Buffer | undefined;
  #headLength = 0;
  #informational = 0;
  /** Bytes to come: of the body, or of the chunk. */
  #left = 0;
  #digits = 0;
  #trailerBytes = 0;
  #trailerLine = 0;

  constructor(stream: Duplex, request: WireRequest, framing: Framing, headBytesMax: number, release: () => void) {
    this.#stream = stream;
    this.#request = request;
    this.#framing = framing;
    this.#headBytesMax = headBytesMax;
    this.#release = release;
    this.head = this.#head.promise;
    // Whoever awaits `head` hears of it; when nobody does yet it is no crash of the platform.
    this.head.catch(() => {});
  }

  /** The response is complete. */
  get answered(): boolean {
    return this.#answered;
  }

  /** Ends it with an error, which reaches the head's or the body's reader; without effect on a complete response. */
  fail(error: Error): void {
    this.#failed = true;
    if (this.#answered) return;
    if (this.#body === undefined) this.#head.reject(error);
    else this.#body.destroy(error);
  }

  // ── the request's body ──────────────────────────────────────────────────────────────────────────────────────────────

  /** To be called once, when the callbacks are set. */
  begin(): void {
    const { body } = this.#request;
    if (body === null) return this.#markSent();
    const framing = this.#framing;
    let bytes = 0;
    const onDrain = (): void => void body.resume();
    body.on("data", (chunk: Buffer | string) => {
      if (this.#failed) return;
      const data = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      if (data.length === 0) return;
      bytes += data.length;
      if (framing.kind === "length" && bytes > framing.bytes) return this.#abandon();
      let more: boolean;
      if (framing.kind === "chunked") {
        this.#stream.write(`${data.length.toString(16)}\r\n`, "latin1");
        this.#stream.write(data);
        more = this.#stream.write("\r\n", "latin1");
      } else {
        more = this.#stream.write(data);
      }
      if (!more) {
        body.pause();
        this.#stream.once("drain", onDrain);
      }
    });
    body.once("end", () => {
      if (this.#failed) return;
      if (framing.kind === "length" && bytes !== framing.bytes) return this.#abandon();
      if (framing.kind === "chunked") this.#stream.write("0\r\n\r\n", "latin1");
      this.#markSent();
    });
    body.once("error", () => this.#abandon());
    body.once("close", () => {
      if (!this.#sent) this.#abandon();
    });
    // One that had ended or been destroyed before says nothing more.
    if (body.destroyed) this.#abandon();
  }

  #markSent(): void {
    this.#sent = true;
    this.#settle();
  }

  #abandon(): void {
    if (this.#abandoned || this.#failed || (this.#answered && this.#sent)) return;
    this.#abandoned = true;
    this.onAbandoned();
  }

  // ── the response ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @returns what is wrong with it, else undefined */
  parse(chunk: Buffer): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#answered) return "it wrote more than its answer";
      const next = this.#parseFrom(chunk, at);
      if (typeof next === "string") return next;
      at = next;
    }
    return undefined;
  }

  /** The guest has closed the connection: for a body without length that is its regular end. */
  finishUntilClose(): void {
    if (this.#state === "until-close" && !this.#answered) this.#finish();
  }

  /** @returns where to go on in `chunk`, or what is wrong */
  #parseFrom(chunk: Buffer, at: number): number | string {
    switch (this.#state) {
      case "head":
        return this.#parseHead(chunk, at);
      case "length": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#push(chunk.subarray(at, end));
        if (this.#left === 0) this.#finish();
        return end;
      }
      case "until-close":
        this.#push(chunk.subarray(at));
        return chunk.length;
      case "chunk-size":
        return this.#parseChunkSize(chunk, at);
      case "chunk-data": {
        const end = Math.min(chunk.length, at + this.#left);
        this.#left -= end - at;
        this.#push(chunk.subarray(at, end));
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
    const named = new Set<string>();
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
      } else if (name === "transfer-encoding") {
        if (chunked || value.toLowerCase() !== "chunked")
          return `its answer has the transfer-encoding ${JSON.stringify(value.slice(0, 100))}`;
        chunked = true;
      } else if (name === "connection") {
        for (const option of value.split(",")) named.add(option.trim().toLowerCase());
      }
      headers.push(name, value);
    }
    if (status < 200) {
      this.#informational++;
      return status === 101 || this.#informational > informationalMax ? `it answered with status ${status}` : undefined;
    }
    if (chunked && length !== undefined) return "its answer has both content-length and transfer-encoding";
    this.#openBody(status, length, chunked);
    this.#head.resolve({ status, headers: endToEnd(headers, named, status), body: this.#body! });
    if (this.#left === 0 && this.#state === "length") this.#finish();
    return undefined;
  }

  #openBody(status: number, length: number | undefined, chunked: boolean): void {
    this.#body = new Readable({
      read: () => void this.#stream.resume(),
      destroy: (error, callback) => {
        this.#stream.resume();
        if (!this.#answered) this.#abandon();
        callback(error);
      },
    });
    if (this.#request.method === "HEAD" || status === 204 || status === 304) {
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

  #push(data: Buffer): void {
    if (data.length > 0 && !this.#body!.destroyed && !this.#body!.push(data)) this.#stream.pause();
  }

  #finish(): void {
    this.#answered = true;
    this.#stream.resume();
    this.#body!.push(null);
    this.#settle();
  }

  #settle(): void {
    if (!this.#answered || !this.#sent) return;
    this.#release();
    this.onDone();
  }
}

function endToEnd(headers: readonly string[], named: ReadonlySet<string>, status: number): readonly string[] {
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]!;
    if (hopByHop.has(name) || (named.has(name) && name !== "content-length") || (status === 204 && name === "content-length")) continue;
    kept.push(name, headers[index + 1]!);
  }
  return kept;
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
