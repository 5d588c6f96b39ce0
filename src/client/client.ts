/**
 * The API's caller: one origin, one token. Hides connections, JSON errors (they become MayflyError with the server's
 * code and message), deadlines and retries. Invariant: a call that is not idempotent is sent at most once.
 */
import type { Agent, IncomingMessage, RequestOptions } from "node:http";
import type { LookupFunction } from "node:net";
import { pipeline, Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, isErrorCode, MayflyError, messageOf, type ErrorCode } from "../errors.ts";
import { isObject, type JsonObject } from "./json.ts";

/** Imported, a built-in module is asked for all it exports, and `node:http` then loads WebSockets: 50 ms of every command. */
const transportOf = (protocol: string) => process.getBuiltinModule(protocol === "https:" ? "node:https" : "node:http");

/** Longest wait for the whole answer of a JSON call, in ms. */
const callMsMax = 60_000;
/** An upload that moves no byte for so long is broken off, in ms. */
const uploadIdleMsMax = 120_000;
/** Largest JSON answer, and longest line of a stream, in bytes. */
const answerBytesMax = 64 * 1024 * 1024;
/** Attempts of an idempotent call; with the default back-off they span about 6 s, the time of a server's restart. */
const attemptsMax = 6;
/** Wait before the second attempt, in ms; it doubles from attempt to attempt. */
const backoffMsDefault = 200;
/** Connections kept open to the server. */
const connectionsMax = 16;

export interface ClientOptions {
  /** Origin of the API: `http://127.0.0.1:3000`. */
  readonly api: string;
  /** Sent as a bearer token; absent: none is sent. */
  readonly token?: string | undefined;
  /** First wait between attempts, in ms. */
  readonly backoffMs?: number;
}

export interface CallOptions {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
  /** Whether a second sending is harmless; GET always is. */
  readonly idempotent?: boolean;
}

export interface UploadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called before every attempt after the first. */
  readonly onRetry?: () => void;
}

interface Exchange {
  readonly method: string;
  readonly url: URL;
  readonly headers: Record<string, string | number>;
  readonly body?: Uint8Array | (() => AsyncIterable<Uint8Array>) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly idempotent: boolean;
  /** Socket idle time, in ms, after which the exchange fails. */
  readonly idleMs?: number;
  /** Time for the whole exchange, in ms. */
  readonly deadlineMs?: number;
  readonly onRetry?: (() => void) | undefined;
}

export class ApiClient implements Disposable {
  /** The API's origin. */
  readonly api: string;
  readonly #base: URL;
  readonly #token: string | undefined;
  readonly #backoffMs: number;
  readonly #agent: Agent;
  /** An answer has come from there: from now on a refused connection means "restarting", before that "nothing there". */
  #answered = false;

  constructor(options: ClientOptions) {
    this.#base = new URL(options.api);
    this.api = this.#base.origin;
    this.#token = options.token;
    this.#backoffMs = options.backoffMs ?? backoffMsDefault;
    this.#agent = new (transportOf(this.#base.protocol).Agent)({ keepAlive: true, maxSockets: connectionsMax });
  }

