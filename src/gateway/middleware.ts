/**
 * Asks a deployment's middleware about a request, before anything answers it. It sees the request with its whole body, which
 * whoever answers gets all the same. Its response is either the answer, or says with `x-middleware-…` headers how the
 * request goes on: that is read here, and nothing of it reaches a client. Invariant: no body passes that it has not seen.
 */
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, type ErrorCode } from "../errors.ts";
import type { BodySource, Functions, ResponseHead } from "../functions/functions.ts";
import type { Manifest } from "../model.ts";
import type { Exchange } from "./exchange.ts";
import { clientHeaders, functionHeaders, type FunctionAnswer } from "./forward.ts";
import { isFramingHeader, isPlatformRequestHeader, isPlatformResponseHeader, passOn } from "./headers.ts";
import type { MiddlewareEffect, Resolution, RouteHeader } from "./route.ts";

type Halt = Extract<Resolution, { readonly kind: "middleware" }>;

/** `proxy`: another origin is to answer. */
export type Verdict =
  | { readonly kind: "answered" }
  | { readonly kind: "go"; readonly effect: MiddlewareEffect }
  | { readonly kind: "proxy"; readonly url: string; readonly effect: MiddlewareEffect };

export interface MiddlewareParts {
  readonly functions: Pick<Functions, "invoke">;
  readonly clock: Clock;
  readonly config: Pick<Config, "middlewareBodyBytesMax" | "middlewareBodiesBytesMax" | "middlewareBodyMsMax">;
}

export class Middleware {
  readonly #functions: Pick<Functions, "invoke">;
  readonly #clock: Clock;
  readonly #config: MiddlewareParts["config"];
  /** Of bodies that are, or may be, held for middleware. */
  #heldBytes = 0;

  constructor(parts: MiddlewareParts) {
    this.#functions = parts.functions;
    this.#clock = parts.clock;
    this.#config = parts.config;
  }

  /** @throws MayflyError MIDDLEWARE_INVOCATION_FAILED, MIDDLEWARE_INVOCATION_TIMEOUT, that it cannot be started now, or why the body is refused */
  async ask(exchange: Exchange, manifest: Manifest, halt: Halt): Promise<Verdict> {
    const { middlewareBodyBytesMax, middlewareBodiesBytesMax } = this.#config;
    const { hasBody, request } = exchange;
    if (!hasBody || request.upgrade !== null || middlewareBodyBytesMax === 0) return this.#ask(exchange, manifest, halt, null);
    const bytes = request.bodyLength ?? middlewareBodyBytesMax;
    if (bytes > middlewareBodyBytesMax) throw this.#tooLarge();
    if (this.#heldBytes + bytes > middlewareBodiesBytesMax) {
      throw new MayflyError("FUNCTION_UNAVAILABLE", "Too many request bodies are held for middleware.", { details: { retryAfterS: 1 } });
    }
    this.#heldBytes += bytes;
    try {
      const body = await this.#hold(exchange);
      return body === null ? { kind: "answered" } : await this.#ask(exchange, manifest, halt, body);
    } finally {
      this.#heldBytes -= bytes;
    }
  }

  /**
   * null: the client has gone.
   * @throws MayflyError FUNCTION_PAYLOAD_TOO_LARGE, REQUEST_TIMEOUT, BAD_REQUEST
   */
  async #hold(exchange: Exchange): Promise<Buffer | null> {
    const { middlewareBodyBytesMax, middlewareBodyMsMax } = this.#config;
    const held = exchange.holdBody(middlewareBodyBytesMax);
    let isLate = false;
    const { promise: given, resolve } = Promise.withResolvers<void>();
    const cancel = this.#clock.after(middlewareBodyMsMax, () => {
      isLate = true;
      resolve();
    });
    const stay = exchange.onGone(resolve);
    await Promise.race([held.stopped, given]);
    cancel();
    stay();
    if (exchange.gone) return null;
    const { whole } = held;
    if (whole !== null) return whole;
    if (isLate) throw new MayflyError("REQUEST_TIMEOUT", `The request body was not there after ${middlewareBodyMsMax} ms.`);
    throw held.isTooLarge ? this.#tooLarge() : new MayflyError("BAD_REQUEST");
  }

  #tooLarge(): MayflyError {
    const limit = this.#config.middlewareBodyBytesMax;
    return new MayflyError("FUNCTION_PAYLOAD_TOO_LARGE", `The request body is larger than middleware accepts: ${limit} bytes.`, {
      details: { limit },
    });
  }

  #ask(exchange: Exchange, manifest: Manifest, halt: Halt, body: Buffer | null): Promise<Verdict> {
    const spec = manifest.functions[halt.functionId];
    if (spec === undefined) throw new MayflyError("INTERNAL_ERROR", `The manifest names no Function "${halt.functionId}".`);
    const answer: FunctionAnswer = { ...halt, manifest, matchedPath: `/${halt.path}`, isErrorPage: body === null };
    return new Promise((resolve, reject) => {
      let passes = false;
      let isOver = false;
      const settle = (verdict: Verdict): void => {
        isOver = true;
        resolve(verdict);
      };
      const running = this.#functions.invoke(
        {
          id: exchange.id,
          manifest,
          spec,
          method: exchange.method,
          url: halt.url,
          headers: functionHeaders(exchange, answer),
          body: body === null ? null : sourceOf(body),
        },
        {
          head: (head) => {
            const verdict = readVerdict(head, exchange, halt);
            if (verdict !== null) {
              passes = true;
              return settle(verdict);
            }
            try {
              exchange.head(head.status, clientHeaders(head.headers, answer));
            } catch (error) {
              running.cancel();
              isOver = true;
              return reject(new MayflyError("MIDDLEWARE_INVOCATION_FAILED", undefined, { cause: error }));
            }
            exchange.onDrain(() => running.resume());
          },
          data: (chunk) => passes || isOver || exchange.method === "HEAD" || exchange.write(chunk),
          end: () => {
            if (isOver) return;
            exchange.end();
            settle({ kind: "answered" });
          },
          fail: (error) => {
            if (isOver) return;
            isOver = true;
            if (!exchange.headSent) return reject(new MayflyError(failures[error.code] ?? error.code, undefined, { cause: error }));
            exchange.abort();
            settle({ kind: "answered" });
          },
        },
      );
      exchange.onGone(() => {
        if (isOver) return;
        running.cancel();
        settle({ kind: "answered" });
      });
    });
  }
}

