/**
 * Hands a request to its Function and the Function's response to the client, both as streams at the slower side's pace.
 * Nothing is buffered: a body beyond the limit is refused by its announced length, or cut off where it crosses it.
 * Errors before the head are thrown for the error page; after it the connection is broken, so no half response looks whole.
 */
import { Transform, type Readable, type TransformCallback } from "node:stream";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Functions, InvocationResponse } from "../functions/functions.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { FunctionSpec, Manifest } from "../model.ts";
import type { Exchange } from "./exchange.ts";
import { isPlatformRequestHeader, isPlatformResponseHeader, passOn } from "./headers.ts";
import type { RouteHeader } from "./route.ts";

/** What routing says of the invocation. */
export interface FunctionAnswer {
  readonly manifest: Manifest;
  readonly functionId: string;
  /** Request target that the Function sees. */
  readonly url: string;
  readonly matchedPath: string;
  /** Beats the Function's own. */
  readonly status?: number;
  readonly headers: readonly RouteHeader[];
  /** It shows what went wrong with this request; the body may be spent and is not passed on. */
  readonly isErrorPage?: boolean;
  /** More headers of the platform's, flat. */
  readonly platformHeaders?: readonly string[];
}

export class Forward {
  readonly #functions: Pick<Functions, "invoke">;
  readonly #logs: Pick<LogStore, "append">;
  readonly #clock: Clock;
  readonly #bodyBytesMax: number;

  constructor(parts: {
    readonly functions: Pick<Functions, "invoke">;
    readonly logs: Pick<LogStore, "append">;
    readonly clock: Clock;
    readonly config: Pick<Config, "functionBodyBytesMax">;
  }) {
    this.#functions = parts.functions;
    this.#logs = parts.logs;
    this.#clock = parts.clock;
    this.#bodyBytesMax = parts.config.functionBodyBytesMax;
  }

  /** @throws MayflyError FUNCTION_PAYLOAD_TOO_LARGE or one of {@link Functions.invoke}, all before anything is sent */
  async answer(exchange: Exchange, answer: FunctionAnswer): Promise<void> {
    const spec = answer.manifest.functions[answer.functionId];
    if (spec === undefined) throw new MayflyError("INTERNAL_ERROR", `The manifest names no Function "${answer.functionId}".`);

    const passesBody = exchange.hasBody && answer.isErrorPage !== true;
    const announced = Number(exchange.header("content-length") ?? 0);
    if (passesBody && announced > this.#bodyBytesMax) throw this.#tooLarge(exchange, answer.manifest, spec, announced);

    const gone = new AbortController();
    const stay = exchange.onGone(() => gone.abort());
    const limit = passesBody && exchange.header("transfer-encoding") !== undefined ? new BodyLimit(this.#bodyBytesMax) : null;
    limit?.once("over", () => gone.abort());

    let response: InvocationResponse;
    const begin = performance.now();
    try {
      response = await this.#functions.invoke({
        id: exchange.id,
        manifest: answer.manifest,
        spec,
        method: exchange.method,
        url: answer.url,
        headers: functionHeaders(exchange, answer),
        body: passesBody ? this.#body(exchange, limit) : null,
        signal: gone.signal,
      });
    } catch (error) {
      stay();
      limit?.destroy();
      if (limit?.isOver === true) throw this.#tooLarge(exchange, answer.manifest, spec, null);
      throw error;
    }
    if (limit?.isOver === true) {
      response.body.destroy();
      throw this.#tooLarge(exchange, answer.manifest, spec, null);
    }
    // From here on the body is the Function's business: it may answer without having read all of it.
    limit?.once("over", () => exchange.abort());

    for (const [name, ms] of Object.entries(response.timings)) exchange.span(name, ms);
    exchange.span("forward", performance.now() - begin);
    try {
      exchange.head(answer.status ?? response.status, clientHeaders(response, answer));
    } catch (error) {
      response.body.destroy();
      throw new MayflyError("FUNCTION_RESPONSE_INVALID", undefined, { cause: error });
    }
    await stream(exchange, response.body);
  }

