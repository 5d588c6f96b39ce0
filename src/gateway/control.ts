/**
 * Passes requests at the API's host to the control plane behind a unix socket, which is another process and may come and
 * go. Streams both ways in bounded memory; when nobody answers, says so in the API's own error form.
 */
import { Agent, request as connect, type IncomingMessage } from "node:http";
import { errnoOf, errorTable } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import { isForwardingHeader, isGatewayHeader, passOn } from "./headers.ts";

/** API calls under way at a time; followers of logs and events stay for long. */
const callsMax = 1000;
/** Connections kept open between calls, and for how long: shorter than the control plane keeps them. */
const idleMax = 32;
const idleMs = 10_000;

/** Where the control plane listens. */
export interface ControlPlane {
  /** null: nowhere at present. */
  socketPath(): string | null;
  /** Settles when one that is being started answers, or does not come; null: none is being started. */
  coming?(): Promise<void> | null;
}

export class Control {
  readonly #plane: ControlPlane;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: callsMax, maxFreeSockets: idleMax, timeout: idleMs });
  #calls = 0;

  constructor(plane: ControlPlane) {
    this.#plane = plane;
  }

  async answer(exchange: Exchange): Promise<void> {
    if (this.#calls >= callsMax) return unavailable(exchange, `${callsMax} calls are under way`);
    this.#calls++;
    try {
      // While a node starts, or takes another's place, its first control plane is worth the wait.
      const coming = this.#plane.socketPath() === null ? (this.#plane.coming?.() ?? null) : null;
      if (coming !== null) await coming;
      const socketPath = this.#plane.socketPath();
      if (socketPath === null) return unavailable(exchange);
      await this.#pass(exchange, socketPath);
    } finally {
      this.#calls--;
    }
    return undefined;
  }

  async #pass(exchange: Exchange, socketPath: string): Promise<void> {
    // A kept connection may be one that the control plane has just closed. So only what may be asked twice goes over one.
    const kept = (exchange.method === "GET" || exchange.method === "HEAD") && !exchange.hasBody;
    let upstream: IncomingMessage;
    try {
      upstream = await this.#ask(exchange, socketPath, kept).catch((error: unknown) => {
        if (!kept || exchange.gone) throw error;
        return this.#ask(exchange, socketPath, false);
      });
    } catch (error) {
      if (exchange.gone) return undefined;
      return unavailable(exchange, errnoOf(error));
    }
    exchange.head(upstream.statusCode ?? 502, passOn(upstream.rawHeaders, isGatewayHeader));
    exchange.flush();
    return exchange.pipe(upstream);
  }

  #ask(exchange: Exchange, socketPath: string, kept: boolean): Promise<IncomingMessage> {
    const { request, address } = exchange;
    const outgoing = connect({
      socketPath,
      agent: kept ? this.#agent : false,
      method: exchange.method,
      path: address.target,
      headers: [
        ...passOn(request.headers, isForwardingHeader),
        "host",
        address.authority,
        "x-forwarded-host",
        address.authority,
        "x-forwarded-proto",
        request.secure ? "https" : "http",
        "x-forwarded-for",
        request.remoteAddress,
        "x-vercel-id",
        exchange.publicId,
        // Told "close", a control plane that refuses a body would close at once, and its answer be lost to the writes
        // that are under way; kept open, it reads the rest of the body.
        "connection",
        "keep-alive",
        ...(request.bodyLength === null ? ["transfer-encoding", "chunked"] : []),
      ],
    });
    exchange.onGone(() => outgoing.destroy());
    if (exchange.hasBody) {
      exchange.readBody({
        onData: (chunk) => {
          if (!outgoing.write(chunk)) exchange.pauseBody();
        },
        onEnd: () => outgoing.end(),
        onError: () => outgoing.destroy(),
      });
      outgoing.on("drain", () => exchange.resumeBody());
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
