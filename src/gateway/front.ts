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

export interface Front {
  /** @throws MayflyError port_in_use */
  listen(): Promise<{ readonly port: number }>;
  /** Takes no more connections; requests in flight may finish within `drainMs`, then they are cut off. */
  close(drainMs: number): Promise<void>;
}

export interface FrontRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The client waits for leave to send its body. */
  readonly awaitsContinue: boolean;
}

export function openFront(
  { config, clock }: { readonly config: Config; readonly clock: Clock },
  answer: (request: FrontRequest) => void,
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

  constructor(config: Config, clock: Clock, answer: (request: FrontRequest) => void) {
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
      answer({ request, response, awaitsContinue });
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
