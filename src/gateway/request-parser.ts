/**
 * HTTP/1.1 as the gateway accepts it (RFC 9112), as pure functions of bytes: the head of a request, and the chunks of a
 * body. Strict: whatever two parsers could read in two ways is refused, so that nothing hides a second request in a first
 * (request smuggling). Line ends are CR LF and nothing else.
 */
import type { ErrorCode } from "../errors.ts";

export interface ParsedHead {
  readonly method: string;
  readonly target: string;
  readonly lines: HeadLines;
}

/** What a head says after its target. Clients say the same again with each request of a connection, often to the letter. */
export interface HeadLines {
  /** As it came, latin1: from the version's last digit on. */
  readonly text: string;
  /** Flat: name, value, …; names lower-case. */
  readonly headers: readonly string[];
  readonly httpVersion: "1.0" | "1.1";
  /** null: chunked. */
  readonly bodyLength: number | null;
  /** The client wants the connection for more requests. */
  readonly keepAlive: boolean;
  readonly expectsContinue: boolean;
  /** The client asks for another protocol: `websocket`. */
  readonly upgrade: string | null;
}

export interface HeadLimits {
  /** Header lines. */
  readonly headersMax: number;
}

/** Bytes of a method: the longest registered one has 17. */
const methodBytesMax = 24;

const isToken = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") isToken[char.charCodeAt(0)] = 1;
/** HTAB, visible ASCII, space and obs-text (RFC 9110 §5.5). */
const isValue = new Uint8Array(256).fill(1, 0x20).fill(1, 0x09, 0x0a).fill(0, 0x7f, 0x80);
const isTarget = new Uint8Array(256).fill(1, 0x21).fill(0, 0x7f, 0x80);

const CR = 13;
const LF = 10;
const SPACE = 32;
const TAB = 9;
const COLON = 58;

/**
 * @param text latin1, from the method to the line end of the last header (the empty line is not in it)
 * @param known of an earlier head: what is said again to the letter means the same
 * @returns the code with which it is refused when it is none
 */
export function parseRequestHead(text: string, limits: HeadLimits, known: HeadLines | null): ParsedHead | ErrorCode {
  let at = 0;
  while (isToken[text.charCodeAt(at)] === 1) at++;
  if (at === 0 || at > methodBytesMax || text.charCodeAt(at) !== SPACE) return "BAD_REQUEST";
  const method = text.slice(0, at);
  const targetStart = ++at;
  while (isTarget[text.charCodeAt(at)] === 1) at++;
  if (at === targetStart || text.charCodeAt(at) !== SPACE) return "BAD_REQUEST";
  const target = text.slice(targetStart, at);
  if (!text.startsWith("HTTP/1.", at + 1)) return "BAD_REQUEST";
  at += 8;
  const isKnown = known !== null && known.text.length === text.length - at && text.startsWith(known.text, at);
  const lines = isKnown ? known : parseLines(text, at, limits);
  return typeof lines === "string" ? lines : { method, target, lines };
}

/** @param start of the version's last digit */
function parseLines(text: string, start: number, limits: HeadLimits): HeadLines | ErrorCode {
  // "1" CR LF
  let at = start;
  const minor = text.charCodeAt(at) - 48;
  if ((minor !== 1 && minor !== 0) || text.charCodeAt(at + 1) !== CR || text.charCodeAt(at + 2) !== LF) return "BAD_REQUEST";
  at += 3;

  const headers: string[] = [];
  let bodyLength: number | null = 0;
  let framed = false;
  let keepAlive = minor === 1;
  let expectsContinue = false;
  let upgrade: string | null = null;
  let wantsUpgrade = false;
  while (at < text.length) {
    const nameStart = at;
    while (isToken[text.charCodeAt(at)] === 1) at++;
    // Also a folded line (RFC 9112 §5.2), and white space before the colon (§5.1).
    if (at === nameStart || text.charCodeAt(at) !== COLON) return "BAD_REQUEST";
    const name = text.slice(nameStart, at).toLowerCase();
    at++;
    while (text.charCodeAt(at) === SPACE || text.charCodeAt(at) === TAB) at++;
    const valueStart = at;
    while (isValue[text.charCodeAt(at)] === 1) at++;
    if (text.charCodeAt(at) !== CR || text.charCodeAt(at + 1) !== LF) return "BAD_REQUEST";
    let valueEnd = at;
    while (valueEnd > valueStart && (text.charCodeAt(valueEnd - 1) === SPACE || text.charCodeAt(valueEnd - 1) === TAB)) valueEnd--;
    const value = text.slice(valueStart, valueEnd);
    at += 2;
    if (headers.push(name, value) > 2 * limits.headersMax) return "REQUEST_HEADER_TOO_LARGE";

    switch (name) {
      case "content-length":
        // A second one, even when it says the same, and any combination with chunks (RFC 9112 §6.3).
        if (framed || !/^\d{1,15}$/.test(value)) return "BAD_REQUEST";
        framed = true;
        bodyLength = Number(value);
        break;
      case "transfer-encoding":
        if (framed || minor === 0) return "BAD_REQUEST";
        if (value.toLowerCase() !== "chunked") return "TRANSFER_ENCODING_UNSUPPORTED";
        framed = true;
        bodyLength = null;
        break;
      case "connection":
        for (const option of value.toLowerCase().split(",")) {
          const token = option.trim();
          if (token === "close") keepAlive = false;
          else if (token === "keep-alive" && minor === 0) keepAlive = true;
          else if (token === "upgrade") wantsUpgrade = true;
        }
        break;
      case "expect":
        if (minor === 1 && value.toLowerCase() === "100-continue") expectsContinue = true;
        break;
      case "upgrade":
        upgrade = value.toLowerCase();
        break;
    }
  }
  if (!wantsUpgrade || minor === 0) upgrade = null;
  if (bodyLength === 0) expectsContinue = false;
  const httpVersion = minor === 1 ? "1.1" : "1.0";
  return { text: text.slice(start), headers, httpVersion, bodyLength, keepAlive, expectsContinue, upgrade };
}

