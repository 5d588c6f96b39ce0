/**
 * HTTP/2 on one TLS connection, framed by Node's own engine. Many requests at once, each an {@link Exchange}; what a client
 * may hold or ask for is bounded: streams, header lists, resets, pings, settings, silence. A WebSocket is a stream, too
 * (RFC 8441): whoever answers sees the upgrade that it would be in HTTP/1.1.
 */
import { randomBytes } from "node:crypto";
import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { TLSSocket } from "node:tls";
import { MayflyError } from "../errors.ts";
import { Exchange, type BodySink, type Channel, type RequestHead } from "./exchange.ts";
import { headerLines, statusLine } from "./http1-response.ts";
import { http2Headers } from "./http2-response.ts";
import type { PreparedHead } from "./prepared-head.ts";
import type { FrontConnection, FrontHost } from "./front-connection.ts";

/** Requests of one connection at a time. */
const streamsMax = 128;
/** Streams that a client takes back: so many at once, then so many a second (CVE-2023-44487). */
const resetsBurst = 200;
const resetsPerSecond = 50;
/** Pings and settings of a client in ten seconds. */
const controlFramesMax = 200;
const controlFramesMs = 10_000;

/** How long a connection that is being ended may go on. */
const lingerMs = 2000;

export class Http2Connection implements FrontConnection {
  readonly socket: TLSSocket;
  readonly #session: ServerHttp2Session;
  readonly #host: FrontHost;
  readonly #streams = new Set<StreamChannel>();
  #sinceMs: number;
  #closing = false;
  #controlFrames = 0;
  #controlSinceMs = 0;

