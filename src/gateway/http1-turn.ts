/**
 * One request of an HTTP/1.1 connection and its response: the body that comes in, and the bytes that go out. Invariant:
 * exactly one response leaves, as long as its head has said; when that fails, the connection breaks.
 */
import type { Socket } from "node:net";
import type { BodySink, Channel, Exchange } from "./exchange.ts";
import type { FrontHost } from "./front-connection.ts";
import { headerLines, statusLine, type HeaderLines } from "./http1-response.ts";
import type { PreparedHead } from "./prepared-head.ts";
import { ChunkedBody, type ParsedHead } from "./request-parser.ts";

/** What a turn asks of the connection that it is a part of. */
export interface TurnConnection {
  readonly socket: Socket;
  readonly secure: boolean;
  readonly host: FrontHost;
  /** No request follows the present one. */
  readonly last: boolean;
  /** The response in hand is the connection's last one, and says so. */
  endAfterThis(): void;
  /** Goes on as far as it can: body, end of the exchange, next head. */
  advance(): void;
  /** Takes no more input than there is room for. */
  regulate(): void;
  /** Drops what is here of a body that nobody reads. */
  skipBody(turn: Turn): void;
  /** @returns false: the client is slower; `drained` follows */
  write(chunk: Uint8Array): boolean;
  /** The same for pieces that leave together. */
  writeTogether(pieces: readonly Uint8Array[]): boolean;
  /** The response in hand is written; its body may still be coming. */
  responseEnded(): void;
  destroy(): void;
}

/** Up to this a head and its body are copied into one buffer; beyond, two writes at once cost less. */
const copiedBytesMax = 16_384;
/** Room for a body that is copied and its head. */
const scratchBytes = 2 * copiedBytesMax;
/** Where responses are put together: mostly the kernel takes them at once, and the next may have the room. */
let scratch = Buffer.allocUnsafeSlow(scratchBytes);

const continueBytes = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n");
const lastChunk = Buffer.from("0\r\n\r\n");

/** One request of a connection and its response. */
export class Turn implements Channel {
  exchange!: Exchange;
  bodyDone: boolean;
  bodyPaused = false;
  headWritten = false;
  responseEnded = false;
  /** Client and Function speak another protocol by now; the body is whatever the client sends. */
  upgraded = false;
  readonly #connection: TurnConnection;
  readonly #request: ParsedHead;
  readonly #chunks: ChunkedBody | null;
  /** Bytes of the body to come. */
  #bodyLeft: number;
  #sink: BodySink | null = null;
  /** Nobody reads the body, now that the response has ended. */
  #discards = false;
  #status = 0;
  #head: HeaderLines | null = null;
  /** Bytes that the response may still have; -1: as many as it likes. */
  #left = -1;
  #framing: "none" | "length" | "chunked" | "close" = "length";
  #over = false;

  constructor(connection: TurnConnection, request: ParsedHead) {
    this.#connection = connection;
    this.#request = request;
    const { bodyLength } = request.lines;
    this.#chunks = bodyLength === null ? new ChunkedBody() : null;
    this.#bodyLeft = bodyLength ?? 0;
    this.bodyDone = bodyLength === 0;
  }