  #body(exchange: Exchange, limit: BodyLimit | null): Readable {
    exchange.acceptBody();
    const body = exchange.bodyStream();
    // An announced length within the limit is kept by the HTTP parser: no need to count.
    if (limit === null) return body;
    body.on("error", (error) => limit.destroy(error));
    limit.on("error", () => {});
    return body.pipe(limit);
  }

  #tooLarge(exchange: Exchange, manifest: Manifest, spec: FunctionSpec, announced: number | null): MayflyError {
    const limit = this.#bodyBytesMax;
    const size = announced === null ? `more than ${limit} bytes` : `${announced} bytes`;
    this.#logs.append([
      {
        deploymentId: manifest.deploymentId,
        source: "function",
        functionName: spec.name,
        invocationId: exchange.id,
        stream: "system",
        timestampMs: this.#clock.now(),
        text: `413 FUNCTION_PAYLOAD_TOO_LARGE: ${exchange.method} ${exchange.address.path.slice(0, 200)} has a body of ${size}; a Function accepts ${limit}.`,
      },
    ]);
    return new MayflyError("FUNCTION_PAYLOAD_TOO_LARGE", `The request body has ${size}; a Function accepts ${limit}.`, {
      details: { limit },
    });
  }
}

/** Passes bytes on up to a limit; emits `over` once when there are more, and passes no more. */
class BodyLimit extends Transform {
  readonly #bytesMax: number;
  #bytes = 0;
  isOver = false;

  constructor(bytesMax: number) {
    super();
    this.#bytesMax = bytesMax;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= this.#bytesMax) {
      done(null, chunk);
      return;
    }
    this.isOver = true;
    this.emit("over");
    done(new MayflyError("FUNCTION_PAYLOAD_TOO_LARGE"));
  }
}

function functionHeaders(exchange: Exchange, answer: FunctionAnswer): string[] {
  const { address, request } = exchange;
  const client = request.remoteAddress;
  const colon = /:(\d+)$/.exec(address.authority);
  const protocol = request.secure ? "https" : "http";
  return [
    ...passOn(request.headers, (name) => isPlatformRequestHeader(name) || (answer.isErrorPage === true && name === "content-length")),
    "host",
    address.authority,
    "x-forwarded-host",
    address.authority,
    "x-forwarded-proto",
    protocol,
    "x-forwarded-port",
    colon?.[1] ?? (protocol === "https" ? "443" : "80"),
    "x-forwarded-for",
    client,
    "x-vercel-forwarded-for",
    client,
    "x-real-ip",
    client,
    "x-vercel-id",
    exchange.publicId,
    "x-vercel-deployment-url",
    answer.manifest.host,
    "x-matched-path",
    answer.matchedPath,
  ];
}

/** The Function's headers, what routes add to them (over them only when `important`), and the platform's own. */
function clientHeaders(response: InvocationResponse, answer: FunctionAnswer): string[] {
  const own = passOn(response.headers, isPlatformResponseHeader);
  const important = new Set(answer.headers.filter((header) => header.important).map((header) => header.name));
  const headers: string[] = [];
  const names = new Set<string>();
  for (let index = 0; index < own.length; index += 2) {
    const name = own[index]!;
    if (important.has(name)) continue;
    headers.push(name, own[index + 1]!);
    names.add(name);
  }
  for (const header of answer.headers) {
    if (!names.has(header.name)) headers.push(header.name, header.value);
  }
  headers.push("x-vercel-cache", "MISS", "x-mayfly-start", response.start, ...(answer.platformHeaders ?? []));
  return headers;
}

async function stream(exchange: Exchange, body: Readable): Promise<void> {
  if (exchange.method === "HEAD") {
    body.on("error", () => {}).resume();
    exchange.end();
    return;
  }
  // Head and first chunk share a packet when the body is there already; a slow one must not hold back the head.
  const flush = setImmediate(() => exchange.flush());
  await exchange.pipe(body);
  clearImmediate(flush);
}
