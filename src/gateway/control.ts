/**
 * Passes requests at the API's host to the control plane behind a unix socket, which is another process and may come and
 * go. Streams both ways in bounded memory; when nobody answers, says so in the API's own error form.
 */
import { request as connect, type IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { errnoOf, errorTable } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import { clientAddress } from "./forward.ts";
import { isForwardingHeader, isGatewayHeader, passOn } from "./headers.ts";

/** Where the control plane listens. */
export interface ControlPlane {
  /** null: nowhere at present. */
  socketPath(): string | null;
}

export class Control {
  readonly #plane: ControlPlane;

  constructor(plane: ControlPlane) {
    this.#plane = plane;
  }

  async answer(exchange: Exchange): Promise<void> {
    const socketPath = this.#plane.socketPath();
    if (socketPath === null) return unavailable(exchange);
    let upstream: IncomingMessage;
    try {
      upstream = await this.#ask(exchange, socketPath);
    } catch (error) {
      if (exchange.response.destroyed) return undefined;
      return unavailable(exchange, errnoOf(error));
    }
    exchange.head(upstream.statusCode ?? 502, passOn(upstream.rawHeaders, isGatewayHeader));
    exchange.response.flushHeaders();
    try {
      await pipeline(upstream, exchange.response);
    } catch {
      // Either side broke off: pipeline has ended both.
    }
    return undefined;
  }

  #ask(exchange: Exchange, socketPath: string): Promise<IncomingMessage> {
    const { request, response, address } = exchange;
    const client = clientAddress(request.socket);
    // A connection for each request: over a unix socket it costs next to nothing, and a kept one could be one that the
    // control plane has just closed.
    const outgoing = connect({
      socketPath,
      agent: false,
      method: exchange.method,
      path: address.target,
      headers: [
        ...passOn(request.rawHeaders, isForwardingHeader),
        "host",
        address.authority,
        "x-forwarded-host",
        address.authority,
        "x-forwarded-proto",
        "encrypted" in request.socket && request.socket.encrypted === true ? "https" : "http",
        "x-forwarded-for",
        client,
        "x-vercel-id",
        exchange.publicId,
        // Told "close", a control plane that refuses a body would close at once, and its answer be lost to the writes
        // that are under way; kept open, it reads the rest of the body.
        "connection",
        "keep-alive",
        ...(request.headers["transfer-encoding"] === undefined ? [] : ["transfer-encoding", "chunked"]),
      ],
    });
    response.once("close", () => outgoing.destroy());
    if (exchange.hasBody) {
      exchange.acceptBody();
      request.pipe(outgoing);
      request.once("error", () => outgoing.destroy());
    } else {
      outgoing.end();
    }
    return new Promise((resolve, reject) => {
      outgoing.once("response", resolve);
      // Also after the response: the control plane may refuse a body it has not read to its end.
      outgoing.on("error", reject);
    });
  }
}

function unavailable(exchange: Exchange, reason?: string): void {
  const { status, sentence } = errorTable.CONTROL_PLANE_UNAVAILABLE;
  const message = reason === undefined ? sentence : `${sentence} (${reason})`;
  const body = JSON.stringify({ error: { code: "CONTROL_PLANE_UNAVAILABLE", message, id: exchange.publicId } });
  exchange.send(
    status,
    ["content-type", "application/json; charset=utf-8", "retry-after", "1", "x-vercel-error", "CONTROL_PLANE_UNAVAILABLE"],
    `${body}\n`,
  );
}