  /**
   * One JSON call. An empty answer (204) is `{}`.
   * @throws MayflyError with the server's code; server_unreachable, timeout, canceled
   */
  async call(method: string, path: string, options: CallOptions = {}): Promise<JsonObject> {
    const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
    return this.#attempt(
      {
        method,
        url: this.#url(path, options.query),
        headers: { accept: "application/json", ...(body && { "content-type": "application/json", "content-length": body.byteLength }) },
        body,
        signal: options.signal,
        idempotent: options.idempotent ?? method === "GET",
        deadlineMs: callMsMax,
      },
      readJson,
    );
  }

  /**
   * Uploads the bytes of one file, whose SHA-1 is `sha` and whose length is `size` bytes. `open` begins them anew for
   * each attempt; what it throws ends the upload without another attempt.
   */
  async upload(sha: string, size: number, open: () => AsyncIterable<Uint8Array>, options: UploadOptions = {}): Promise<void> {
    const headers = { "content-type": "application/octet-stream", "content-length": size, "x-now-digest": sha, "x-now-size": size };
    const exchange = { headers, body: open, idempotent: true, idleMs: uploadIdleMsMax, ...options };
    await this.#attempt({ method: "POST", url: this.#url("/v2/files"), ...exchange }, readJson);
  }

  /**
   * The objects of a newline-delimited JSON stream, as they come; blank and broken lines (keep-alives) are left out.
   * Ends when the server ends it; a connection that breaks throws server_unreachable.
   */
  async *lines(path: string, options: { query?: CallOptions["query"]; signal?: AbortSignal | undefined } = {}): AsyncGenerator<JsonObject> {
    const url = this.#url(path, options.query);
    const headers = { accept: "application/x-ndjson" };
    const response = await this.#attempt({ method: "GET", url, headers, signal: options.signal, idempotent: true }, async (r) => r);
    try {
      for await (const line of splitLines(response)) {
        const value = parseJson(line);
        if (isObject(value)) yield value;
      }
    } catch (error) {
      throw this.#failure(error, { method: "GET", url, signal: options.signal });
    } finally {
      response.destroy();
    }
  }

  /** Closes idle connections. */
  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  #url(path: string, query: CallOptions["query"] = {}): URL {
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    return url;
  }

  async #attempt<T>(exchange: Exchange, read: (response: IncomingMessage) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const last = attempt === attemptsMax;
      let waitMs = this.#backoffMs * 2 ** (attempt - 1) * (0.75 + Math.random() / 2);
      try {
        const deadline = exchange.deadlineMs === undefined ? [] : [AbortSignal.timeout(exchange.deadlineMs)];
        const signals = [...(exchange.signal ? [exchange.signal] : []), ...deadline];
        const response = await this.#exchange(exchange, signals.length > 0 ? AbortSignal.any(signals) : undefined);
        this.#answered = true;
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) return await read(response);
        const error = await this.#errorOf(response);
        // 429 means that nothing was done, so it may be repeated whatever the call is. A full disk stays full.
        const repeatable = status === 429 || (exchange.idempotent && status >= 500 && status !== 507);
        if (!repeatable || last) throw error;
        const retryAfterS = Number(response.headers["retry-after"]);
        if (status === 429 && retryAfterS > 0) waitMs = Math.min(retryAfterS, 30) * 1000;
      } catch (error) {
        if (error instanceof MayflyError) throw error;
        const connected = !beforeConnection.has(errnoOf(error) ?? "");
        // Without a connection nothing was done; but where nothing has ever answered, waiting would not help.
        const repeatable = isConnectionError(error) && (connected ? exchange.idempotent : this.#answered);
        if (!repeatable || last || exchange.signal?.aborted === true) throw this.#failure(error, exchange);
      }
      await this.#pause(waitMs, exchange);
      exchange.onRetry?.();
    }
  }

  async #pause(ms: number, exchange: Exchange): Promise<void> {
    try {
      await sleep(ms, undefined, { signal: exchange.signal });
    } catch (error) {
      throw this.#failure(error, exchange);
    }
  }

  #exchange(exchange: Exchange, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    const options: RequestOptions = {
      method: exchange.method,
      headers: { ...exchange.headers, "user-agent": "mayfly", ...(this.#token && { authorization: `Bearer ${this.#token}` }) },
      // A kept connection may be closed by the server just as we write; only what may be repeated can take that risk.
      agent: exchange.idempotent ? this.#agent : false,
      lookup: lookupLocalhost(exchange.url.hostname),
      ...(signal && { signal }),
    };
    return new Promise((resolve, reject) => {
      const request = transportOf(exchange.url.protocol).request(exchange.url, options);
      request.on("response", (response) => {
        // An answer before the end of the body is the server's refusal: the rest of the body is of no use.
        response.on("close", () => request.writableFinished || request.destroy());
        resolve(response);
      });
      request.on("error", reject);
      if (exchange.idleMs !== undefined) {
        request.setTimeout(exchange.idleMs, () => request.destroy(Object.assign(new Error("Idle for too long"), { code: "ECONNRESET" })));
      }
      if (typeof exchange.body === "function") {
        // The request's own error says less than the body's, which comes here first.
        pipeline(Readable.from(exchange.body()), request, (error) => error && reject(error));
      } else {
        request.end(exchange.body);
      }
    });
  }

  async #errorOf(response: IncomingMessage): Promise<MayflyError> {
    const status = response.statusCode ?? 0;
    const answer = await readJson(response).catch((error: unknown) => {
      if (isConnectionError(error)) throw error;
      return {} as JsonObject;
    });
    if (!isObject(answer["error"]) || typeof answer["error"]["code"] !== "string") {
      if (status >= 500) return new MayflyError("internal_error", `${this.api} answers with HTTP ${status}.`);
      return new MayflyError(
        "server_unreachable",
        `What answers at ${this.api} is not Mayfly's API (HTTP ${status} without an error code).`,
      );
    }
    const { code, message, ...details } = answer["error"];
    const text = typeof message === "string" && message !== "" ? message : undefined;
    if (isErrorCode(code as string)) return new MayflyError(code as ErrorCode, text, { details });
    // A code this client does not know: the closest it does, and the server's own among the details.
    return new MayflyError(codeOfStatus(status), `${text ?? "The server refuses the call."} (${String(code)})`, {
      details: { ...details, serverCode: code },
    });
  }

  /** What a failed exchange is called, for people. */
  #failure(error: unknown, exchange: Pick<Exchange, "method" | "url" | "signal" | "deadlineMs">): Error {
    if (error instanceof MayflyError) return error;
    if (exchange.signal?.aborted === true) return new MayflyError("canceled", undefined, { cause: error });
    const what = `${exchange.method} ${exchange.url.pathname}`;
    if (error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError")) {
      return new MayflyError("timeout", `${this.api} did not answer ${what} within ${(exchange.deadlineMs ?? 0) / 1000} s.`, {
        cause: error,
      });
    }
    if (!isConnectionError(error)) return error instanceof Error ? error : new Error(messageOf(error));
    const errno = errnoOf(error) ?? messageOf(error);
    const message =
      this.#answered || !beforeConnection.has(errno)
        ? `The connection to the Mayfly server at ${this.api} broke during ${what} (${errno}).`
        : `No Mayfly server answers at ${this.api} (${errno}).`;
    return new MayflyError("server_unreachable", message, { cause: error });
  }
}

