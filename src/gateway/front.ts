/**
 * The front door: accepts connections and hands each to the engine that speaks its protocol. What can be done to a server
 * before there is a request (too many connections, idle ones, slow ones) ends here, and so does the server itself: in
 * order, with no request lost that was begun.
 */
import { readFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { callbackify } from "node:util";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { Certificates } from "./certificates.ts";
import type { Exchange } from "./exchange.ts";
import type { FrontConnection, FrontHost } from "./front-connection.ts";
import { DateLine } from "./http1-response.ts";
import { Http1Connection } from "./http1.ts";
import { Http2Connection } from "./http2.ts";

/** Connections that wait to be accepted. */
const backlog = 4096;
/** When there are too many connections, this share of them goes at once, those first that have been silent longest. */
const evictedShare = 0.01;
/** Of the files that this process may have open; sandboxes and blobs need the others. */
const descriptorsShare = 0.5;
/** However few those are. */
const connectionsMin = 16;
/** When the server ends, a kept connection may bring one more request for so long, which is answered. */
const drainIdleMs = 500;

/** Node has raised it to what the system allows. */
function openFilesMax(): number {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? Infinity);
  } catch {
    return Infinity;
  }
}

export interface FrontPorts {
  readonly port: number;
  /** Of TLS; null: it is not spoken. */
  readonly httpsPort: number | null;
}

export interface FrontParts {
  readonly config: Config;
  readonly clock: Clock;
  /** null: no TLS. */
  readonly certificates: Certificates | null;
}

export interface Front {
  /**
   * @param inherited descriptors of sockets that listen already; null: it opens its own
   * @throws MayflyError port_in_use
   */
  listen(inherited?: { readonly http: number | null; readonly https: number | null }): Promise<FrontPorts>;
  /** The servers that listen, for whoever hands their sockets on. */
  readonly servers: { readonly http: Server; readonly https: Server | null };
  /** Takes no more connections; requests in flight may finish within `drainMs`, then they are cut off. */
  close(drainMs: number): Promise<void>;
  /** Open connections. */
  readonly connections: number;
}

/** @param answer takes each exchange; it never throws */
export function openFront(parts: FrontParts, answer: (exchange: Exchange) => void): Front {
  return new NetFront(parts, answer);
}

class NetFront implements Front, FrontHost {
  readonly config: Config;
  readonly clock: Clock;
  readonly date: DateLine;
  readonly answer: (exchange: Exchange) => void;
  draining = false;
  readonly #server: Server;
  readonly #tlsServer: Server | null;
  readonly #connections = new Set<FrontConnection>();
  /** TLS connections that may still be in their handshake. */
  readonly #handshakes = new Set<Socket>();
  readonly #connectionsMax: number;
  #cancelSweep: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  #emptied: () => void = () => {};

