/**
 * HTTP/1.1 and 1.0 on one connection, TLS or not. Requests are answered one after another in the order in which they came;
 * bytes that came early wait in bounded memory. Invariant: where a request ends is never in doubt, or the connection ends.
 *
 * ```
 *          ┌──────────────────────────────────────┐
 *          ▼                                      │ response and body are through
 *  open ─▶ idle ─▶ head ─▶ exchange ──────────────┤
 *          │        │ refused │ the last          │
 *          ▼        ▼         ▼                   │
 *        lingering: what still comes is dropped, so that the client reads the answer and no reset ─▶ closed
 * ```
 */
import type { Socket } from "node:net";
import { adoptSocket } from "./accepted-socket.ts";
import { errorTable, MayflyError, type ErrorCode } from "../errors.ts";
import { newRequestId } from "../names.ts";
import { Exchange, type BodySink, type Channel } from "./exchange.ts";
import type { FrontConnection, FrontHost } from "./front-connection.ts";
import { headerLines, statusLine, type HeaderLines } from "./http1-response.ts";
import type { PreparedHead } from "./prepared-head.ts";
import { ChunkedBody, isHopeless, parseRequestHead, type ParsedHead } from "./request-parser.ts";

/** A client that goes on sending after its last answer is cut off after this. Ended at once it might not read the answer. */
const lingerMs = 2000;
/** Input that may wait while a request is answered: more requests, or a body that nobody reads yet. */
const heldBytesMax = 65_536;
/** Requests of one connection that are begun before others get their turn. */
const requestsPerTurnMax = 16;
/** Up to this a head and its body are copied into one buffer; beyond, two writes at once cost less. */
const copiedBytesMax = 16_384;
/** Empty lines before a request line (RFC 9112 §2.2 asks to bear one). */
const emptyLinesMax = 2;

/** Room for a body that is copied and its head. */
const scratchBytes = 2 * copiedBytesMax;
/** Where responses are put together: mostly the kernel takes them at once, and the next may have the room. */
let scratch = Buffer.allocUnsafeSlow(scratchBytes);

const headEnd = Buffer.from("\r\n\r\n");
const continueBytes = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n");
const lastChunk = Buffer.from("0\r\n\r\n");

type Phase = "idle" | "head" | "exchange" | "lingering" | "closed";

export class Http1Connection implements FrontConnection {
  readonly socket: Socket;
  readonly secure: boolean;
  readonly host: FrontHost;
  readonly #remoteAddress: string;
  readonly #serverName: string | null;
  #phase: Phase = "idle";
  /** Since the phase began, or its last sign of progress; milliseconds of the clock. */
  #sinceMs: number;
  #turn: Turn | null = null;
  /** Input not yet read, from `#at` on. */
  #unread: Buffer | null = null;
  #at = 0;
  /** It is the socket's, and must be copied to be kept. */
  #borrowed = false;
  /** Bytes of an unfinished head that have been looked at. */
  #scanned = 0;
  #emptyLines = 0;
  #advancing = false;
  #paused = false;
  /** No request follows the present one. */
  #last = false;
  #awaitsDrain = false;