/** Looks for what no valid head has, in bytes that are not a whole head yet: so that it need not be waited for. `from` is where to begin. */
export function isHopeless(bytes: Uint8Array, from: number, end: number): boolean {
  for (let at = from; at < end; at++) {
    const byte = bytes[at]!;
    if (byte >= SPACE || byte === TAB || byte === CR) continue;
    if (byte !== LF || at === 0 || bytes[at - 1] !== CR) return true;
  }
  return false;
}

type ChunkState = "size" | "extension" | "size-end" | "data" | "data-end" | "trailer" | "trailer-value" | "trailer-end" | "done";

/** Digits of a chunk's size: 2^48 bytes are enough. */
const sizeDigitsMax = 12;
/** All extensions of a body, and all its trailers: they mean nothing here, but they cost. */
const extensionBytesMax = 1024;
const trailerBytesMax = 4096;

/** Takes the chunks of one body apart (RFC 9112 §7.1). Extensions and trailers are checked, bounded and dropped. */
export class ChunkedBody {
  #state: ChunkState = "size";
  #left = 0;
  #digits = 0;
  #extensionBytes = 0;
  #trailerBytes = 0;
  #lineBytes = 0;

  get done(): boolean {
    return this.#state === "done";
  }

  /**
   * @param onData gets views of `bytes`
   * @returns where the body's bytes end in `bytes` (its length unless {@link done}); -1: they are no valid chunks
   */
  read(bytes: Buffer, start: number, onData: (data: Buffer) => void): number {
    let at = start;
    while (at < bytes.length && this.#state !== "done") {
      if (this.#state === "data") {
        const end = Math.min(bytes.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left === 0) this.#to("data-end");
        onData(bytes.subarray(at, end));
        at = end;
      } else if (!this.#step(bytes[at++]!)) {
        return -1;
      }
    }
    return at;
  }

  #to(state: ChunkState): void {
    this.#state = state;
    this.#lineBytes = 0;
  }

  /** One byte of what is not data. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case "size": {
        const digit = hexDigit(byte);
        if (digit !== -1) {
          this.#left = this.#left * 16 + digit;
          return ++this.#digits <= sizeDigitsMax;
        }
        if (this.#digits === 0) return false;
        if (byte === CR) this.#to("size-end");
        else if (byte === 59) this.#to("extension");
        else return false;
        return true;
      }
      case "extension":
        if (byte === CR) this.#to("size-end");
        else if (isValue[byte] !== 1 || ++this.#extensionBytes > extensionBytesMax) return false;
        return true;
      case "size-end":
        if (byte !== LF) return false;
        this.#digits = 0;
        this.#to(this.#left === 0 ? "trailer" : "data");
        return true;
      case "data-end":
        if (byte !== (this.#lineBytes++ === 0 ? CR : LF)) return false;
        if (byte === LF) this.#to("size");
        return true;
      case "trailer":
        if (byte === CR && this.#lineBytes === 0) this.#state = "trailer-end";
        else if (byte === COLON && this.#lineBytes > 0) this.#state = "trailer-value";
        else if (isToken[byte] !== 1 || ++this.#trailerBytes > trailerBytesMax) return false;
        else this.#lineBytes++;
        return true;
      case "trailer-value":
        if (byte === CR) this.#state = "trailer-end";
        else if (isValue[byte] !== 1 || ++this.#trailerBytes > trailerBytesMax) return false;
        return true;
      case "trailer-end":
        if (byte !== LF) return false;
        this.#to(this.#lineBytes === 0 ? "done" : "trailer");
        return true;
      default:
        return false;
    }
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 0x20;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}