  constructor({ config, clock, certificates }: FrontParts, answer: (exchange: Exchange) => void) {
    this.config = config;
    this.clock = clock;
    this.date = new DateLine(clock);
    this.#connectionsMax = Math.min(config.connectionsMax, Math.max(connectionsMin, Math.floor(openFilesMax() * descriptorsShare)));
    this.answer = answer;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
      this.#accept(socket, () => new Http1Connection(socket, this, null));
    });
    this.#tlsServer = certificates === null ? null : this.#openTls(certificates);
  }

  #openTls(certificates: Certificates): Server {
    const server = createTlsServer({
      ALPNProtocols: ["h2", "http/1.1"],
      SNICallback: callbackify((name: string) => certificates.contextFor(name.toLowerCase())),
      handshakeTimeout: this.config.headersMsMax,
      allowHalfOpen: true,
      noDelay: true,
    });
    server.on("connection", (socket: Socket) => {
      this.#handshakes.add(socket);
      socket.once("close", () => this.#handshakes.delete(socket));
    });
    server.on("secureConnection", (socket: TLSSocket) => {
      this.#accept(socket, () => {
        if (socket.alpnProtocol === "h2") return new Http2Connection(socket, this);
        const { servername } = socket;
        return new Http1Connection(socket, this, { serverName: typeof servername === "string" ? servername.toLowerCase() : null });
      });
    });
    // Whoever does not finish the handshake is gone by then.
    server.on("tlsClientError", (_error, socket: TLSSocket) => socket.destroy());
    server.maxConnections = this.#connectionsMax;
    return server;
  }

  get servers(): { readonly http: Server; readonly https: Server | null } {
    return { http: this.#server, https: this.#tlsServer };
  }

  async listen(inherited?: { readonly http: number | null; readonly https: number | null }): Promise<FrontPorts> {
    const { port, httpsPort } = this.config;
    return {
      port: await this.#listenOn(this.#server, port, inherited?.http ?? null),
      httpsPort: this.#tlsServer === null ? null : await this.#listenOn(this.#tlsServer, httpsPort, inherited?.https ?? null),
    };
  }

  async #listenOn(server: Server, port: number, inherited: number | null): Promise<number> {
    const { host } = this.config;
    await new Promise<void>((resolve, reject) => {
      // Also later: a connection that cannot be accepted (no descriptors left) is no reason to end.
      server.on("error", (error) => {
        if (server.listening) return void this.#evict();
        return reject(
          errnoOf(error) === "EADDRINUSE"
            ? new MayflyError("port_in_use", `Port ${port} of ${host} is in use.`, { cause: error })
            : new MayflyError("config_invalid", `Cannot listen on ${host}, port ${port}: ${messageOf(error)}`, { cause: error }),
        );
      });
      if (inherited === null) server.listen({ port, host, backlog }, resolve);
      else server.listen({ fd: inherited, backlog }, resolve);
    });
    return (server.address() as AddressInfo).port;
  }

  get connections(): number {
    return this.#connections.size;
  }

  close(drainMs: number): Promise<void> {
    return (this.#closing ??= this.#close(drainMs));
  }

  async #close(drainMs: number): Promise<void> {
    if (!this.#server.listening) return;
    this.draining = true;
    this.#server.close();
    this.#tlsServer?.close();
    const closeAll = (): void => {
      for (const connection of this.#connections) connection.close();
    };
    const destroyAll = (): void => {
      for (const connection of this.#connections) connection.destroy();
      for (const socket of this.#handshakes) socket.destroy();
    };
    const cancels = [this.clock.after(Math.min(drainMs, drainIdleMs), closeAll), this.clock.after(drainMs, destroyAll)];
    if (this.#connections.size > 0) {
      await new Promise<void>((resolve) => {
        this.#emptied = resolve;
      });
    }
    for (const cancel of cancels) cancel();
    this.#cancelSweep?.();
  }

  #accept(socket: Socket, open: () => FrontConnection): void {
    if (this.#connections.size >= this.#connectionsMax && !this.#evict()) {
      socket.destroy();
      return;
    }
    const connection = open();
    this.#connections.add(connection);
    connection.socket.once("close", () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#emptied();
    });
    if (this.#cancelSweep === null) this.#sweep();
  }

  /** Makes room: who holds connections without asking for anything must not shut the door on others. @returns whether there is room */
  #evict(): boolean {
    const silent = [...this.#connections].filter((connection) => connection.isSilent);
    silent.sort((a, b) => a.sinceMs - b.sinceMs);
    const count = Math.min(silent.length, Math.ceil(this.#connectionsMax * evictedShare));
    for (const connection of silent.slice(0, count)) connection.destroy();
    return count > 0;
  }

  /** Looks after deadlines: one timer for all connections costs less than one each. */
  #sweep(): void {
    const everyMs = Math.max(100, Math.min(1000, this.config.headersMsMax / 4));
    this.#cancelSweep = this.clock.after(everyMs, () => {
      this.#cancelSweep = null;
      const nowMs = this.clock.elapsed();
      for (const connection of this.#connections) connection.check(nowMs);
      if (this.#connections.size > 0) this.#sweep();
    });
  }
}
