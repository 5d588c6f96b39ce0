/**
 * A request that the gateway makes for itself, to a deployment or to another origin, and whose whole answer it looks at.
 * Invariant: it carries nothing of a client but the host that was asked, so the answer may be given to others.
 */
import type { Clock } from "../clock.ts";
import { MayflyError } from "../errors.ts";
import { Exchange, type BodySink, type Channel } from "./exchange.ts";
import type { Address } from "./host.ts";

export interface InnerAnswer {
  readonly status: number;
  /** Flat, names lower-case. */
  readonly headers: readonly string[];
  readonly body: Buffer;
}

export interface InnerRequest {
  /** The client's, for its host, its scheme and the circles that it may be part of. */
  readonly outer: Exchange;
  readonly path: string;
  readonly query: string;
  readonly accept: string;
  readonly region: string;
  readonly bytesMax: number;
  readonly msMax: number;
  readonly clock: Clock;
}

/**
 * @param answer whoever answers the exchange; what it throws is thrown on
 * @throws MayflyError BAD_REQUEST: the answer is too large; REQUEST_TIMEOUT: it took too long; ROUTER_EXTERNAL_TARGET_ERROR: it
 * broke off
 */
export async function askInside(request: InnerRequest, answer: (exchange: Exchange) => Promise<void>): Promise<InnerAnswer> {
  const { outer, path, query, clock } = request;
  const target = query === "" ? path : `${path}?${query}`;
  const loop = outer.header("cdn-loop");
  const collector = new Collector(request.bytesMax);
  const exchange = new Exchange(
    {
      method: "GET",
      target,
      headers: ["accept", request.accept, "user-agent", "Mayfly Image Optimization", ...(loop === undefined ? [] : ["cdn-loop", loop])],
      httpVersion: "1.1",
      secure: outer.request.secure,
      serverName: null,
      remoteAddress: "127.0.0.1",
      bodyLength: 0,
      expectsContinue: false,
      upgrade: null,
    },
    collector,
    { region: request.region },
  );
  const { host, authority } = outer.address;
  exchange.address = { host, authority, target, path, query } satisfies Address;
  collector.giveUp = () => exchange.closed();
  const cancel = clock.after(request.msMax, () => {
    collector.fail(new MayflyError("REQUEST_TIMEOUT", `It was not there after ${request.msMax} ms.`));
  });
  try {
    await Promise.race([answer(exchange), collector.answer]);
    return await collector.answer;
  } finally {
    cancel();
  }
}

/** The other end of such an exchange. */
class Collector implements Channel {
  giveUp = (): void => {};
  readonly #bytesMax: number;
  readonly #answer = Promise.withResolvers<InnerAnswer>();
  #head: Pick<InnerAnswer, "status" | "headers"> | null = null;
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#answer.promise.catch(() => {});
  }

  get answer(): Promise<InnerAnswer> {
    return this.#answer.promise;
  }

  fail(error: MayflyError): void {
    this.#answer.reject(error);
    this.#chunks = [];
    // An engine never calls back from within a write.
    queueMicrotask(this.giveUp);
  }

  readBody(sink: BodySink): void {
    sink.onEnd();
  }

  pauseBody(): void {}
  resumeBody(): void {}
  dropBody(): void {}
  sendContinue(): void {}
  flush(): void {}

  head(status: number, headers: readonly string[]): void {
    this.#head = { status, headers };
  }

  write(chunk: Uint8Array): boolean {
    this.#bytes += chunk.length;
    if (this.#bytes <= this.#bytesMax) this.#chunks.push(chunk);
    else this.fail(new MayflyError("BAD_REQUEST", `It has more than ${this.#bytesMax} bytes.`));
    return true;
  }

  end(chunk?: Uint8Array): void {
    if (chunk !== undefined) this.write(chunk);
    if (this.#head !== null && this.#bytes <= this.#bytesMax) this.#answer.resolve({ ...this.#head, body: Buffer.concat(this.#chunks) });
  }

  abort(): void {
    this.fail(new MayflyError("ROUTER_EXTERNAL_TARGET_ERROR", "The answer broke off."));
  }
}
