/**
 * Functions in the region that their manifest names. A node that is in none of a Function's regions hands the invocation
 * to a peer that is (`remote-invocation.ts`); when none can be reached it runs it itself. Static files and cached answers
 * never come here: they are served where the request came in. Invariant: an invocation is handed on once.
 */
import { readFileSync } from "node:fs";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { Functions, Invocation, ResponseSink, RunningInvocation } from "../functions/functions.ts";
import type { FunctionSpec } from "../model.ts";
import type { Exchange } from "./exchange.ts";
import { passOn } from "./headers.ts";
import { hopNames, HopSeal, resultHeaders, type Hop } from "./hop.ts";
import type { HostIndex } from "./host.ts";
import { parsePeers, Peers, probePath, type Peer, type PeerAddress } from "./peers.ts";
import { RemoteInvocation } from "./remote-invocation.ts";

const secretLengthMin = 32;

export interface RegionsParts {
  readonly config: Config;
  readonly clock: Clock;
  /** This node's own. */
  readonly functions: Pick<Functions, "invoke">;
  readonly hosts: HostIndex;
}

/**
 * null: this node has no peers.
 * @throws MayflyError config_invalid
 */
export function openRegions(parts: RegionsParts): Regions | null {
  const addresses = parsePeers(parts.config.peers);
  if (addresses.length === 0) return null;
  const path = parts.config.peerSecretFile;
  if (path === "") throw new MayflyError("config_invalid", "Peers need a secret that they share: MAYFLY_PEER_SECRET_FILE.");
  const secret = readSetting(path, "secret").trim();
  if (secret.length < secretLengthMin) {
    throw new MayflyError("config_invalid", `The peers' secret in ${path} must have at least ${secretLengthMin} characters.`);
  }
  const { peerCaFile } = parts.config;
  return new Regions(parts, addresses, secret, peerCaFile === "" ? undefined : readSetting(peerCaFile, "authorities"));
}

function readSetting(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new MayflyError("config_invalid", `Cannot read the peers' ${what} ${path}: ${messageOf(error)}`, { cause: error });
  }
}

export class Regions implements Pick<Functions, "invoke"> {
  readonly #parts: RegionsParts;
  readonly #peers: Peers;
  readonly #seal: HopSeal;

  /** @param authorities PEM; undefined: those that the system trusts */
  constructor(parts: RegionsParts, addresses: readonly PeerAddress[], secret: string, authorities: string | undefined) {
    const { config, clock } = parts;
    this.#parts = parts;
    this.#seal = new HopSeal(secret, clock);
    const probe = { method: "GET", target: probePath, headers: ["host", config.domain] };
    const signProbe = () => [hopNames.hop, this.#seal.sign({ id: "", functionId: "", from: config.region }, probe)];
    this.#peers = new Peers({ config, clock, addresses, authorities, signProbe });
  }

  invoke(invocation: Invocation, sink: ResponseSink): RunningInvocation {
    const { config, clock, functions } = this.#parts;
    const { id, spec } = invocation;
    const peers = this.#peersOf(spec);
    if (peers.length === 0) return functions.invoke(invocation, sink);
    const hop = { id, functionId: spec.id, from: config.region };
    const remote = new RemoteInvocation({
      config,
      clock,
      invocation,
      sink,
      peers,
      sign: (request) => this.#seal.sign(hop, request),
      local: () => functions.invoke(invocation, sink),
    });
    remote.begin();
    return remote;
  }

  /** Whom to ask, in order; nobody when this node may run it, or nobody else can. */
  #peersOf({ regions }: FunctionSpec): Peer[] {
    const { region } = this.#parts.config;
    if (regions.length === 0 || regions.includes(region) || regions.includes("all")) return [];
    return regions.flatMap((name) => this.#peers.in(name));
  }

  /** null: the request is a client's, whatever its headers say. */
  hopOf(exchange: Exchange): Hop | null {
    const value = exchange.header(hopNames.hop);
    return value === undefined ? null : this.#seal.read(value, exchange.request);
  }

  /**
   * Runs what another node has handed on.
   * @throws MayflyError INFINITE_LOOP_DETECTED: the Function does not belong here either; DEPLOYMENT_NOT_FOUND
   */
  async answer(exchange: Exchange, hop: Hop): Promise<void> {
    const { config, functions, hosts } = this.#parts;
    if (hop.functionId === "") return exchange.send(200, resultHeaders(config.region, {}), "");
    const deployment = await hosts.resolve(exchange.header("host") ?? "");
    const spec = deployment?.manifest.functions[hop.functionId];
    if (deployment === null || spec === undefined) throw new MayflyError("DEPLOYMENT_NOT_FOUND");
    if (!spec.regions.includes(config.region)) throw new MayflyError("INFINITE_LOOP_DETECTED");
    const headers = passOn(exchange.request.headers, (name) => name.startsWith(hopNames.hop));
    headers.push("host", exchange.header(hopNames.host) ?? "");
    const upgrades = exchange.request.upgrade === "websocket" && exchange.method === "GET" && !exchange.hasBody;
    const body =
      exchange.hasBody || upgrades
        ? {
            read: exchange.readBody.bind(exchange),
            pause: exchange.pauseBody.bind(exchange),
            resume: exchange.resumeBody.bind(exchange),
          }
        : null;
    const { promise, resolve } = Promise.withResolvers<void>();
    const running = functions.invoke(
      {
        id: hop.id,
        manifest: deployment.manifest,
        spec,
        method: exchange.method,
        url: exchange.request.target,
        headers,
        body,
        ...(upgrades ? { upgrade: "websocket" } : {}),
      },
      {
        head({ status, headers: raw, start, timings }) {
          exchange.head(status, [...raw, ...resultHeaders(config.region, { start, timings })]);
          exchange.flush();
        },
        data: (chunk) => exchange.method === "HEAD" || exchange.write(chunk),
        end() {
          exchange.end();
          resolve();
        },
        fail({ code, message, status, details }) {
          if (exchange.headSent) exchange.abort();
          else exchange.send(status, resultHeaders(config.region, { code, message, ...(details === undefined ? {} : { details }) }), "");
          resolve();
        },
      },
    );
    exchange.onDrain(() => running.resume());
    exchange.onGone(() => {
      running.cancel();
      resolve();
    });
    await promise;
  }

  /** Hands nothing on any more. */
  close(): void {
    this.#peers.close();
  }
}
