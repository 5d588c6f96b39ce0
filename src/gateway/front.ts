/**
 * The front door: accepts connections and turns bytes into requests, with Node's own HTTP server. Everything that a
 * client does before there is a request (malformed heads, too many connections, slowness) ends here. Another server can
 * take its place behind {@link Front}.
 */
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { errnoOf, errorTable, MayflyError, messageOf, type ErrorCode } from "../errors.ts";
import { newRequestId } from "../names.ts";
import { Exchange, type BodySink, type Channel, type RequestHead } from "./exchange.ts";

/** A client that goes on sending a body after its answer is cut off after this. Ended at once it might not read the answer. */
const lingerMs = 2000;

export interface Front {
  /** @throws MayflyError port_in_use */
  listen(): Promise<{ readonly port: number }>;
  /** Takes no more connections; requests in flight may finish within `drainMs`, then they are cut off. */
  close(drainMs: number): Promise<void>;
}

/** @param answer takes each exchange; what it throws is a bug */
export function openFront(
  { config, clock }: { readonly config: Config; readonly clock: Clock },
  answer: (exchange: Exchange) => void,
): Front {
  return new NodeFront(config, clock, answer);
}

class NodeFront implements Front {
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #server: Server;
  /** Connections whose present request has begun to be answered. */
  readonly #busy = new Map<Socket, ServerResponse>();
  #closing: Promise<void> | null = null;

  constructor(config: Config, clock: Clock, answer: (exchange: Exchange) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#server = createServer({
      maxHeaderSize: config.headersBytesMax,
      headersTimeout: config.headersMsMax,
      // A body has no time limit here: uploads to the API may be long, and a Function's duration limit covers the rest.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.max(100, Math.min(5000, config.headersMsMax / 4)),
      keepAliveTimeout: config.connectionIdleMs,
      noDelay: true,
    });
    this.#server.maxConnections = config.connectionsMax;
    const accept = (request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean): void => {
      const { socket } = request;
      this.#busy.set(socket, response);
      response.once("close", () => {
        if (this.#busy.get(socket) === response) this.#busy.delete(socket);
        if (this.#closing !== null) this.#server.closeIdleConnections();
      });
      if (this.#closing !== null) response.shouldKeepAlive = false;
      const channel = new NodeChannel(request, response, clock);
      const exchange = new Exchange(headOf(request, awaitsContinue), channel, config);
      response.on("drain", () => exchange.drained());
      response.once("close", () => exchange.closed());
      answer(exchange);
    };
    this.#server.on("request", (request, response) => accept(request, response, false));
    this.#server.on("checkContinue", (request, response) => accept(request, response, true));
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket) => this.#refuse(error, socket as Socket));
  }

  async listen(): Promise<{ readonly port: number }> {
    const { port, host } = this.#config;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) => {
        reject(
          errnoOf(error) === "EADDRINUSE"
            ? new MayflyError("port_in_use", `Port ${port} of ${host} is in use.`, { cause: error })
            : new MayflyError("config_invalid", `Cannot listen on ${host}, port ${port}: ${messageOf(error)}`, { cause: error }),
        );
      });
      this.#server.listen({ port, host, backlog: 1024 }, resolve);
    });
    return { port: (this.#server.address() as AddressInfo).port };
  }

  close(drainMs: number): Promise<void> {
    return (this.#closing ??= this.#close(drainMs));
  }

  async #close(drainMs: number): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const response of this.#busy.values()) {
      if (!response.headersSent) response.shouldKeepAlive = false;
    }
    this.#server.closeIdleConnections();
    const cancel = this.#clock.after(drainMs, () => this.#server.closeAllConnections());
    await closed;
    cancel();
  }

  /** Answers bytes that are no request, or not one that is accepted. */
  #refuse(error: NodeJS.ErrnoException, socket: Socket): void {
    const answering = this.#busy.get(socket);
    if (error.code === "ECONNRESET" || !socket.writable || answering?.headersSent === true) {
      socket.destroy();
      return;
    }
    const code = refusals[error.code ?? ""] ?? "BAD_REQUEST";
    const { status, sentence } = errorTable[code];
    const id = `${this.#config.region}::${newRequestId()}`;
    const body = `${sentence.replace(/\.$/, "")}\n\n${code}\n\n${id}\n`;
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      "server: Mayfly",
      `x-vercel-id: ${id}`,
      `x-vercel-error: ${code}`,
      "content-type: text/plain; charset=utf-8",
      `content-length: ${Buffer.byteLength(body)}`,
      "connection: close",
    ];
    socket.end(`${head.join("\r\n")}\r\n\r\n${body}`, () => socket.destroySoon());
  }
}

const refusals: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: "REQUEST_HEADER_TOO_LARGE",
  ERR_HTTP_REQUEST_TIMEOUT: "REQUEST_TIMEOUT",
};

function headOf(request: IncomingMessage, expectsContinue: boolean): RequestHead {
  const { headers, rawHeaders, socket } = request;
  const chunked = headers["transfer-encoding"] !== undefined;
  return {
    method: request.method ?? "GET",
    target: request.url ?? "",
    headers: rawHeaders.map((text, index) => (index % 2 === 0 ? text.toLowerCase() : text)),
    httpVersion: request.httpVersion === "1.0" ? "1.0" : "1.1",
    secure: "encrypted" in socket && socket.encrypted === true,
    remoteAddress: (socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, ""),
    bodyLength: chunked ? null : Number(headers["content-length"] ?? 0),
    expectsContinue,
  };
}

class NodeChannel implements Channel {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, response: ServerResponse, clock: Clock) {
    this.#request = request;
    this.#response = response;
    // A client that breaks off mid-body is seen by whoever reads the body; nobody else needs to know.
    request.on("error", () => {});
    response.on("error", () => {});
    response.on("finish", () => {
      if (request.complete || request.destroyed) return;
      const { socket } = request;
      const cancel = clock.after(lingerMs, () => socket.destroy());
      request.once("close", cancel).resume();
    });
  }

  readBody(sink: BodySink): void {
    const request = this.#request;
    request.on("data", (chunk: Buffer) => sink.onData(chunk));
    request.once("end", () => sink.onEnd());
    request.once("error", (error) => sink.onError(error));
  }

  pauseBody(): void {
    this.#request.pause();
  }

  resumeBody(): void {
    this.#request.resume();
  }

  sendContinue(): void {
    this.#response.writeContinue();
  }

  head(status: number, headers: readonly string[]): void {
    this.#response.writeHead(status, headers as string[]);
  }

  flush(): void {
    this.#response.flushHeaders();
  }

  write(chunk: Uint8Array): boolean {
    return this.#response.write(chunk);
  }

  end(chunk?: Uint8Array): void {
    if (chunk === undefined) this.#response.end();
    else this.#response.end(chunk);
  }

  abort(): void {
    this.#response.destroy();
  }
}
