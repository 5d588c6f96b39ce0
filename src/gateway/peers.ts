/**
 * The other nodes: who they are, how they are reached, and which of them can be asked now. Each is probed all the time, so
 * that a request seldom is the first to find out that a node has gone; one that was found down is asked again only when a
 * probe has come through. Invariant: who has shown itself to be no holder of the shared secret is handed no request.
 *
 * ```
 * up ─ it takes no connection, or two probes in a row are not answered ─▶ down ─ a probe is answered ─▶ up
 * ```
 */
import { Agent, request as httpRequest, type ClientRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from "node:https";
import { isIP } from "node:net";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { hopNames } from "./hop.ts";

/** Invocations under way at one peer. */
const socketsMax = 1024;
/** Probes in a row that are not answered in time, before a peer counts as down: one may have met a busy moment. */
const unansweredMax = 2;
export const probePath = "/_mayfly/health";

export interface PeerAddress {
  readonly region: string;
  /** `http://10.0.0.2:3000`, or `https://…`: its certificate must be for the platform's domain. */
  readonly origin: string;
}

export interface PeersParts {
  readonly config: Pick<Config, "domain" | "connectionIdleMs" | "peerProbeMs" | "peerProbeMsMax" | "peerLostMs">;
  readonly clock: Clock;
  readonly addresses: readonly PeerAddress[];
  /** PEM; undefined: the authorities that the system trusts. */
  readonly authorities: string | undefined;
  /** Flat headers that prove to a peer who probes it. */
  readonly signProbe: () => readonly string[];
}

/**
 * `fra1=http://10.0.0.2:3000,iad1=http://10.0.1.2:3000`
 * @throws MayflyError config_invalid
 */
export function parsePeers(text: string): PeerAddress[] {
  return text
    .split(",")
    .filter((part) => part.trim() !== "")
    .map((part) => {
      const [, region, address] = /^\s*([a-z0-9-]{1,32})=(\S+)\s*$/.exec(part) ?? [];
      const url = address === undefined ? null : URL.parse(address);
      if (region === undefined || url === null || !["http:", "https:"].includes(url.protocol) || url.pathname !== "/") {
        throw new MayflyError("config_invalid", `"${part}" is not a peer: region=http://host:port, or https.`);
      }
      return { region, origin: url.origin };
    });
}

export class Peers {
  readonly #peers: readonly Peer[];

  constructor(parts: PeersParts) {
    this.#peers = parts.addresses.map((address) => new Peer(address, parts));
  }

  /** Those of a region that can be asked now; who has least to do comes first. */
  in(region: string): Peer[] {
    return this.#peers.filter((peer) => peer.region === region && peer.isUp).toSorted((one, other) => one.underWay - other.underWay);
  }

  /** Probes no more, and lets go of what is kept open. */
  close(): void {
    for (const peer of this.#peers) peer.close();
  }
}

export class Peer {
  readonly region: string;
  readonly origin: string;
  readonly #parts: PeersParts;
  readonly #isSecure: boolean;
  readonly #options: RequestOptions;
  readonly #agent: Agent;
  /** Probes have a connection of their own. */
  readonly #probeAgent: Agent;
  readonly #onSilence = new Set<(isLost: boolean) => void>();
  #isUp = true;
  #unanswered = 0;
  #heardAtMs: number;
  #probing: Promise<boolean> | null = null;
  #cancelProbe: () => void = () => {};
  #closed = false;
  /** Invocations. */
  underWay = 0;

  constructor({ region, origin }: PeerAddress, parts: PeersParts) {
    this.region = region;
    this.origin = origin;
    this.#parts = parts;
    this.#heardAtMs = parts.clock.elapsed();
    const { hostname, port, protocol } = new URL(origin);
    const host = hostname.replaceAll(/[[\]]/g, "");
    this.#isSecure = protocol === "https:";
    this.#options = { hostname: host, port, ...(isIP(host) === 0 ? {} : { family: isIP(host) }) };
    const { config, authorities } = parts;
    // A peer closes what is idle: long before, it is not written to any more.
    const keep = { keepAlive: true, maxFreeSockets: 64, timeout: config.connectionIdleMs / 2 };
    const trust = { servername: config.domain, ...(authorities === undefined ? {} : { ca: authorities }) };
    const open = (maxSockets: number): Agent =>
      this.#isSecure ? new HttpsAgent({ ...keep, ...trust, maxSockets }) : new Agent({ ...keep, maxSockets });
    this.#agent = open(socketsMax);
    this.#probeAgent = open(1);
    void this.probe();
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Which event of a new socket says that bytes can be sent. */
  get readyEvent(): "connect" | "secureConnect" {
    return this.#isSecure ? "secureConnect" : "connect";
  }

  /** A request to it, not yet sent. */
  request(options: Pick<RequestOptions, "method" | "path"> & { readonly headers: string[] }): ClientRequest {
    return this.#open(options, this.#agent);
  }

  /** It has sent something. */
  heard(): void {
    this.#heardAtMs = this.#parts.clock.elapsed();
    this.#unanswered = 0;
  }

  /** It takes no connection, or has left one in silence. */
  failed(why: string): void {
    if (this.#closed) return;
    if (this.#isUp) console.error(`gateway: the node in ${this.region} (${this.origin}) takes no request: ${why}`);
    this.#isUp = false;
    const isLost = this.#parts.clock.elapsed() - this.#heardAtMs >= this.#parts.config.peerLostMs;
    for (const callback of this.#onSilence) callback(isLost);
  }

  /** Calls back whenever it is found down; `isLost`: it has been silent for so long that what it began will not go on. */
  onSilence(callback: (isLost: boolean) => void): () => void {
    this.#onSilence.add(callback);
    return () => this.#onSilence.delete(callback);
  }

  /** Asks whether it is there: one probe at a time. @returns whether it has answered in time */
  probe(): Promise<boolean> {
    this.#probing ??= this.#probe().finally(() => {
      this.#probing = null;
      this.#cancelProbe();
      if (!this.#closed) this.#cancelProbe = this.#parts.clock.after(this.#parts.config.peerProbeMs, () => void this.probe());
    });
    return this.#probing;
  }

  close(): void {
    this.#closed = true;
    this.#cancelProbe();
    this.#agent.destroy();
    this.#probeAgent.destroy();
  }

  async #probe(): Promise<boolean> {
    const { clock, config, signProbe } = this.#parts;
    const begunAtMs = clock.elapsed();
    const { promise, resolve } = Promise.withResolvers<string | null>();
    const outgoing = this.#open({ method: "GET", path: probePath, headers: ["host", config.domain, ...signProbe()] }, this.#probeAgent);
    const cancel = clock.after(config.peerProbeMsMax, () => resolve(silent));
    outgoing.on("response", (response) => {
      response.on("error", () => {}).resume();
      const isOurs = response.headers[hopNames.result] !== undefined;
      // Its connection is free for the next one when the body is through.
      response.once("close", () => resolve(isOurs ? null : "it does not take our signature: its secret or its clock differs"));
    });
    outgoing.on("error", (error) => resolve(error.message));
    outgoing.end();
    const why = await promise;
    cancel();
    if (why !== null) outgoing.destroy();
    if (this.#closed) return false;
    if (why === null) {
      this.heard();
      if (!this.#isUp) console.error(`gateway: the node in ${this.region} (${this.origin}) is back`);
      this.#isUp = true;
      return true;
    }
    // Busy it may be: what it has sent meanwhile shows that it is there.
    if (why === silent && this.#heardAtMs >= begunAtMs) return true;
    if (why !== silent || ++this.#unanswered >= unansweredMax) this.failed(why);
    return false;
  }

  #open(options: RequestOptions, agent: Agent): ClientRequest {
    const all = { ...options, ...this.#options, agent };
    return this.#isSecure ? httpsRequest(all) : httpRequest(all);
  }
}

const silent = "it is silent";