function sourceOf(body: Buffer): BodySource {
  return {
    read: (reader) => {
      reader.onData(body);
      reader.onEnd();
    },
    pause() {},
    resume() {},
  };
}

const failures: Partial<Record<ErrorCode, ErrorCode>> = {
  FUNCTION_INVOCATION_FAILED: "MIDDLEWARE_INVOCATION_FAILED",
  FUNCTION_RESPONSE_INVALID: "MIDDLEWARE_INVOCATION_FAILED",
  NO_RESPONSE_FROM_FUNCTION: "MIDDLEWARE_INVOCATION_FAILED",
  FUNCTION_INVOCATION_TIMEOUT: "MIDDLEWARE_INVOCATION_TIMEOUT",
};

/** Of a middleware's response that lets the request go on, these are about that response itself. */
const ownNames = new Set(["content-length", "content-type", "content-encoding", "date", "location"]);

/** null: the response is the answer. */
function readVerdict({ headers }: ResponseHead, exchange: Exchange, halt: Halt): Verdict | null {
  const named = new Map<string, string>();
  for (let index = 0; index < headers.length; index += 2) named.set(headers[index]!.toLowerCase(), headers[index + 1]!);
  const target = named.get("x-middleware-rewrite");
  if (target === undefined && named.get("x-middleware-next") !== "1") return null;

  const requestHeaders = overriddenHeaders(named, exchange);
  const responseHeaders: RouteHeader[] = [];
  const passed = passOn(headers, (name) => isPlatformResponseHeader(name) || ownNames.has(name));
  for (let index = 0; index < passed.length; index += 2) {
    const name = passed[index]!;
    const value = passed[index + 1]!;
    responseHeaders.push({ name, value, important: false });
    if (name !== "set-cookie" && !requestHeaders.has(name) && !isPlatformRequestHeader(name)) requestHeaders.set(name, value);
  }
  // Next.js reads from it which cookies the middleware has set, so that the page sees them already.
  const cookies = named.get("x-middleware-set-cookie");
  if (cookies !== undefined) requestHeaders.set("x-middleware-set-cookie", cookies);

  const effect = { requestHeaders, responseHeaders, rewrite: null };
  if (target === undefined) return { kind: "go", effect };
  const rewritten = rewriteOf(target, exchange, halt);
  if (typeof rewritten === "string") return { kind: "proxy", url: rewritten, effect };
  return { kind: "go", effect: { ...effect, rewrite: rewritten } };
}

/** `x-middleware-override-headers` names every header that the request then has; what it had besides is gone. */
function overriddenHeaders(named: ReadonlyMap<string, string>, exchange: Exchange): Map<string, string | null> {
  const changed = new Map<string, string | null>();
  const list = named.get("x-middleware-override-headers");
  if (list === undefined) return changed;
  const kept = new Set(list.split(",").map((name) => name.trim().toLowerCase()));
  const { headers } = exchange.request;
  for (let index = 0; index < headers.length; index += 2) if (!kept.has(headers[index]!)) changed.set(headers[index]!, null);
  for (const name of kept) {
    if (name === "" || isFramingHeader(name) || isPlatformRequestHeader(name)) continue;
    const value = named.get(`x-middleware-request-${name}`);
    if (value !== undefined) changed.set(name, value);
    else if (exchange.header(name) !== undefined) changed.set(name, null);
  }
  // What frames the body is as the client sent it.
  for (const name of ["content-length", "content-type", "transfer-encoding", "host"])
    if (!named.has(`x-middleware-request-${name}`)) changed.delete(name);
  return changed;
}

/** A path of this site, or the URL of another origin. */
function rewriteOf(target: string, exchange: Exchange, halt: Halt): { readonly path: string; readonly query: string } | string {
  const { authority, host } = exchange.address;
  const scheme = exchange.request.secure ? "https" : "http";
  let url: URL;
  try {
    url = new URL(target, `${scheme}://${authority}${halt.url}`);
  } catch {
    throw new MayflyError("MIDDLEWARE_INVOCATION_FAILED", "The middleware rewrites to what is no URL.");
  }
  // A Function may not know the port or scheme that its clients use.
  if (url.host === authority || url.hostname === host) return { path: url.pathname, query: url.search.slice(1) };
  return url.href;
}
