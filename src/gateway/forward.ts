/**
 * Hands a request to its Function and the Function's response to the client, chunk by chunk at the slower side's pace.
 * Nothing is buffered: a body beyond the limit is refused by its announced length, or cut off where it crosses it.
 * Errors before the head are thrown for the error page; after it the connection is broken, so no half response looks whole.
 */
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type {
  BodyReader,
  BodySource,
  Functions,
  Invocation,
  ResponseHead,
  ResponseSink,
  RunningInvocation,
} from "../functions/functions.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { FunctionSpec, Manifest } from "../model.ts";
import { BodyEncoders } from "./body-encoder.ts";
import type { Exchange } from "./exchange.ts";
import { clientCacheControl, isEdgeHeader, revalidateAlways } from "./freshness.ts";
import { isFramingHeader, isPlatformRequestHeader, isPlatformResponseHeader, passOn } from "./headers.ts";
import { changeHeaders, type HeaderChange } from "./header-change.ts";
import type { PartialAnswer } from "./partial-answer.ts";
import type { RouteHeader } from "./route.ts";
import { goingAway, WebSocketFrames } from "./websocket-frames.ts";

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
  /** What middleware and transforms made of the request's headers, by lower-case name; null: removed. */
  readonly requestHeaders?: ReadonlyMap<string, string | null>;
  readonly responseChanges?: readonly HeaderChange[];
  /** `x-vercel-cache`; absent: MISS. */
  readonly cache?: CacheStatus;
  /** It shows what went wrong with this request; the body may be spent and is not passed on. */
  readonly isErrorPage?: boolean;
  /** More headers of the platform's, flat. */
  readonly platformHeaders?: readonly string[];
  /** The Function goes on with what was begun for everybody. */
  readonly resumes?: {
    readonly from: PartialAnswer;
    /** Of the request, over the client's. */
    readonly headers: Readonly<Record<string, string>>;
  };
}

export type CacheStatus = "MISS" | "HIT" | "STALE" | "PRERENDER" | "REVALIDATED" | "BYPASS";

export class Forward {
  readonly #functions: Pick<Functions, "invoke">;
  readonly #logs: Pick<LogStore, "append">;
  readonly #clock: Clock;
  readonly #bodyBytesMax: number;
  readonly #encoders: BodyEncoders;

  constructor(parts: {
    readonly functions: Pick<Functions, "invoke">;
    readonly logs: Pick<LogStore, "append">;
    readonly clock: Clock;
    readonly config: Pick<Config, "functionBodyBytesMax" | "compressionsMax">;
  }) {
    this.#functions = parts.functions;
    this.#logs = parts.logs;
    this.#clock = parts.clock;
    this.#bodyBytesMax = parts.config.functionBodyBytesMax;
    this.#encoders = new BodyEncoders(parts.config);
  }

