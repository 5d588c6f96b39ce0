/**
 * The host's end of a guest's request connection: HTTP/1.1, one exchange at a time, on a stream that stays open. Bodies
 * go both ways at the slower side's pace. All that the guest writes is hostile: anything but a well-formed answer to the
 * request in hand breaks the wire for good.
 */
import type { Duplex } from "node:stream";
import { MayflyError } from "../errors.ts";
import { recordHeader } from "../runtime/protocol.js";
import type { BodyReader, BodySource, Invocation } from "./functions.ts";
import { hopByHop, ResponseParser } from "./response-parser.ts";

/** What is sent of an invocation, or what the platform itself asks. */
export type WireRequest = Pick<Invocation, "method" | "url" | "headers" | "body" | "upgrade"> & {
  /** See `recordHeader`. */
  readonly isForRecord?: true;
};

/** Whoever takes an answer. */
export interface WireReader {
  /** @param headers flat, names lower-case, no hop-by-hop headers */
  head(status: number, headers: readonly string[]): void;
  /** @returns false: no more until {@link Wire.resume} */
  data(chunk: Buffer): boolean;
  end(): void;
  /** Request and response are through: the wire is free. Never called when it breaks before. */
  done(): void;
  /**
   * The guest says that nothing of the exchange is pending, mostly before `done`.
   * @param isWhole answer and word came in one piece
   */
  idle(isWhole: boolean): void;
  /** The rest of the request will not come. The wire is of no further use. */
  abandoned(): void;
}

/** `closed`: the guest has gone. `invalid`: it wrote something that is no answer. */
export type WireBreak = { readonly why: "closed" | "invalid"; readonly message: string };

const tokenPattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const targetPattern = /^[\x21-\x7e\x80-\xff]+$/;
const valuePattern = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * ```
 * free ⇄ exchange ─▶ broken
 * ```
 */
export class Wire {
  readonly #stream: Duplex;
  readonly #onBreak: (broken: WireBreak) => void;
  readonly #parser: ResponseParser;
  #reader: WireReader | undefined;
  /** Whose exchange it is, also when request and answer are through. */
  #asking: WireReader | undefined;
  /** What the client sends when an upgrade is agreed on. */
  #upgrade: BodySource | undefined;
  #sent = true;
  #answered = true;
  /** Pieces in which the answer came. */
  #pieces = 0;
  #broken = false;