  // ── the request's body ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether bytes of the body would be taken now. */
  get readsBody(): boolean {
    return !this.bodyDone && !this.bodyPaused && (this.#sink !== null || this.#discards);
  }

  readBody(sink: BodySink): void {
    if (this.#over || this.#sink !== null || this.#discards) return sink.onError(new Error("There is no body to be read any more."));
    if (this.bodyDone) return sink.onEnd();
    this.#sink = sink;
    return this.#connection.advance();
  }

  pauseBody(): void {
    if (this.bodyDone || this.#over) return;
    this.bodyPaused = true;
    this.#connection.regulate();
  }

  resumeBody(): void {
    if (!this.bodyPaused || this.#over) return;
    this.bodyPaused = false;
    this.#connection.advance();
  }

  dropBody(): void {
    if (this.bodyDone || this.#over) return;
    this.#takeSink();
    this.bodyPaused = false;
    this.#connection.advance();
  }

  sendContinue(): void {
    if (!this.#over) this.#connection.write(continueBytes);
  }

  /** @returns where the body's bytes end; -1: they are no body */
  feed(bytes: Buffer, start: number): number {
    let end: number;
    if (this.upgraded) {
      this.#sink?.onData(bytes.subarray(start));
      return bytes.length;
    }
    if (this.#chunks === null) {
      end = Math.min(bytes.length, start + this.#bodyLeft);
      this.#bodyLeft -= end - start;
      this.bodyDone = this.#bodyLeft === 0;
      if (end > start) this.#sink?.onData(bytes.subarray(start, end));
    } else {
      end = this.#chunks.read(bytes, start, (data) => this.#sink?.onData(data));
      this.bodyDone = this.#chunks.done;
    }
    if (this.bodyDone && end !== -1) this.#takeSink()?.onEnd();
    return end;
  }

  /** The client of another protocol sends no more. */
  endUpgraded(): void {
    this.bodyDone = true;
    this.#takeSink()?.onEnd();
  }

  #takeSink(): BodySink | null {
    const sink = this.#sink;
    this.#sink = null;
    this.#discards = true;
    return sink;
  }

  /** The connection is of no more use. */
  broken(error: Error): void {
    this.#over = true;
    const sink = this.#takeSink();
    this.exchange.closed();
    if (!this.bodyDone) sink?.onError(error);
  }

  // ── the response ────────────────────────────────────────────────────────────────────────────────────────────────────

  head(status: number, headers: readonly string[]): void {
    if (this.headWritten) throw new Error("The response has begun already.");
    if (status === 101) return this.#upgrade(headers);
    statusLine(status);
    const head = headerLines(headers);
    this.#status = status;
    this.#head = head;
    if (!this.bodyDone && this.#sink === null) {
      // Nobody reads the body. What of it is here is dropped; nobody knows how long the rest would take.
      this.#discards = true;
      this.#connection.skipBody(this);
    }
    if (head.closes || (!this.bodyDone && this.#sink === null)) this.#connection.endAfterThis();
    if (this.#request.method === "HEAD" || status === 204 || status === 304) this.#framing = "none";
    else if (head.contentLength !== -1) this.#left = head.contentLength;
    else this.#framing = this.#request.lines.httpVersion === "1.1" ? "chunked" : "close";
  }

  /** From here on the connection is the Function's, until either side ends it. */
  #upgrade(headers: readonly string[]): void {
    const { upgrade } = this.#request.lines;
    if (upgrade === null) throw new TypeError("The client did not ask for another protocol.");
    const { lines } = headerLines(headers);
    this.headWritten = true;
    this.upgraded = true;
    this.bodyDone = false;
    this.#framing = "close";
    this.#connection.endAfterThis();
    this.#connection.write(
      Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${lines}connection: upgrade\r\nupgrade: ${upgrade}\r\n\r\n`, "latin1"),
    );
  }

  flush(): void {
    if (this.headWritten || this.#head === null || this.#over) return;
    this.#connection.write(Buffer.from(this.#takeHead(-1), "latin1"));
  }

  write(chunk: Uint8Array): boolean {
    if (this.#over || this.#framing === "none" || chunk.length === 0) return true;
    if (!this.#allows(chunk.length)) return true;
    const head = this.headWritten ? "" : this.#takeHead(-1);
    if (this.#framing !== "chunked") return this.#send(head, chunk, "");
    return this.#send(`${head}${chunk.length.toString(16)}\r\n`, chunk, "\r\n");
  }

  end(chunk?: Uint8Array): void {
    if (this.#over) return;
    const body = this.#framing === "none" ? undefined : chunk;
    const size = body?.length ?? 0;
    if (!this.#allows(size)) return;
    if (this.#left > 0 && this.#framing !== "none") {
      // Fewer bytes than announced.
      this.#breakOff();
      return;
    }
    if (!this.headWritten) {
      // The length is known now.
      if (this.#framing === "chunked" || this.#framing === "close") this.#framing = "length";
      const head = this.#takeHead(size);
      if (body === undefined) this.#connection.write(Buffer.from(head, "latin1"));
      else this.#send(head, body, "");
    } else if (this.#framing === "chunked") {
      if (size === 0) this.#connection.write(lastChunk);
      else this.#send(`${size.toString(16)}\r\n`, body!, "\r\n0\r\n\r\n");
    } else {
      if (size > 0) this.#connection.write(body!);
      if (this.#framing === "close") this.#connection.endAfterThis();
    }
    this.responseEnded = true;
    this.#connection.responseEnded();
  }

  give(head: PreparedHead, body: Uint8Array, id: string, ageS: number | null): boolean {
    const connection = this.#connection;
    if (this.#over || this.headWritten || !this.bodyDone || connection.last || this.#request.lines.httpVersion !== "1.1") return false;
    this.headWritten = true;
    const bytes = head.spell(id, ageS, body.length, connection.host.date.text);
    if (body.length > copiedBytesMax) {
      connection.writeTogether([Buffer.from(bytes), body]);
    } else {
      const whole = this.#room(bytes.length + body.length);
      whole.set(bytes);
      whole.set(body, bytes.length);
      this.#sendRoom(whole);
    }
    this.responseEnded = true;
    connection.responseEnded();
    return true;
  }

  abort(): void {
    if (this.#over) return;
    // The end of a body that only the connection's end ends must not look like one. (TLS has a word of its own for that.)
    if (this.#framing === "close" && !this.#connection.secure) this.#connection.socket.resetAndDestroy();
    else this.#connection.destroy();
  }

  /** What was announced is not what came. */
  #breakOff(): void {
    this.abort();
    this.exchange.closed();
  }

  /** Whether so many bytes may come; more than announced would be read as the next response. */
  #allows(bytes: number): boolean {
    if (this.#left === -1 || this.#framing === "none") return true;
    if (bytes > this.#left) {
      this.#breakOff();
      return false;
    }
    this.#left -= bytes;
    return true;
  }

  /** @param bytes length of the body if it is known by now, else -1 */
  #takeHead(bytes: number): string {
    const { lines, contentLength, hasDate } = this.#head!;
    this.headWritten = true;
    const { httpVersion } = this.#request.lines;
    let text = statusLine(this.#status) + lines;
    if (this.#framing === "chunked") text += "transfer-encoding: chunked\r\n";
    else if (this.#framing === "close") this.#connection.endAfterThis();
    else if (contentLength !== -1) {
      if (this.#status !== 204) text += `content-length: ${contentLength}\r\n`;
    } else if (bytes !== -1 && this.#framing === "length") text += `content-length: ${bytes}\r\n`;
    if (!hasDate) text += this.#connection.host.date.text;
    if (this.#connection.last) {
      this.#connection.endAfterThis();
      return `${text}connection: close\r\n\r\n`;
    }
    return httpVersion === "1.0" ? `${text}connection: keep-alive\r\n\r\n` : `${text}\r\n`;
  }

  /** In one write to the socket where that is cheap, in one packet where it fits. */
  #send(before: string, chunk: Uint8Array, after: string): boolean {
    if (before === "" && after === "") return this.#connection.write(chunk);
    if (chunk.length <= copiedBytesMax) return this.#sendCopied(before, chunk, after);
    const pieces = [Buffer.from(before, "latin1"), chunk];
    if (after !== "") pieces.push(Buffer.from(after, "latin1"));
    return this.#connection.writeTogether(pieces);
  }

  /** The outer pieces are latin1. */
  #sendCopied(before: string, chunk: Uint8Array, after: string): boolean {
    const length = before.length + chunk.length + after.length;
    const bytes = this.#room(length);
    bytes.write(before, 0, "latin1");
    bytes.set(chunk, before.length);
    if (after !== "") bytes.write(after, before.length + chunk.length, "latin1");
    return this.#sendRoom(bytes);
  }

  /** Bytes to be filled and sent at once. */
  #room(length: number): Buffer {
    // What TLS makes of it is never taken at once.
    return length <= scratch.length && !this.#connection.secure ? scratch.subarray(0, length) : Buffer.allocUnsafe(length);
  }

  #sendRoom(bytes: Buffer): boolean {
    const more = this.#connection.write(bytes);
    // The kernel has not taken all of it: it is the socket's for now.
    if (bytes.buffer === scratch.buffer && this.#connection.socket.writableLength > 0) scratch = Buffer.allocUnsafeSlow(scratchBytes);
    return more;
  }
}
