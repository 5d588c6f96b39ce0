/**
 * How a response looks in HTTP/1.1: status line, header lines, date, chunks. Invariant: a header that could end its line,
 * and so begin another one or a second response, is never written.
 */
import { STATUS_CODES } from "node:http";
import type { Clock } from "../clock.ts";

/** Header lines, and what they say of the framing. */
export interface HeaderLines {
  /** `name: value CR LF` each. */
  readonly lines: string;
  /** -1: not announced. */
  readonly contentLength: number;
  readonly hasDate: boolean;
  /** The response asks for the connection's end. */
  readonly closes: boolean;
}

const tokenPattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Also whatever latin1 cannot hold: written, U+010D would become CR. */
const unwritablePattern = /[^\t\x20-\x7e\x80-\xff]/;

/** Names that were checked; most responses use the same few. */
const checkedNames = new Set<string>();
const checkedNamesMax = 1000;

/** @throws TypeError when a name is no token, or a value has what no header may have */
export function headerLines(headers: readonly string[]): HeaderLines {
  let lines = "";
  let contentLength = -1;
  let hasDate = false;
  let closes = false;
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!;
    const value = headers[index + 1]!;
    if (!checkedNames.has(name)) checkName(name);
    if (unwritablePattern.test(value)) throw new TypeError(`The value of the header ${JSON.stringify(name)} is not valid.`);
    switch (name) {
      case "content-length":
        if (!/^\d{1,15}$/.test(value) || (contentLength !== -1 && contentLength !== Number(value)))
          throw new TypeError(`The content-length ${JSON.stringify(value.slice(0, 100))} is not valid.`);
        contentLength = Number(value);
        continue;
      // What frames the message is not the sender's to say.
      case "transfer-encoding":
      case "keep-alive":
        continue;
      case "connection":
        if (value.toLowerCase() === "close") closes = true;
        continue;
      case "date":
        hasDate = true;
        break;
    }
    lines += `${name}: ${value}\r\n`;
  }
  return { lines, contentLength, hasDate, closes };
}

function checkName(name: string): void {
  if (!tokenPattern.test(name)) throw new TypeError(`The header name ${JSON.stringify(name.slice(0, 100))} is not valid.`);
  // A name in capitals would pass by the names that are compared here.
  if (name !== name.toLowerCase()) throw new TypeError(`The header name ${JSON.stringify(name.slice(0, 100))} is not in lower case.`);
  if (checkedNames.size < checkedNamesMax) checkedNames.add(name);
}

const statusLines = new Map<number, string>();

/** @throws TypeError when it is no final status */
export function statusLine(status: number): string {
  let line = statusLines.get(status);
  if (line === undefined) {
    if (!Number.isInteger(status) || status < 200 || status > 999) throw new TypeError(`${status} is not the status of a response.`);
    line = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n`;
    statusLines.set(status, line);
  }
  return line;
}

/** The `date` line, made once a second. */
export class DateLine {
  readonly #clock: Clock;
  #second = -1;
  #line = "";

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get text(): string {
    const second = Math.floor(this.#clock.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#line = `date: ${new Date(second * 1000).toUTCString()}\r\n`;
    }
    return this.#line;
  }
}