/** Errors that say that no connection was made. */
const beforeConnection: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "EADDRNOTAVAIL",
]);

function isConnectionError(error: unknown): boolean {
  const errno = errnoOf(error);
  if (errno === undefined) return false;
  return (
    beforeConnection.has(errno) || /^(ECONN|EPIPE|ETIMEDOUT|EPROTO|HPE_|ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO)/.test(errno)
  );
}

function codeOfStatus(status: number): ErrorCode {
  if (status === 401) return "unauthorized";
  if (status === 403) return "forbidden";
  if (status === 404) return "not_found";
  if (status === 409) return "conflict";
  if (status === 413) return "payload_too_large";
  return status >= 500 ? "internal_error" : "bad_request";
}

/** `*.localhost` is this machine (RFC 6761 §6.3), though many resolvers do not know it. */
function lookupLocalhost(hostname: string): LookupFunction | undefined {
  if (!hostname.endsWith(".localhost")) return undefined;
  return (_hostname, options, callback) => {
    if (options.all === true) callback(null, [{ address: "127.0.0.1", family: 4 }]);
    else callback(null, "127.0.0.1", 4);
  };
}

/** The answer's JSON object; an empty body is `{}`. */
async function readJson(response: IncomingMessage): Promise<JsonObject> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > answerBytesMax) throw new MayflyError("payload_too_large", `The server's answer has more than ${answerBytesMax} bytes.`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString();
  if (text.trim() === "") return {};
  const value = parseJson(text);
  if (!isObject(value)) {
    throw new MayflyError("server_unreachable", "What answers is not Mayfly's API: its answer is not a JSON object.");
  }
  return value;
}

async function* splitLines(response: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of response) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > answerBytesMax) throw new MayflyError("payload_too_large", "A line of the server's stream is too long.");
    yield* lines;
  }
  if (rest !== "") yield rest;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
