/**
 * One request and its response on their way through the gateway, whatever protocol carries them: what the client asked,
 * its body, the answer, the id that the client, the Function and the log see, and the time each step took. What speaks the
 * protocol is behind {@link Channel}. Invariant: exactly one head is sent, and after the exchange's end nothing reaches
 * the client in its name.
 */
import { Readable } from "node:stream";
import { newRequestId } from "../names.ts";
import type { AnsweredBy } from "../model.ts";
import { HeldBody } from "./held-body.ts";
import type { Address } from "./host.ts";
import type { PreparedHead } from "./prepared-head.ts";

/** A request's head, as a protocol engine has read and checked it. */
export interface RequestHead {
  readonly method: string;
  /** As sent: a path or an absolute URL. */
  readonly target: string;
  /** Flat: name, value, …; names lower-case, in the order of the wire. */
  readonly headers: readonly string[];
  readonly httpVersion: "1.0" | "1.1" | "2.0";
  /** Whether TLS carries it. */
  readonly secure: boolean;
  /** The host that the client named in its TLS handshake, lower-case; null: none. */
  readonly serverName: string | null;
  /** The peer's address; IPv4 without the prefix of its IPv6 form. */
  readonly remoteAddress: string;
  /** Bytes that the body will have; null: not announced; 0: there is none. */
  readonly bodyLength: number | null;
  /** The client waits for leave to send its body. */
  readonly expectsContinue: boolean;
  /** The protocol that the client asks to change to (`websocket`), lower-case. */
  readonly upgrade: string | null;
}

/** Who reads a request's body. After `onEnd` or `onError` nothing more is said. */
export interface BodySink {
  /** The chunk is the reader's to keep. */
  onData(chunk: Buffer): void;
  onEnd(): void;
  /** The client has gone, sends no valid framing, or has stopped sending. */
  onError(error: Error): void;
}

/**
 * SEAM between exchanges and the engines that speak HTTP/1.1 and HTTP/2. An engine calls {@link Exchange.drained} and
 * {@link Exchange.closed}; it never calls back from within `write` or `end`.
 */
export interface Channel {
  /** Begins or goes on to deliver the body; may call the sink before it returns. */
  readBody(sink: BodySink): void;
  pauseBody(): void;
  resumeBody(): void;
  /** The reader wants no more of the body: it says nothing further to the sink. */
  dropBody(): void;
  sendContinue(): void;
  /**
   * Takes the response's head and may keep it until the first byte of the body, the end or `flush`.
   * @throws TypeError when a header cannot be written; nothing has been sent then
   */
  head(status: number, headers: readonly string[]): void;
  flush(): void;
  /** @returns false: the client is slower; `drained` follows */
  write(chunk: Uint8Array): boolean;
  end(chunk?: Uint8Array): void;
  /**
   * Sends a whole response to a GET without a body, in the engine's fastest way; absent, or false: `head` and `end` do.
   * @param ageS seconds since the answer was made; null: it has no age
   */
  give?(head: PreparedHead, body: Uint8Array, id: string, ageS: number | null): boolean;
  /** Breaks the response off so that the client sees that it is not whole. */
  abort(): void;
}

/** Who gets the coded bytes. */
export interface CodedSink {
  /** @returns false: {@link BodyEncoder.resume} when more may come */
  data(chunk: Buffer): boolean;
  end(): void;
  /** More may be written. */
  drained(): void;
  /** There will be no end. */
  fail(): void;
}

/** Codes a body on its way to the client. */
export interface BodyEncoder {
  /** @returns false: `drained` follows */
  write(chunk: Uint8Array): boolean;
  end(chunk: Uint8Array | undefined): void;
  resume(): void;
  destroy(): void;
}

/** Opens an encoder into a sink. */
export type OpenEncoder = (sink: CodedSink) => BodyEncoder;

export class Exchange {
  /** The request id; {@link Exchange.publicId} is how clients see it. */
  readonly id = newRequestId();
  readonly request: RequestHead;
  readonly #channel: Channel;
  readonly #region: string;
  #functionRegion: string | null = null;
  #spans = "";
  #awaitsContinue: boolean;
  #address: Address | null = null;
  /** How the instance began that answered; null: no Function did. */
  start: "cold" | "warm" | "hot" | null = null;
  // For the request log, set by whoever answers.
  /** null: no deployment's. */
  deploymentId: string | null = null;
  answeredBy: AnsweredBy = "error";
  /** Of what answers or has made the answer; empty: no Function. */
  functionName = "";
  /** `x-vercel-cache`; empty: none. */
  cache = "";
  #headSent = false;
  #status = 0;
  #ended = false;
  #gone = false;
  /** The body passes through it. */
  #encoder: BodyEncoder | null = null;
  #lastWritten = false;
  #held: HeldBody | null = null;
  #onDrain: (() => void) | null = null;
  #onGone: (() => void)[] | null = null;