  /** @param onBreak called at most once; the wire is of no use afterwards */
  constructor(stream: Duplex, headBytesMax: number, onBreak: (broken: WireBreak) => void) {
    this.#stream = stream;
    this.#onBreak = onBreak;
    this.#parser = new ResponseParser(headBytesMax, {
      head: (status, headers) => {
        this.#reader?.head(status, headers);
        if (status === 101) this.#joinUp();
      },
      data: (chunk) => {
        if (this.#reader?.data(chunk) === false) stream.pause();
      },
      end: () => {
        this.#answered = true;
        if (stream.isPaused()) stream.resume();
        this.#reader?.end();
      },
      idle: () => this.#idle(),
    });
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("error", () => this.#closed());
    stream.on("end", () => this.#closed());
    stream.on("close", () => this.#closed());
  }

  get broken(): boolean {
    return this.#broken;
  }

  /**
   * Sends a request; the reader is told what becomes of it.
   * @throws MayflyError BAD_REQUEST when it cannot be written as HTTP/1.1: nothing was sent then
   */
  send(request: WireRequest, reader: WireReader): void {
    if (this.#broken || this.#reader !== undefined) throw new Error("The wire is not free.");
    const { text, framing } = requestHead(request);
    this.#reader = reader;
    this.#asking = reader;
    this.#answered = false;
    this.#pieces = 0;
    this.#upgrade = request.upgrade === undefined ? undefined : (request.body ?? undefined);
    this.#sent = request.body === null || request.upgrade !== undefined;
    this.#parser.expect(request.method, request.upgrade !== undefined);
    this.#stream.write(text, "latin1");
    if (request.body === null || request.upgrade !== undefined) return;
    request.body.read(
      new BodyWriter(this.#stream, request.body, framing, {
        wanted: () => this.#reader === reader,
        sent: () => {
          this.#sent = true;
          this.#settle();
        },
        lost: () => this.#reader?.abandoned(),
      }),
    );
  }

  /** From now on bytes pass as they are, until either side ends. */
  #joinUp(): void {
    const stream = this.#stream;
    const source = this.#upgrade!;
    source.read({
      onData(chunk) {
        if (stream.write(chunk)) return;
        source.pause();
        stream.once("drain", () => source.resume());
      },
      onEnd: () => void stream.end(),
      onError: () => void stream.destroy(),
    });
  }

  /** The client of an upgrade has gone. */
  hangUp(): void {
    if (this.#upgrade !== undefined) this.#stream.destroy();
  }

  /** The reader takes more. */
  resume(): void {
    this.#stream.resume();
  }

  /** Nobody wants the rest of the exchange. The wire is of no further use. */
  drop(): void {
    this.#reader = this.#asking = undefined;
    this.#broken = true;
    this.#stream.resume();
  }

  #receive(chunk: Buffer): void {
    if (this.#broken) return;
    this.#pieces++;
    const trouble = this.#parser.parse(chunk);
    this.#settle();
    if (trouble !== undefined) this.#break({ why: "invalid", message: trouble });
  }

  #settle(): void {
    if (!this.#answered || !this.#sent) return;
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.done();
  }

  #idle(): void {
    const reader = this.#asking;
    this.#asking = undefined;
    reader?.idle(this.#pieces === 1);
  }

  #closed(): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#parser.close();
    this.#settle();
    // An upgrade uses the connection up: to close it is how it ends.
    if (this.#upgrade !== undefined && this.#answered) return;
    this.#break({ why: "closed", message: "the connection is closed" });
  }

  #break(broken: WireBreak): void {
    this.#broken = true;
    this.#onBreak(broken);
  }
}

type Framing = number | "chunked";

function requestHead(request: WireRequest): { text: string; framing: Framing } {
  const { method, url, headers, body, upgrade = "none" } = request;
  if (!tokenPattern.test(upgrade) || !tokenPattern.test(method) || !targetPattern.test(url)) throw new MayflyError("BAD_REQUEST");
  let text = `${method} ${url} HTTP/1.1\r\n${request.isForRecord === true ? `${recordHeader}: 1\r\n` : ""}`;
  let framing: Framing = "chunked";
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!;
    const value = headers[index + 1]!;
    if (hopByHop.has(name)) continue;
    if (!isName(name) || !valuePattern.test(value)) throw new MayflyError("BAD_REQUEST", `Header ${JSON.stringify(name)} is not valid.`);
    if (name === "content-length") {
      if (!/^\d{1,15}$/.test(value) || framing !== "chunked") throw new MayflyError("BAD_REQUEST", "The content-length is not valid.");
      if (body === null && value !== "0") continue;
      if (body !== null) framing = Number(value);
    }
    text += `${name}: ${value}\r\n`;
  }
  if (request.upgrade !== undefined) return { text: `${text}connection: upgrade\r\nupgrade: ${request.upgrade}\r\n\r\n`, framing };
  text += body !== null && framing === "chunked" ? "transfer-encoding: chunked\r\n\r\n" : "\r\n";
  return { text, framing };
}

/** Names that were checked: most requests have the same few. */
const checkedNames = new Set<string>();
const checkedNamesMax = 1000;

function isName(name: string): boolean {
  if (checkedNames.has(name)) return true;
  if (!tokenPattern.test(name)) return false;
  if (checkedNames.size < checkedNamesMax) checkedNames.add(name);
  return true;
}

interface BodyOwner {
  /** Whether the rest is still to be sent. */
  wanted(): boolean;
  sent(): void;
  /** It will not be whole. */
  lost(): void;
}

/** Writes a request's body, in the framing that its head has announced. */
class BodyWriter implements BodyReader {
  readonly #stream: Duplex;
  readonly #source: BodySource;
  readonly #framing: Framing;
  readonly #owner: BodyOwner;
  #bytes = 0;
  #over = false;

  constructor(stream: Duplex, source: BodySource, framing: Framing, owner: BodyOwner) {
    this.#stream = stream;
    this.#source = source;
    this.#framing = framing;
    this.#owner = owner;
  }

  onData(chunk: Buffer): void {
    if (this.#over || chunk.length === 0 || !this.#owner.wanted()) return;
    this.#bytes += chunk.length;
    if (this.#framing !== "chunked" && this.#bytes > this.#framing) return this.onError();
    let more: boolean;
    if (this.#framing === "chunked") {
      this.#stream.cork();
      this.#stream.write(`${chunk.length.toString(16)}\r\n`, "latin1");
      this.#stream.write(chunk);
      more = this.#stream.write("\r\n", "latin1");
      this.#stream.uncork();
    } else {
      more = this.#stream.write(chunk);
    }
    if (more) return;
    this.#source.pause();
    this.#stream.once("drain", () => this.#source.resume());
  }

  onEnd(): void {
    if (this.#over || !this.#owner.wanted()) return;
    if (this.#framing !== "chunked" && this.#bytes !== this.#framing) return this.onError();
    this.#over = true;
    if (this.#framing === "chunked") this.#stream.write("0\r\n\r\n", "latin1");
    this.#owner.sent();
  }

  onError(): void {
    if (this.#over || !this.#owner.wanted()) return;
    this.#over = true;
    this.#owner.lost();
  }
}
