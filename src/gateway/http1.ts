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
import { Exchange } from "./exchange.ts";
import type { FrontConnection, FrontHost } from "./front-connection.ts";
import { headerLines, statusLine } from "./http1-response.ts";
import { Turn, type TurnConnection } from "./http1-turn.ts";
import { isHopeless, parseRequestHead, type HeadLines, type ParsedHead } from "./request-parser.ts";

/** A client that goes on sending after its last answer is cut off after this. Ended at once it might not read the answer. */
const lingerMs = 2000;
/** Input that may wait while a request is answered: more requests, or a body that nobody reads yet. */
const heldBytesMax = 65_536;
/** Requests of one connection that are begun before others get their turn. */
const requestsPerTurnMax = 16;
/** Empty lines before a request line (RFC 9112 §2.2 asks to bear one). */
const emptyLinesMax = 2;

const headEnd = Buffer.from("\r\n\r\n");

type Phase = "idle" | "head" | "exchange" | "lingering" | "closed";

export class Http1Connection implements FrontConnection, TurnConnection {
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
  /** Of the last request, while the connection is busy. */
  #lines: HeadLines | null = null;
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
    this.#sinceMs = host.clock.elapsed();
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
        this.#lines = null;
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
    const head = parseRequestHead(bytes.toString("latin1", start, end + 2), config, this.#lines);
    if (typeof head === "string") {
      this.refuse(head);
      return false;
    }
    this.#lines = head.lines;
    this.#scanned = 0;
    this.#emptyLines = 0;
    if (end + 4 === bytes.length) this.#unread = null;
    else this.#at = end + 4;
    this.#begin(head);
    return true;
  }

  #begin(head: ParsedHead): void {
    const { host } = this;
    const { method, target, lines } = head;
    const { headers, httpVersion, bodyLength, expectsContinue, upgrade } = lines;
    if (!lines.keepAlive || host.draining) this.#last = true;
    this.#to("exchange");
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

  skipBody(turn: Turn): void {
    if (this.#unread !== null && turn.readsBody) this.#readBody(turn);
  }

  #readBody(turn: Turn): void {
    this.#sinceMs = this.host.clock.elapsed();
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

  endAfterThis(): void {
    this.#last = true;
  }

  write(chunk: Uint8Array): boolean {
    if (this.socket.write(chunk) || this.socket.writableLength === 0) return true;
    this.#watchStall();
    return false;
  }

  writeTogether(pieces: readonly Uint8Array[]): boolean {
    const { socket } = this;
    let more = true;
    socket.cork();
    for (const piece of pieces) more = socket.write(piece);
    socket.uncork();
    if (more || socket.writableLength === 0) return true;
    this.#watchStall();
    return false;
  }

  responseEnded(): void {
    this.#sinceMs = this.host.clock.elapsed();
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
    socket.end(() => (this.#sinceMs = this.host.clock.elapsed()));
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
    this.#sinceMs = this.host.clock.elapsed();
  }
}