  constructor(socket: TLSSocket, host: FrontHost) {
    const { config, clock } = host;
    this.socket = socket;
    this.#host = host;
    this.#sinceMs = clock.elapsed();
    socket.on("error", () => {});
    const session = performServerHandshake(socket, {
      settings: {
        maxConcurrentStreams: streamsMax,
        maxHeaderListSize: config.headersBytesMax,
        enablePush: false,
        enableConnectProtocol: true,
      },
      // Pseudo headers count too.
      maxHeaderListPairs: config.headersMax + 6,
      maxSendHeaderBlockLength: 1_048_576,
      streamResetBurst: resetsBurst,
      streamResetRate: resetsPerSecond,
      maxOutstandingPings: 10,
      maxSettings: 32,
      maxSessionMemory: 10,
    } as Parameters<typeof performServerHandshake>[1]);
    this.#session = session;
    session.on("stream", (stream, _headers, flags, rawHeaders: string[]) => this.#begin(stream, flags, rawHeaders));
    session.on("ping", () => this.#countControlFrame());
    session.on("remoteSettings", () => this.#countControlFrame());
    session.on("error", () => {});
    session.on("frameError", () => {});
  }

  get isSilent(): boolean {
    return this.#streams.size === 0;
  }

  get sinceMs(): number {
    return this.#sinceMs;
  }

  check(nowMs: number): void {
    const { config } = this.#host;
    const waitedMs = nowMs - this.#sinceMs;
    if (this.isSilent && waitedMs >= (this.#closing ? lingerMs : config.connectionIdleMs)) {
      if (this.#closing) this.destroy();
      else this.close();
    }
    for (const stream of this.#streams) stream.check(nowMs);
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#sinceMs = this.#host.clock.elapsed();
    // Streams that the client opened before it has heard of it are still answered.
    if (!this.#session.closed) this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
    this.socket.destroy();
  }

  #begin(stream: ServerHttp2Stream, flags: number, rawHeaders: readonly string[]): void {
    const { config, clock } = this.#host;
    if (this.#host.draining) this.close();
    stream.on("error", () => {});
    const request = this.#read(rawHeaders, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
    if (request === null) {
      stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    const channel = new StreamChannel(stream, this.#host, request, request.bodyLength === 0);
    this.#streams.add(channel);
    stream.once("close", () => {
      this.#streams.delete(channel);
      this.#sinceMs = clock.elapsed();
      channel.closed();
    });
    channel.exchange = new Exchange(request, channel, config);
    this.#host.answer(channel.exchange);
  }

  /** null: no request that HTTP/1.1 could say as well. */
  #read(raw: readonly string[], ended: boolean) {
    const pseudo: Record<string, string> = {};
    const headers: string[] = [];
    let cookie: string | null = null;
    let length: number | null = null;
    let host: string | null = null;
    let expectsContinue = false;
    for (let index = 0; index + 1 < raw.length; index += 2) {
      const name = raw[index]!;
      const value = raw[index + 1]!;
      if (name.startsWith(":")) pseudo[name] = value;
      else if (name === "host") host = value;
      // Of the handshake in HTTP/1.1 only.
      else if (name === "sec-websocket-key") continue;
      // Crumbs become one header again (RFC 9113 §8.2.3).
      else if (name === "cookie") cookie = cookie === null ? value : `${cookie}; ${value}`;
      else {
        headers.push(name, value);
        if (name === "content-length") length = Number(value);
        else if (name === "expect") expectsContinue = value.toLowerCase() === "100-continue";
      }
    }
    const { ":path": target, ":authority": authority, ":protocol": protocol } = pseudo;
    let { ":method": method } = pseudo;
    if (protocol !== undefined) {
      // RFC 8441: what is an upgrade in HTTP/1.1.
      if (method !== "CONNECT" || protocol !== "websocket" || ended) return null;
      method = "GET";
      length = 0;
      // In HTTP/2 there is none; a server of HTTP/1.1 answers it, and nobody reads that answer.
      headers.push("sec-websocket-key", randomBytes(16).toString("base64"));
    } else if (method === "CONNECT") return null;
    const named = authority ?? host;
    if (method === undefined || target === undefined || named === undefined || named === null) return null;
    if (host !== null && authority !== undefined && host.toLowerCase() !== authority.toLowerCase()) return null;
    if (!/^[\x21-\x7e\x80-\xff]+$/.test(target) || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,24}$/.test(method)) return null;
    headers.unshift("host", named);
    if (cookie !== null) headers.push("cookie", cookie);
    return {
      method,
      target,
      headers,
      httpVersion: "2.0" as const,
      secure: true,
      serverName: typeof this.socket.servername === "string" ? this.socket.servername.toLowerCase() : null,
      remoteAddress: (this.socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, ""),
      bodyLength: ended ? 0 : length,
      expectsContinue: expectsContinue && !ended,
      upgrade: protocol ?? null,
    };
  }

  #countControlFrame(): void {
    const nowMs = this.#host.clock.elapsed();
    if (nowMs - this.#controlSinceMs > controlFramesMs) {
      this.#controlSinceMs = nowMs;
      this.#controlFrames = 0;
    }
    if (++this.#controlFrames > controlFramesMax) this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/** One stream of a connection. */
class StreamChannel implements Channel {
  exchange!: Exchange;
  readonly #stream: ServerHttp2Stream;
  readonly #host: FrontHost;
  readonly #method: string;
  /** It asks for, or has become, a tunnel to a Function. */
  readonly #isTunnel: boolean;
  #sink: BodySink | null = null;
  #bodyDone: boolean;
  #bodyPaused = false;
  /** Of the body's last byte, or of the write that the client did not take. */
  #sinceMs: number;
  #stalled = false;
  #ended = false;
  #status = 0;
  /** Flat, without the length; null: there is no head yet. */
  #headers: string[] | null = null;
  /** Of the body, as far as it is announced; -1: it is not. */
  #length = -1;
  #headWritten = false;
  #withoutBody = false;

  constructor(stream: ServerHttp2Stream, host: FrontHost, request: Pick<RequestHead, "method" | "upgrade">, bodyDone: boolean) {
    this.#stream = stream;
    this.#host = host;
    this.#method = request.method;
    this.#isTunnel = request.upgrade !== null;
    this.#bodyDone = bodyDone;
    this.#sinceMs = host.clock.elapsed();
    stream.on("drain", () => {
      this.#stalled = false;
      this.exchange.drained();
    });
  }

  check(nowMs: number): void {
    const { config } = this.#host;
    const waitedMs = nowMs - this.#sinceMs;
    const readsBody = !this.#isTunnel && this.#sink !== null && !this.#bodyDone && !this.#bodyPaused;
    if (readsBody && !this.#ended && waitedMs >= config.bodyIdleMsMax) this.abort();
    else if ((this.#stalled || this.#ended) && waitedMs >= config.writeStallMsMax) this.abort();
  }

  // ── the request's body ──────────────────────────────────────────────────────────────────────────────────────────────

  readBody(sink: BodySink): void {
    if (this.#bodyDone) return sink.onEnd();
    if (this.#stream.destroyed || this.#sink !== null) return sink.onError(new Error("There is no body to be read any more."));
    this.#sink = sink;
    this.#sinceMs = this.#host.clock.elapsed();
    this.#stream.on("data", (chunk: Buffer) => {
      this.#sinceMs = this.#host.clock.elapsed();
      this.#sink?.onData(chunk);
    });
    this.#stream.once("end", () => {
      this.#bodyDone = true;
      const reader = this.#sink;
      this.#sink = null;
      reader?.onEnd();
    });
    return undefined;
  }

  pauseBody(): void {
    this.#bodyPaused = true;
    this.#stream.pause();
  }

  resumeBody(): void {
    if (!this.#bodyPaused) return;
    this.#bodyPaused = false;
    this.#sinceMs = this.#host.clock.elapsed();
    this.#stream.resume();
  }

  dropBody(): void {
    this.#sink = null;
    this.#stream.resume();
  }

  sendContinue(): void {
    if (!this.#stream.destroyed && !this.#stream.headersSent) this.#stream.additionalHeaders({ ":status": 100 });
  }

  closed(): void {
    const sink = this.#sink;
    this.#sink = null;
    this.exchange.closed();
    if (!this.#bodyDone) sink?.onError(new MayflyError("BAD_REQUEST", "The client has gone."));
  }

  // ── the response ────────────────────────────────────────────────────────────────────────────────────────────────────

  head(status: number, flat: readonly string[]): void {
    if (this.#headers !== null) throw new Error("The response has begun already.");
    if (status === 101) {
      if (!this.#isTunnel) throw new TypeError("The client did not ask for another protocol.");
      this.#bodyDone = false;
    } else statusLine(status);
    const { contentLength } = headerLines(flat);
    this.#headers = http2Headers(flat);
    this.#withoutBody = this.#method === "HEAD" || status === 204 || status === 304;
    this.#length = status === 204 ? -1 : contentLength;
    this.#status = this.#isTunnel ? tunnelStatus(status) : status;
  }

  flush(): void {
    this.#writeHead(false);
  }

  write(chunk: Uint8Array): boolean {
    if (this.#stream.destroyed || this.#withoutBody || chunk.length === 0) return true;
    this.#writeHead(false);
    const more = this.#stream.write(chunk);
    if (!more && !this.#stalled) {
      this.#stalled = true;
      this.#sinceMs = this.#host.clock.elapsed();
    }
    return more;
  }

  end(chunk?: Uint8Array): void {
    if (this.#stream.destroyed) return;
    this.#ended = true;
    this.#sinceMs = this.#host.clock.elapsed();
    const body = this.#withoutBody || chunk === undefined || chunk.length === 0 ? undefined : chunk;
    if (!this.#headWritten && !this.#withoutBody && !this.#isTunnel && this.#length === -1) this.#length = body?.length ?? 0;
    this.#writeHead(body === undefined);
    if (this.#withoutBody) this.#stream.end();
    else if (body === undefined) this.#stream.end();
    else this.#stream.end(body);
    // Of a body that nobody reads no more is wanted (RFC 9113 §8.1).
    if (this.#isTunnel || (!this.#bodyDone && this.#sink === null))
      this.#stream.once("finish", () => this.#stream.close(constants.NGHTTP2_NO_ERROR));
  }

  give(head: PreparedHead, body: Uint8Array, id: string, ageS: number | null): boolean {
    if (this.#headers !== null || this.#isTunnel || !this.#bodyDone || this.#method !== "GET") return false;
    this.#status = head.status;
    this.#withoutBody = head.status === 304;
    this.#headers = ["server", "Mayfly", "x-vercel-id", id, ...head.http2];
    if (ageS !== null) this.#headers.push("age", String(ageS));
    this.end(body);
    return true;
  }

  abort(): void {
    if (!this.#stream.destroyed) this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  #writeHead(last: boolean): void {
    const headers = this.#headers;
    if (this.#headWritten || headers === null || this.#stream.destroyed) return;
    this.#headWritten = true;
    headers.push(":status", String(this.#status));
    if (this.#length !== -1) headers.push("content-length", String(this.#length));
    // Node takes a flat list, too; its types do not know it yet.
    this.#stream.respond(headers as never, { endStream: last || this.#withoutBody });
  }
}

/** Any success would open the tunnel (RFC 8441 §4): an ordinary page does not. */
function tunnelStatus(status: number): number {
  return status === 101 ? 200 : status < 300 ? 400 : status;
}