  constructor(request: RequestHead, channel: Channel, options: { readonly region: string }) {
    this.request = request;
    this.#channel = channel;
    this.#region = options.region;
    this.#awaitsContinue = request.expectsContinue;
  }

  /** `<region>::<request id>`; of a Function's answer `<region>::<region of the Function>::<request id>`. */
  get publicId(): string {
    return this.#functionRegion === null ? `${this.#region}::${this.id}` : `${this.#region}::${this.#functionRegion}::${this.id}`;
  }

  /** A Function answers: in the region given, or here. */
  ranIn(region: string | undefined): void {
    this.#functionRegion = region ?? this.#region;
  }

  // ── the request ─────────────────────────────────────────────────────────────────────────────────────────────────────

  get method(): string {
    return this.request.method;
  }

  /** Set by the first step; errors before it have none. */
  get address(): Address {
    if (this.#address === null) throw new Error("The request's address has not been read yet");
    return this.#address;
  }

  set address(address: Address) {
    this.#address = address;
  }

  /** A request header's value by lower-case name; several are joined, as RFC 9110 §5.2 says and RFC 6265 for cookies. */
  header(name: string): string | undefined {
    const { headers } = this.request;
    let value: string | undefined;
    for (let index = 0; index < headers.length; index += 2) {
      if (headers[index] !== name) continue;
      value = value === undefined ? headers[index + 1]! : `${value}${name === "cookie" ? "; " : ", "}${headers[index + 1]!}`;
    }
    return value;
  }

  /** Of the response; 0 while its head has not been sent. */
  get status(): number {
    return this.#status;
  }

  get hasBody(): boolean {
    return this.request.bodyLength !== 0;
  }

  /** Asks for the body of a client that waits for leave to send it (`Expect: 100-continue`). {@link readBody} does too. */
  acceptBody(): void {
    if (!this.#awaitsContinue || this.#headSent) return;
    this.#awaitsContinue = false;
    this.#channel.sendContinue();
  }

  /** Reads the body, once. The sink may be called before this returns. */
  readBody(sink: BodySink): void {
    if (this.#held !== null) return this.#held.release(sink);
    this.acceptBody();
    this.#channel.readBody(sink);
  }

  /** Reads the body ahead: {@link readBody} still gets all of it. The same one when asked again. */
  holdBody(bytesMax: number): HeldBody {
    if (this.#held === null) {
      this.acceptBody();
      this.#held = new HeldBody(this.#channel, bytesMax);
    }
    return this.#held;
  }

  pauseBody(): void {
    this.#channel.pauseBody();
  }

  resumeBody(): void {
    this.#channel.resumeBody();
  }

  /** Whoever read the body wants no more of it. What still comes is dropped. */
  dropBody(): void {
    this.#channel.dropBody();
  }

  /** The body as a stream, for whoever needs one: {@link readBody} costs less. */
  bodyStream(): Readable {
    const stream = new Readable({
      read: () => this.#channel.resumeBody(),
      destroy: (error, done) => {
        this.#channel.dropBody();
        done(error);
      },
    });
    this.readBody({
      onData: (chunk) => {
        if (!stream.push(chunk)) this.#channel.pauseBody();
      },
      onEnd: () => void stream.push(null),
      onError: (error) => void stream.destroy(error),
    });
    return stream;
  }

  // ── the response ────────────────────────────────────────────────────────────────────────────────────────────────────

  get headSent(): boolean {
    return this.#headSent;
  }

  /** The response is whole, as far as this side is concerned. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The client has gone, or the response was broken off. */
  get gone(): boolean {
    return this.#gone;
  }

  /** Calls back, at most once, when the client goes before the response has ended; at once when it has gone. @returns takes it back */
  onGone(callback: () => void): () => void {
    if (this.#gone) callback();
    else if (!this.#ended) (this.#onGone ??= []).push(callback);
    return () => {
      const index = this.#onGone?.indexOf(callback) ?? -1;
      if (index !== -1) this.#onGone!.splice(index, 1);
    };
  }

  /** Calls back whenever {@link write} may go on after it has said false. A later callback takes an earlier one's place. */
  onDrain(callback: () => void): void {
    this.#onDrain = callback;
  }

  /**
   * Gives the head; it leaves with the first bytes of the body, at the end, or by {@link flush}.
   * @param headers flat: name, value, …; names lower-case. What frames the message is the engine's, but for `content-length`.
   * @throws TypeError when one cannot be written; nothing has been sent then
   */
  head(status: number, headers: readonly string[]): void {
    if (this.#gone) return;
    const all = ["server", "Mayfly", "x-vercel-id", this.publicId, ...headers];
    if (this.#spans !== "") all.push("server-timing", this.#spans);
    // The client was never told to send its body: whatever comes next on this connection could be that body or a request.
    if (this.#awaitsContinue) all.push("connection", "close");
    this.#channel.head(status, all);
    this.#headSent = true;
    this.#status = status;
  }

  /** From now on the body is written through an encoder, whose head was given. */
  encodeBody(open: OpenEncoder): void {
    if (this.#gone) return;
    this.#encoder = open({
      data: (chunk) => this.#gone || this.#channel.write(chunk),
      end: () => this.#finish(undefined),
      drained: () => this.#onDrain?.(),
      fail: () => this.abort(),
    });
  }

  /** Sends the head now, before there is a body. */
  flush(): void {
    if (!this.#gone && !this.#ended) this.#channel.flush();
  }

  /** @returns false: wait for {@link onDrain} before the next. Bytes for a client that has gone are dropped. */
  write(chunk: Uint8Array): boolean {
    if (this.#gone || this.#ended) return true;
    if (this.#encoder !== null) return this.#lastWritten || this.#encoder.write(chunk);
    return this.#channel.write(chunk);
  }

  end(chunk?: Uint8Array): void {
    if (this.#encoder === null) return this.#finish(chunk);
    if (this.#gone || this.#lastWritten) return undefined;
    this.#lastWritten = true;
    this.#onGone = null;
    return this.#encoder.end(chunk);
  }

  #finish(chunk: Uint8Array | undefined): void {
    if (this.#gone || this.#ended) return;
    this.#ended = true;
    this.#onGone = null;
    this.#channel.end(chunk);
  }

  /** Sends a whole response; a HEAD request gets its head only. */
  send(status: number, headers: readonly string[], body: string | Uint8Array): void {
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    this.head(status, [...headers, "content-length", String(bytes.length)]);
    if (this.method === "HEAD") this.end();
    else this.end(bytes);
  }

  /** Sends a whole response to a GET whose head is prepared. @param ageS seconds since it was made; null: it has no age */
  give(head: PreparedHead, body: Uint8Array, ageS: number | null): void {
    if (this.#gone || this.#ended) return;
    if (this.#channel.give?.(head, body, this.publicId, ageS) === true) {
      this.#headSent = true;
      this.#status = head.status;
      this.#ended = true;
      this.#onGone = null;
      return;
    }
    const length = head.status === 304 ? [] : ["content-length", String(body.length)];
    this.head(head.status, [...head.headers, ...(ageS === null ? [] : ["age", String(ageS)]), ...length]);
    this.end(body);
  }

  /**
   * Sends a stream as the rest of the body, at the client's pace. Resolves when either has ended; one that breaks off
   * breaks the other.
   */
  async pipe(source: Readable): Promise<void> {
    if (this.#gone) {
      source.on("error", () => {}).destroy();
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const forget = this.onGone(() => {
      source.destroy();
      resolve();
    });
    this.onDrain(() => source.resume());
    source.on("data", (chunk: Buffer) => {
      if (!this.write(chunk)) source.pause();
    });
    source.once("end", () => this.end());
    source.on("error", () => {});
    source.once("close", () => {
      forget();
      // Not to its end: the client must see an unfinished response.
      if (!source.readableEnded) this.abort();
      resolve();
    });
    await promise;
  }

  /** Breaks the response off, so that the client sees that it is not whole. */
  abort(): void {
    if (this.#gone || this.#ended) return;
    this.#channel.abort();
    this.closed();
  }

  // ── what its engine says ────────────────────────────────────────────────────────────────────────────────────────────

  /** The client has taken what was written. */
  drained(): void {
    if (this.#encoder !== null) this.#encoder.resume();
    else if (!this.#ended) this.#onDrain?.();
  }

  /** The engine is done with it: the response is through, or the client has gone. */
  closed(): void {
    if (this.#gone) return;
    this.#onDrain = null;
    if (this.#ended) return;
    this.#gone = true;
    this.#encoder?.destroy();
    const callbacks = this.#onGone;
    this.#onGone = null;
    for (const callback of callbacks ?? []) callback();
  }

  // ── where the time went ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs a step and notes its time for `Server-Timing`. */
  async step<T>(name: string, run: () => T | Promise<T>): Promise<T> {
    const begin = performance.now();
    try {
      return await run();
    } finally {
      this.span(name, performance.now() - begin);
    }
  }

  span(name: string, ms: number): void {
    const span = `${name};dur=${ms.toFixed(2)}`;
    this.#spans = this.#spans === "" ? span : `${this.#spans}, ${span}`;
  }
}