  /** @param tls null: the connection is plain; else the server name of its handshake, if it had one */
  constructor(socket: Socket, host: FrontHost, tls: { readonly serverName: string | null } | null) {
    // What is read from a plain socket must be copied to be kept.
    this.socket = tls === null ? adoptSocket(socket, (bytes) => this.#receive(bytes, true)) : socket;
    this.host = host;
    this.secure = tls !== null;
    this.#serverName = tls?.serverName ?? null;
    this.#remoteAddress = (this.socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, "");
    this.#sinceMs = host.clock.now();
    if (tls !== null) this.socket.on("data", (chunk: Buffer) => this.#receive(chunk, false));
    else this.socket.resume();
    this.socket.on("drain", () => this.#drained());
    this.socket.on("end", () => this.#inputEnded());
    this.socket.on("close", () => this.#closed());
    // Its end follows.
    this.socket.on("error", () => {});
    // Set only while the client takes nothing of what is written; Node counts any progress of the kernel's.
    this.socket.on("timeout", () => this.socket.destroy());
  }

  get isSilent(): boolean {
    return this.#phase === "idle" || this.#phase === "head";
  }

  get sinceMs(): number {
    return this.#sinceMs;
  }

  // ── deadlines ───────────────────────────────────────────────────────────────────────────────────────────────────────

  check(nowMs: number): void {
    const { config } = this.host;
    const waitedMs = nowMs - this.#sinceMs;
    switch (this.#phase) {
      case "idle":
        if (waitedMs >= config.connectionIdleMs) this.close();
        return;
      case "head":
        if (waitedMs >= config.headersMsMax) this.refuse("REQUEST_TIMEOUT");
        return;
      case "exchange":
        if (this.#turn!.responseEnded) {
          if (!this.#turn!.bodyDone && waitedMs >= lingerMs) this.socket.destroy();
        } else if (this.#turn!.readsBody && !this.#turn!.upgraded && waitedMs >= config.bodyIdleMsMax) {
          this.refuse("REQUEST_TIMEOUT");
        }
        return;
      case "lingering":
        if (waitedMs >= lingerMs && this.socket.writableLength === 0) this.socket.destroy();
        return;
      case "closed":
    }
  }

  close(): void {
    this.#last = true;
    if (this.#phase === "idle") this.#linger();
  }

  destroy(): void {
    this.socket.destroy();
  }

  // ── input ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** @param borrowed the bytes are ours only until this returns */
  #receive(chunk: Buffer, borrowed: boolean): void {
    if (this.#phase === "lingering" || this.#phase === "closed") return;
    if (this.#unread === null) {
      this.#unread = chunk;
      this.#borrowed = borrowed;
    } else {
      this.#unread = Buffer.concat([this.#unread.subarray(this.#at), chunk]);
    }
    this.#at = 0;
    this.advance();
    this.#own();
  }

  /** What is not read yet is kept. */
  #own(): void {
    if (this.#borrowed && this.#unread !== null) {
      this.#unread = Buffer.from(this.#unread.subarray(this.#at));
      this.#at = 0;
    }
    this.#borrowed = false;
  }

  /** Goes on as far as it can: body, end of the exchange, next head. */
  advance(): void {
    if (this.#advancing) return;
    this.#advancing = true;
    for (let begun = 0; ;) {
      const turn = this.#turn;
      if (turn !== null) {
        if (this.#unread !== null && turn.readsBody) this.#readBody(turn);
        if (!turn.responseEnded || this.#turn !== turn) break;
        if (this.#last) {
          this.#turn = null;
          this.#linger();
          break;
        }
        if (!turn.bodyDone) break;
        // The next one waits until this one's answer is on its way: a client that asks and does not read costs no memory.
        this.#awaitsDrain = this.socket.writableNeedDrain && this.socket.writableLength > 0;
        if (this.#awaitsDrain) break;
        this.#turn = null;
        this.#to("idle");
      }
      if (this.#unread === null || this.#phase === "lingering" || this.#phase === "closed") break;
      if (begun++ === requestsPerTurnMax) {
        setImmediate(() => this.advance());
        break;
      }
      if (!this.#readHead()) break;
    }
    this.#advancing = false;
    this.regulate();
  }

  /** Takes no more input than there is room for. */
  regulate(): void {
    if (this.#phase === "closed") return;
    const held = this.#unread === null ? 0 : this.#unread.length - this.#at;
    const pause = this.#phase === "exchange" && (held >= heldBytesMax || this.#turn!.bodyPaused);
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.socket.pause();
    else this.socket.resume();
  }

  /** @returns whether an exchange has begun */
  #readHead(): boolean {
    const { config } = this.host;
    const bytes = this.#unread!;
    while (bytes[this.#at] === 13 && bytes[this.#at + 1] === 10 && this.#emptyLines < emptyLinesMax) {
      this.#at += 2;
      this.#emptyLines++;
    }
    const start = this.#at;
    if (start === bytes.length) {
      this.#unread = null;
      return false;
    }
    const end = bytes.indexOf(headEnd, start);
    const length = (end === -1 ? bytes.length : end) - start;
    if (length > config.headersBytesMax) {
      this.refuse(bytes.indexOf(10, start) === -1 ? "URI_TOO_LONG" : "REQUEST_HEADER_TOO_LARGE");
      return false;
    }
    if (end === -1) {
      if (isHopeless(bytes.subarray(start), this.#scanned, length)) this.refuse("BAD_REQUEST");
      this.#scanned = length;
      if (this.#phase === "idle") this.#to("head");
      return false;
    }
    const head = parseRequestHead(bytes.toString("latin1", start, end + 2), config);
    if (typeof head === "string") {
      this.refuse(head);
      return false;
    }
    this.#scanned = 0;
    this.#emptyLines = 0;
    if (end + 4 === bytes.length) this.#unread = null;
    else this.#at = end + 4;
    this.#begin(head);
    return true;
  }

  #begin(head: ParsedHead): void {
    const { host } = this;
    if (!head.keepAlive || host.draining) this.#last = true;
    this.#to("exchange");
    const { method, target, headers, httpVersion, bodyLength, expectsContinue, upgrade } = head;
    const turn = new Turn(this, head);
    this.#turn = turn;
    const request = {
      method,
      target,
      headers,
      httpVersion,
      secure: this.secure,
      serverName: this.#serverName,
      remoteAddress: this.#remoteAddress,
      bodyLength,
      expectsContinue,
      upgrade,
    };
    turn.exchange = new Exchange(request, turn, host.config);
    host.answer(turn.exchange);
  }

  /** Drops what is here of a body that nobody reads. */
  skipBody(turn: Turn): void {
    if (this.#unread !== null && turn.readsBody) this.#readBody(turn);
  }

  #readBody(turn: Turn): void {
    this.#sinceMs = this.host.clock.now();
    this.#own();
    const bytes = this.#unread!;
    const end = turn.feed(bytes, this.#at);
    if (end === -1) return this.refuse("BAD_REQUEST");
    if (end === bytes.length) this.#unread = null;
    else this.#at = end;
    return undefined;
  }

  /** The client sends no more. While it waits for an answer that means that it has gone, as for other servers. */
  #inputEnded(): void {
    if (this.#phase === "exchange" && this.#turn!.upgraded) this.#turn!.endUpgraded();
    else if (this.#phase === "exchange" && !(this.#turn!.responseEnded && this.#turn!.bodyDone)) this.socket.destroy();
    else if (this.#phase !== "closed" && this.#phase !== "lingering") this.#linger();
  }

  // ── output ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  get last(): boolean {
    return this.#last || this.host.draining;
  }

  /** The response in hand is the connection's last one, and says so. */
  endAfterThis(): void {
    this.#last = true;
  }

  /** @returns false: the client is slower; `drained` follows */
  write(chunk: Uint8Array): boolean {
    if (this.socket.write(chunk) || this.socket.writableLength === 0) return true;
    this.#watchStall();
    return false;
  }

  /** The same for a few pieces, in one write; the outer ones are latin1. */
  writeCopied(before: string, chunk: Uint8Array, after: string): boolean {
    const length = before.length + chunk.length + after.length;
    const isScratch = length <= scratch.length && !this.secure;
    const bytes = isScratch ? scratch.subarray(0, length) : Buffer.allocUnsafe(length);
    bytes.write(before, 0, "latin1");
    bytes.set(chunk, before.length);
    if (after !== "") bytes.write(after, before.length + chunk.length, "latin1");
    const more = this.write(bytes);
    // The kernel has not taken all of it: it is the socket's for now.
    if (isScratch && this.socket.writableLength > 0) scratch = Buffer.allocUnsafeSlow(scratchBytes);
    return more;
  }

  /** The response in hand is written; its body may still be coming. */
  responseEnded(): void {
    this.#sinceMs = this.host.clock.now();
    this.advance();
  }

  #watchStall(): void {
    if (this.socket.timeout === undefined || this.socket.timeout === 0) this.socket.setTimeout(this.host.config.writeStallMsMax);
  }

  #drained(): void {
    if (this.socket.timeout !== undefined && this.socket.timeout !== 0) this.socket.setTimeout(0);
    if (this.#phase === "closed") return;
    if (this.#awaitsDrain) {
      this.#awaitsDrain = false;
      this.advance();
    } else {
      this.#turn?.exchange.drained();
    }
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Answers bytes that are no request, or not one that is accepted, and ends the connection. */
  refuse(code: ErrorCode): void {
    const turn = this.#turn;
    if (turn !== null && turn.headWritten) {
      this.socket.destroy();
      return;
    }
    const { status, sentence } = errorTable[code];
    const id = `${this.host.config.region}::${newRequestId()}`;
    const body = `${sentence.replace(/\.$/, "")}\n\n${code}\n\n${id}\n`;
    const { lines } = headerLines(["server", "Mayfly", "x-vercel-id", id, "x-vercel-error", code]);
    const framing = `content-type: text/plain; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n`;
    this.socket.write(`${statusLine(status)}${lines}${this.host.date.text}${framing}${body}`, "latin1");
    this.#turn = null;
    this.#linger();
    turn?.broken(new MayflyError(code));
  }

  #linger(): void {
    this.#unread = null;
    this.#to("lingering");
    const { socket } = this;
    if (socket.writableLength > 0) this.#watchStall();
    socket.end(() => (this.#sinceMs = this.host.clock.now()));
    this.#paused = false;
    socket.resume();
  }

  #closed(): void {
    this.#to("closed");
    this.#unread = null;
    const turn = this.#turn;
    this.#turn = null;
    turn?.broken(new MayflyError("BAD_REQUEST", "The client has gone."));
  }

  #to(phase: Phase): void {
    this.#phase = phase;
    this.#sinceMs = this.host.clock.now();
  }
}

/** One request of a connection and its response. */
class Turn implements Channel {
  exchange!: Exchange;
  bodyDone: boolean;
  bodyPaused = false;
  headWritten = false;
  responseEnded = false;
  /** Client and Function speak another protocol by now; the body is whatever the client sends. */
  upgraded = false;
  readonly #connection: Http1Connection;
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

  constructor(connection: Http1Connection, request: ParsedHead) {
    this.#connection = connection;
    this.#request = request;
    this.#chunks = request.bodyLength === null ? new ChunkedBody() : null;
    this.#bodyLeft = request.bodyLength ?? 0;
    this.bodyDone = request.bodyLength === 0;
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
    else this.#framing = this.#request.httpVersion === "1.1" ? "chunked" : "close";
  }

  /** From here on the connection is the Function's, until either side ends it. */
  #upgrade(headers: readonly string[]): void {
    const { upgrade } = this.#request;
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

  give({ status, lines, hasDate }: PreparedHead, body: Uint8Array, id: string, ageS: number | null): boolean {
    const connection = this.#connection;
    if (this.#over || this.headWritten || !this.bodyDone || connection.last || this.#request.httpVersion !== "1.1") return false;
    const age = ageS === null ? "" : `age: ${ageS}\r\n`;
    const length = status === 304 ? "" : `content-length: ${body.length}\r\n`;
    this.headWritten = true;
    const date = hasDate ? "" : connection.host.date.text;
    this.#send(`${statusLine(status)}server: Mayfly\r\nx-vercel-id: ${id}\r\n${lines}${age}${length}${date}\r\n`, body, "");
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
    const { httpVersion } = this.#request;
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
    if (chunk.length <= copiedBytesMax) return this.#connection.writeCopied(before, chunk, after);
    const { socket } = this.#connection;
    socket.cork();
    socket.write(before, "latin1");
    let more = this.#connection.write(chunk);
    if (after !== "") more = this.#connection.write(Buffer.from(after, "latin1"));
    socket.uncork();
    return more;
  }
}