  /**
   * Resolves when the response is through or the client has gone.
   * @param functions stands between this and the Functions: the cache
   * @throws MayflyError FUNCTION_PAYLOAD_TOO_LARGE or one of `ResponseSink.fail`, all before anything is sent
   */
  async answer(exchange: Exchange, answer: FunctionAnswer, functions = this.#functions): Promise<void> {
    const spec = answer.manifest.functions[answer.functionId];
    if (spec === undefined) throw new MayflyError("INTERNAL_ERROR", `The manifest names no Function "${answer.functionId}".`);

    const { bodyLength } = exchange.request;
    const passesBody = exchange.hasBody && answer.isErrorPage !== true;
    const tooLarge = (): MayflyError => this.#tooLarge(exchange, answer.manifest, spec, bodyLength);
    if (passesBody && bodyLength !== null && bodyLength > this.#bodyBytesMax) throw tooLarge();

    // Other protocols than this are between client and platform.
    const upgrades = exchange.request.upgrade === "websocket" && exchange.method === "GET" && !passesBody;
    const answered = new Promise<void>((resolve, reject) => {
      const forwarding = new Forwarding(exchange, answer, this.#encoders, resolve, reject);
      const common = { id: exchange.id, manifest: answer.manifest, spec, url: answer.url };
      if (answer.resumes !== undefined) return forwarding.begin(functions, { ...common, ...resumption(exchange, answer, answer.resumes) });
      forwarding.begin(functions, {
        ...common,
        method: exchange.method,
        headers: functionHeaders(exchange, answer),
        // After an upgrade: what the client sends, without a limit but the invocation's time.
        body: passesBody || upgrades ? new LimitedBody(exchange, this.#bodyBytesMax, () => forwarding.refuse(tooLarge)) : null,
        ...(upgrades ? { upgrade: "websocket" } : {}),
      });
    });
    await answered;
    return undefined;
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

/** A response on its way from Function to client. */
class Forwarding implements ResponseSink {
  readonly #exchange: Exchange;
  readonly #answer: FunctionAnswer;
  readonly #encoders: BodyEncoders;
  readonly #resolve: () => void;
  readonly #reject: (error: MayflyError) => void;
  readonly #begunMs = performance.now();
  #running: RunningInvocation | undefined;
  /** The head has come, and leaves with the first chunk or, when that is not there yet, without. */
  #holds = false;
  #held: Buffer | undefined;
  #over = false;
  /** From an upgrade on. */
  #frames: WebSocketFrames | null = null;

  constructor(
    exchange: Exchange,
    answer: FunctionAnswer,
    encoders: BodyEncoders,
    resolve: () => void,
    reject: (error: MayflyError) => void,
  ) {
    this.#exchange = exchange;
    this.#answer = answer;
    this.#encoders = encoders;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(functions: Pick<Functions, "invoke">, invocation: Invocation): void {
    const running = functions.invoke(invocation, this);
    this.#running = running;
    if (this.#over) return running.cancel();
    this.#exchange.onDrain(() => running.resume());
    this.#exchange.onGone(() => {
      this.#over = true;
      running.cancel();
      this.#resolve();
    });
    const from = this.#answer.resumes?.from;
    if (from !== undefined && from.shell.length > 0) this.#giveShell(from);
  }

  /** Nobody waits for the Function to see the beginning. */
  #giveShell({ status, headers, shell }: PartialAnswer): void {
    if (!this.#giveHead(status, clientHeaders(headers, this.#answer))) return;
    this.#exchange.write(shell);
  }

  head(head: ResponseHead): void {
    const exchange = this.#exchange;
    exchange.start = head.start;
    exchange.ranIn(head.region);
    if (exchange.headSent) {
      if (head.status < 500) return;
      this.fail(new MayflyError("FUNCTION_RESPONSE_INVALID"));
      return this.#running!.cancel();
    }
    for (const name in head.timings) exchange.span(name, head.timings[name]!);
    exchange.span("forward", performance.now() - this.#begunMs);
    if (!this.#giveHead(head.status, [...clientHeaders(head.headers, this.#answer), "x-mayfly-start", head.start])) return;
    if (head.status === 101) this.#frames = new WebSocketFrames();
    // What has come in the same read leaves in the same packet; what has not must not hold back the head.
    this.#holds = true;
    queueMicrotask(this.#release);
  }

  /** @returns false: it cannot be sent */
  #giveHead(status: number, headers: readonly string[]): boolean {
    this.#exchange.cache = this.#answer.cache ?? "MISS";
    try {
      this.#encoders.head(this.#exchange, this.#answer.status ?? status, headers);
      return true;
    } catch (error) {
      this.#over = true;
      this.#running!.cancel();
      this.#reject(new MayflyError("FUNCTION_RESPONSE_INVALID", undefined, { cause: error }));
      return false;
    }
  }

  readonly #release = (): void => {
    if (!this.#holds) return;
    this.#holds = false;
    if (this.#held === undefined) this.#exchange.flush();
    else this.#exchange.write(this.#held);
    this.#held = undefined;
  };

  data(chunk: Buffer): boolean {
    if (this.#exchange.method === "HEAD") return true;
    this.#frames?.push(chunk);
    if (this.#holds && this.#held === undefined) {
      this.#held = chunk;
      return true;
    }
    this.#release();
    return this.#exchange.write(chunk);
  }

  end(): void {
    this.#over = true;
    this.#holds = false;
    this.#exchange.end(this.#held);
    this.#resolve();
  }

  fail(error: MayflyError): void {
    if (this.#over) return;
    this.#over = true;
    this.#holds = false;
    if (!this.#exchange.headSent) return this.#reject(error);
    // Not to its end: the client must see an unfinished response. A WebSocket has a word for it.
    if (this.#frames?.isBetween === true) this.#exchange.end(goingAway);
    else this.#exchange.abort();
    this.#resolve();
  }

  /** The request has more body than it may have: with the head sent, all that is left is to break off. */
  refuse(error: () => MayflyError): void {
    if (this.#over) return;
    this.fail(error());
    this.#running?.cancel();
  }
}

/** The request's body up to a limit; of a length that was announced the protocol's engine sees to it. */
class LimitedBody implements BodySource {
  readonly #exchange: Exchange;
  readonly #bytesMax: number;
  readonly #onOver: () => void;

  constructor(exchange: Exchange, bytesMax: number, onOver: () => void) {
    this.#exchange = exchange;
    this.#bytesMax = bytesMax;
    this.#onOver = onOver;
  }

  read(reader: BodyReader): void {
    if (this.#exchange.request.bodyLength !== null) return this.#exchange.readBody(reader);
    let leftBytes = this.#bytesMax;
    this.#exchange.readBody({
      onData: (chunk) => {
        if (leftBytes < 0) return;
        leftBytes -= chunk.length;
        if (leftBytes >= 0) return reader.onData(chunk);
        this.#onOver();
        reader.onError(new MayflyError("FUNCTION_PAYLOAD_TOO_LARGE"));
      },
      onEnd: () => {
        if (leftBytes >= 0) reader.onEnd();
      },
      onError: (error) => reader.onError(error),
    });
  }

  pause(): void {
    this.#exchange.pauseBody();
  }

  resume(): void {
    this.#exchange.resumeBody();
  }
}

/** What asks a Function to go on: the client's request, with the state for a body. */
function resumption(
  exchange: Exchange,
  answer: FunctionAnswer,
  { from, headers }: NonNullable<FunctionAnswer["resumes"]>,
): Pick<Invocation, "method" | "headers" | "body"> {
  const said = Object.entries(headers).filter(([name]) => !isFramingHeader(name));
  const seen = functionHeaders(exchange, answer);
  const flat: string[] = [];
  for (let index = 0; index < seen.length; index += 2) {
    const name = seen[index]!;
    if (!ofBody.has(name) && headers[name] === undefined) flat.push(name, seen[index + 1]!);
  }
  flat.push(...said.flat(), "content-length", String(from.state.length));
  return { method: "POST", headers: flat, body: new HeldState(from.state) };
}

const ofBody = new Set(["content-length", "content-type", "content-encoding"]);

class HeldState implements BodySource {
  readonly #state: Buffer;

  constructor(state: Buffer) {
    this.#state = state;
  }

  read(reader: BodyReader): void {
    if (this.#state.length > 0) reader.onData(this.#state);
    reader.onEnd();
  }

  pause(): void {}

  resume(): void {}
}

/** What the Function sees: flat, names lower-case. */
export function functionHeaders(exchange: Exchange, answer: Omit<FunctionAnswer, "headers">): string[] {
  const { address, request } = exchange;
  const { requestHeaders } = answer;
  const client = request.remoteAddress;
  const colon = /:(\d+)$/.exec(address.authority);
  const protocol = request.secure ? "https" : "http";
  const headers = passOn(
    request.headers,
    (name) =>
      isPlatformRequestHeader(name) || requestHeaders?.has(name) === true || (answer.isErrorPage === true && name === "content-length"),
  );
  for (const [name, value] of requestHeaders ?? []) {
    if (value !== null && !isPlatformRequestHeader(name) && !isFramingHeader(name)) headers.push(name, value);
  }
  headers.push(
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
    // By this Next.js tells what it made for one request from what it made for the one before, and gives no other that again.
    "x-invocation-id",
    exchange.publicId,
    "x-vercel-deployment-url",
    answer.manifest.host,
    "x-matched-path",
    answer.matchedPath,
  );
  return headers;
}

/**
 * A Function's headers, what routes add to them (over them only when `important`), and the platform's own.
 * @param raw the Function's: flat
 */
export function clientHeaders(raw: readonly string[], answer: FunctionAnswer): string[] {
  const own = passOn(raw, (name) => isPlatformResponseHeader(name) || isEdgeHeader(name));
  const important = new Set(answer.headers.filter((header) => header.important).map((header) => header.name));
  const headers: string[] = [];
  const names = new Set<string>();
  for (let index = 0; index < own.length; index += 2) {
    const name = own[index]!;
    if (important.has(name)) continue;
    const value = own[index + 1]!;
    headers.push(name, name === "cache-control" ? clientCacheControl(value) : value);
    names.add(name);
  }
  for (const { name, value } of answer.headers) {
    // A route's cookie is one more; a route's word to the edge is not for clients either.
    if ((names.has(name) && name !== "set-cookie") || isEdgeHeader(name)) continue;
    headers.push(name, name === "cache-control" ? clientCacheControl(value) : value);
    names.add(name);
  }
  if (!names.has("cache-control")) headers.push("cache-control", revalidateAlways);
  const changed = answer.responseChanges === undefined ? headers : changeHeaders(headers, answer.responseChanges);
  changed.push("x-vercel-cache", answer.cache ?? "MISS", ...(answer.platformHeaders ?? []));
  return changed;
}
