/**
 * The front door: accepts connections and hands each to the engine that speaks its protocol. What can be done to a server
 * before there is a request (too many connections, idle ones, slow ones) ends here, and so does the server itself: in
 * order, with no request lost that was begun.
 */
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import { DateLine } from "./http1-response.ts";
import { Http1Connection, type Http1Host } from "./http1.ts";

/** Connections that wait to be accepted. */
const backlog = 4096;
/** When there are too many connections, this share of them goes at once, those first that have been silent longest. */
const evictedShare = 0.01;
/** When the server ends, a kept connection may bring one more request for so long, which is answered. */
const drainIdleMs = 500;

export interface Front {
  /** @throws MayflyError port_in_use */
  listen(): Promise<{ readonly port: number }>;
  /** Takes no more connections; requests in flight may finish within `drainMs`, then they are cut off. */
  close(drainMs: number): Promise<void>;
  /** Open connections. */
  readonly connections: number;
}

/** @param answer takes each exchange; it never throws */
export function openFront(
  { config, clock }: { readonly config: Config; readonly clock: Clock },
  answer: (exchange: Exchange) => void,
): Front {
  return new NetFront(config, clock, answer);
}

class NetFront implements Front, Http1Host {
  readonly config: Config;
  readonly clock: Clock;
  readonly date: DateLine;
  readonly answer: (exchange: Exchange) => void;
  draining = false;
  readonly #server: Server;
  readonly #connections = new Set<Http1Connection>();
  #cancelSweep: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  #emptied: () => void = () => {};

  constructor(config: Config, clock: Clock, answer: (exchange: Exchange) => void) {
    this.config = config;
    this.clock = clock;
    this.date = new DateLine(clock);
    this.answer = answer;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
  }

  async listen(): Promise<{ readonly port: number }> {
    const { port, host } = this.config;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) => {
        reject(
          errnoOf(error) === "EADDRINUSE"
            ? new MayflyError("port_in_use", `Port ${port} of ${host} is in use.`, { cause: error })
            : new MayflyError("config_invalid", `Cannot listen on ${host}, port ${port}: ${messageOf(error)}`, { cause: error }),
        );
      });
      this.#server.listen({ port, host, backlog }, resolve);
    });
    return { port: (this.#server.address() as AddressInfo).port };
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
    const closeAll = (): void => {
      for (const connection of this.#connections) connection.close();
    };
    const destroyAll = (): void => {
      for (const connection of this.#connections) connection.destroy();
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

  #accept(socket: Socket): void {
    if (this.#connections.size >= this.config.connectionsMax && !this.#evict()) {
      socket.destroy();
      return;
    }
    const connection = new Http1Connection(socket, this, false);
    this.#connections.add(connection);
    socket.once("close", () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#emptied();
    });
    if (this.#cancelSweep === null) this.#sweep();
  }

  /** Makes room: who holds connections without asking for anything must not shut the door on others. @returns whether there is room */
  #evict(): boolean {
    const silent = [...this.#connections].filter((connection) => connection.isSilent);
    silent.sort((a, b) => a.sinceMs - b.sinceMs);
    const count = Math.min(silent.length, Math.ceil(this.config.connectionsMax * evictedShare));
    for (const connection of silent.slice(0, count)) connection.destroy();
    return count > 0;
  }

  /** Looks after deadlines: one timer for all connections costs less than one each. */
  #sweep(): void {
    const everyMs = Math.max(100, Math.min(1000, this.config.headersMsMax / 4));
    this.#cancelSweep = this.clock.after(everyMs, () => {
      this.#cancelSweep = null;
      const nowMs = this.clock.now();
      for (const connection of this.#connections) connection.check(nowMs);
      if (this.#connections.size > 0) this.#sweep();
    });
  }
}
