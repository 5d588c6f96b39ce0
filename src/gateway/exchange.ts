/**
 * One request and its response on their way through the gateway: the id that the client, the Function and the log see,
 * the time each step took, and the headers that every response carries. Invariant: exactly one head is sent, and a
 * request whose body nobody read does not hold its connection for long.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../clock.ts";
import { newRequestId } from "../names.ts";
import type { Address } from "./host.ts";

/** A client that goes on sending a body after its answer is cut off after this. Ended at once it might not read the answer. */
const lingerMs = 2000;

export class Exchange {
  /** The request id; {@link Exchange.publicId} is how clients see it. */
  readonly id = newRequestId();
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly #region: string;
  readonly #spans: string[] = [];
  #awaitsContinue: boolean;
  #address: Address | null = null;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    options: { readonly region: string; readonly clock: Clock; readonly awaitsContinue: boolean },
  ) {
    this.request = request;
    this.response = response;
    this.#region = options.region;
    this.#awaitsContinue = options.awaitsContinue;
    // A client that breaks off mid-body is seen by whoever reads the body; nobody else needs to know.
    request.on("error", () => {});
    response.on("error", () => {});
    response.on("finish", () => {
      if (request.complete || request.destroyed) return;
      const { socket } = request;
      const cancel = options.clock.after(lingerMs, () => socket.destroy());
      request.once("close", cancel).resume();
    });
  }

  /** `<region>::<request id>` */
  get publicId(): string {
    return `${this.#region}::${this.id}`;
  }

  get method(): string {
    return this.request.method ?? "GET";
  }

  /** Set by the first step; errors before it have none. */
  get address(): Address {
    if (this.#address === null) throw new Error("The request's address has not been read yet");
    return this.#address;
  }

  set address(address: Address) {
    this.#address = address;
  }

  /** A request header's value by lower-case name. */
  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return typeof value === "string" ? value : value?.join(", ");
  }

  get hasBody(): boolean {
    const { headers } = this.request;
    return headers["transfer-encoding"] !== undefined || (headers["content-length"] !== undefined && headers["content-length"] !== "0");
  }

  /** Asks for the body of a client that waits for leave to send it (`Expect: 100-continue`). */
  acceptBody(): void {
    if (!this.#awaitsContinue) return;
    this.#awaitsContinue = false;
    this.response.writeContinue();
  }

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
    this.#spans.push(`${name};dur=${ms.toFixed(2)}`);
  }

  /** Sends the head. @param headers flat: name, value, … */
  head(status: number, headers: readonly string[]): void {
    const all = ["server", "Mayfly", "x-vercel-id", this.publicId, ...headers];
    if (this.#spans.length > 0) all.push("server-timing", this.#spans.join(", "));
    // The client was never told to send its body: whatever comes next on this connection could be that body or a request.
    if (this.#awaitsContinue) all.push("connection", "close");
    this.response.writeHead(status, all);
  }

  /** Sends a whole response; a HEAD request gets its head only. */
  send(status: number, headers: readonly string[], body: string | Uint8Array): void {
    this.head(status, [...headers, "content-length", String(Buffer.byteLength(body))]);
    if (this.method === "HEAD") this.response.end();
    else this.response.end(body);
  }

  /** Breaks the connection, so that the client sees that the response is not whole. */
  abort(): void {
    this.response.destroy();
  }
}
