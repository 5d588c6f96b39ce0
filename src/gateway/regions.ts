/**
 * Functions in the region that their manifest names. A node that is in none of a Function's regions hands the invocation
 * to a peer that is, streaming both ways; a peer that cannot be reached is passed over, at last for this node itself.
 * Static files and cached answers never come here: they are served where the request came in. Invariant: an invocation is
 * handed on once, and never sent a second time after a peer may have begun it.
 */
import { readFileSync } from "node:fs";
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { isErrorCode, MayflyError, messageOf } from "../errors.ts";
import type { Functions, Invocation, InvocationStart, ResponseHead, ResponseSink, RunningInvocation } from "../functions/functions.ts";
import type { FunctionSpec } from "../model.ts";
import type { Exchange } from "./exchange.ts";
import { isFramingHeader, passOn } from "./headers.ts";
import { hopNames, readHop, signHop, type Hop, type HopRequest } from "./hop.ts";
import type { HostIndex } from "./host.ts";

/** A peer that does not take a connection within this is passed over, and left alone for a while. */
const connectMsMax = 2000;
const peerPauseMs = 5000;
/** Invocations under way at one peer. */
const peerSocketsMax = 1024;
/** What a peer may need beyond a Function's own time: waiting for an instance, and booting it. */
const peerExtraMs = 60_000;

export interface Peer {
  readonly region: string;
  /** `http://10.0.0.2:3000`, or `https://…`: its certificate must be for the platform's domain. */
  readonly origin: string;
}

export interface RegionsParts {
  readonly config: Pick<Config, "region" | "peers" | "peerSecretFile" | "peerCaFile" | "domain">;
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
  const peers = parsePeers(parts.config.peers);
  if (peers.length === 0) return null;
  const path = parts.config.peerSecretFile;
  if (path === "") throw new MayflyError("config_invalid", "Peers need a secret that they share: MAYFLY_PEER_SECRET_FILE.");
  const secret = readSetting(path, "secret").trim();
  if (secret.length < 32) throw new MayflyError("config_invalid", `The peers' secret in ${path} must have at least 32 characters.`);
  const { peerCaFile } = parts.config;
  return new Regions(parts, peers, secret, peerCaFile === "" ? undefined : readSetting(peerCaFile, "authorities"));
}

function readSetting(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new MayflyError("config_invalid", `Cannot read the peers' ${what} ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** `fra1=http://10.0.0.2:3000,iad1=http://10.0.1.2:3000` */
export function parsePeers(text: string): Peer[] {
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

export class Regions implements Pick<Functions, "invoke"> {
  readonly #parts: RegionsParts;
  readonly #peers: readonly Peer[];
  readonly #secret: string;
  readonly #agents: { readonly http: Agent; readonly https: HttpsAgent };
  /** Peer's origin → when it may be asked again. */
  readonly #pausedUntilMs = new Map<string, number>();

  /** @param authorities PEM; undefined: those that the system trusts */
  constructor(parts: RegionsParts, peers: readonly Peer[], secret: string, authorities: string | undefined) {
    this.#parts = parts;
    this.#peers = peers;
    this.#secret = secret;
    const options = { keepAlive: true, maxSockets: peerSocketsMax, maxFreeSockets: 64 };
    const servername = parts.config.domain;
    this.#agents = {
      http: new Agent(options),
      https: new HttpsAgent({ ...options, servername, ...(authorities === undefined ? {} : { ca: authorities }) }),
    };
  }

  invoke(invocation: Invocation, sink: ResponseSink): RunningInvocation {
    const { config, functions } = this.#parts;
    const peers = this.#peersOf(invocation.spec);
    if (peers.length === 0) return functions.invoke(invocation, sink);
    const remote = new RemoteInvocation({
      invocation,
      sink,
      peers,
      agents: this.#agents,
      sign: (request) =>
        signHop(this.#secret, { id: invocation.id, functionId: invocation.spec.id, from: config.region }, request, this.#parts.clock.now()),
      clock: this.#parts.clock,
      isDown: (peer, why) => {
        console.error(`gateway: the node in ${peer.region} (${peer.origin}) takes no request: ${why}`);
        this.#pausedUntilMs.set(peer.origin, this.#parts.clock.now() + peerPauseMs);
      },
      local: () => functions.invoke(invocation, sink),
    });
    remote.begin();
    return remote;
  }

  /** Whom to ask, in order; nobody when this node may run it, or nobody else can. */
  #peersOf(spec: FunctionSpec): Peer[] {
    const { region } = this.#parts.config;
    if (spec.regions.length === 0 || spec.regions.includes(region) || spec.regions.includes("all")) return [];
    const nowMs = this.#parts.clock.now();
    return spec.regions.flatMap((name) =>
      this.#peers.filter((peer) => peer.region === name && (this.#pausedUntilMs.get(peer.origin) ?? 0) <= nowMs),
    );
  }

  /** null: the request is a client's, whatever its headers say. */
  hopOf(exchange: Exchange): Hop | null {
    const value = exchange.header(hopNames.hop);
    if (value === undefined) return null;
    return readHop(
      this.#secret,
      value,
      signedPart(exchange.method, exchange.request.target, exchange.request.headers),
      this.#parts.clock.now(),
    );
  }

  /**
   * Runs what another node has handed on.
   * @throws MayflyError INFINITE_LOOP_DETECTED: the Function does not belong here either; DEPLOYMENT_NOT_FOUND
   */
  async answer(exchange: Exchange, hop: Hop): Promise<void> {
    const { config, functions, hosts } = this.#parts;
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
    const result = (said: unknown) => [hopNames.hop, config.region, hopNames.result, encodeURIComponent(JSON.stringify(said))];
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
          exchange.head(status, [...raw, ...result({ start, timings })]);
          exchange.flush();
        },
        data: (chunk) => exchange.method === "HEAD" || exchange.write(chunk),
        end() {
          exchange.end();
          resolve();
        },
        fail({ code, message, status, details }) {
          if (exchange.headSent) exchange.abort();
          else exchange.send(status, result({ code, message, details }), "");
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
}

interface RemoteParts {
  readonly invocation: Invocation;
  readonly sink: ResponseSink;
  /** Not empty. */
  readonly peers: readonly Peer[];
  readonly agents: { readonly http: Agent; readonly https: HttpsAgent };
  readonly clock: Clock;
  readonly sign: (request: HopRequest) => string;
  readonly isDown: (peer: Peer, why: string) => void;
  /** Runs it here. */
  readonly local: () => RunningInvocation;
}

/** An invocation at a peer. */
class RemoteInvocation implements RunningInvocation {
  readonly #parts: RemoteParts;
  #local: RunningInvocation | null = null;
  #outgoing: ClientRequest | null = null;
  #response: IncomingMessage | null = null;
  /** From an upgrade on. */
  #tunnel: Duplex | null = null;
  #over = false;
  #cancelDeadline: () => void = () => {};

  constructor(parts: RemoteParts) {
    this.#parts = parts;
  }

  begin(): void {
    const { spec } = this.#parts.invocation;
    this.#cancelDeadline = this.#parts.clock.after(spec.maxDurationS * 1000 + peerExtraMs, () => {
      this.#fail(new MayflyError("FUNCTION_INVOCATION_TIMEOUT"));
    });
    this.#ask(0);
  }

  resume(): void {
    if (this.#local !== null) this.#local.resume();
    else (this.#tunnel ?? this.#response)?.resume();
  }

  cancel(): void {
    this.#over = true;
    this.#cancelDeadline();
    this.#local?.cancel();
    this.#outgoing?.destroy();
    this.#tunnel?.destroy();
  }

  #ask(index: number): void {
    if (this.#over) return;
    const { invocation, peers, agents, sign, isDown, clock, local } = this.#parts;
    const peer = peers[index];
    if (peer === undefined) {
      // Nobody of the Function's regions answers: better from here than not at all.
      this.#cancelDeadline();
      this.#local = local();
      return;
    }
    const { method, url, manifest, upgrade } = invocation;
    // Of an upgrade: what the client sends once it is agreed on.
    const body = upgrade === undefined ? invocation.body : null;
    const headers = invocation.headers.slice();
    const at = headers.findIndex((name, position) => position % 2 === 0 && name === "host");
    const [, host = ""] = at === -1 ? [] : headers.splice(at, 2);
    const sent = ["host", manifest.host, ...headers, hopNames.host, host];
    sent.push(hopNames.hop, sign(signedPart(method, url, sent)));
    if (body !== null && !headers.some((name, position) => position % 2 === 0 && name === "content-length"))
      sent.push("transfer-encoding", "chunked");
    if (upgrade !== undefined) sent.push("connection", "upgrade", "upgrade", upgrade);
    const { hostname, port, protocol } = new URL(peer.origin);
    const options = { hostname: hostname.replaceAll(/[[\]]/g, ""), port, method, path: url, headers: sent };
    const isSecure = protocol === "https:";
    const outgoing = isSecure ? httpsRequest({ ...options, agent: agents.https }) : httpRequest({ ...options, agent: agents.http });
    this.#outgoing = outgoing;
    let connected = false;
    const cancelConnect = clock.after(connectMsMax, () => {
      if (!connected) outgoing.destroy(new Error("The peer takes no connection."));
    });
    const begin = (): void => {
      connected = true;
      cancelConnect();
      if (body === null) outgoing.end();
      else this.#send(outgoing, body);
    };
    outgoing.on("socket", (socket) => {
      if (socket.connecting) socket.once(isSecure ? "secureConnect" : "connect", begin);
      else begin();
    });
    // Nobody tells of a cable that was pulled: a connection that was kept just stays silent.
    const cancelProbe = clock.after(connectMsMax, () => {
      if (this.#over || this.#response !== null || !outgoing.reusedSocket) return;
      const probe = connect({ host: options.hostname, port: Number(port === "" ? (isSecure ? 443 : 80) : port), timeout: connectMsMax });
      const gone = (): void => {
        probe.destroy();
        if (this.#over || this.#response !== null) return;
        isDown(peer, "it is silent, and takes no connection");
        outgoing.destroy(new Error("The peer is gone."));
      };
      probe
        .on("connect", () => probe.destroy())
        .on("timeout", gone)
        .on("error", gone);
    });
    outgoing.once("close", cancelProbe);
    outgoing.on("response", (response) => this.#receive(response, peer));
    outgoing.on("upgrade", (response, socket, first) => this.#join(response, socket, first, peer));
    outgoing.on("error", (error) => {
      cancelConnect();
      if (this.#over || this.#response !== null) return;
      if (!connected) {
        isDown(peer, error.message);
        this.#ask(index + 1);
      } else if (outgoing.reusedSocket && body === null && (method === "GET" || method === "HEAD")) {
        // A kept connection that the peer had just closed.
        this.#ask(index);
      } else {
        this.#fail(new MayflyError("NO_RESPONSE_FROM_FUNCTION", `The node in ${peer.region} went away.`));
      }
    });
    // Its head goes with the first bytes, or at once when there are none.
    outgoing.flushHeaders();
  }

  #send(outgoing: ClientRequest, body: NonNullable<Invocation["body"]>): void {
    outgoing.on("drain", () => body.resume());
    body.read({
      onData: (chunk) => {
        if (!outgoing.write(chunk)) body.pause();
      },
      onEnd: () => outgoing.end(),
      onError: () => outgoing.destroy(),
    });
  }

  /** From here on bytes go both ways, until either side ends it. */
  #join(response: IncomingMessage, socket: Duplex, first: Buffer, peer: Peer): void {
    const { sink, invocation } = this.#parts;
    this.#response = response;
    this.#tunnel = socket;
    socket.on("error", () => {});
    const said = resultOf(response);
    if (this.#over || said === null || invocation.body === null) {
      socket.destroy();
      return this.#fail(new MayflyError("REGION_UNAVAILABLE"));
    }
    sink.head(headOf(response, said, peer));
    const take = (chunk: Buffer): void => {
      if (!this.#over && !sink.data(chunk)) socket.pause();
    };
    if (first.length > 0) take(first);
    socket.on("data", take);
    socket.once("close", () => {
      if (this.#over) return;
      this.#over = true;
      this.#cancelDeadline();
      sink.end();
    });
    socket.on("drain", () => invocation.body!.resume());
    invocation.body.read({
      onData: (chunk) => {
        if (!socket.write(chunk)) invocation.body!.pause();
      },
      onEnd: () => void socket.end(),
      onError: () => socket.destroy(),
    });
  }

  #receive(response: IncomingMessage, peer: Peer): void {
    this.#response = response;
    const { sink } = this.#parts;
    response.on("error", () => {});
    response.once("close", () => {
      if (!response.complete) this.#fail(new MayflyError("NO_RESPONSE_FROM_FUNCTION", `The node in ${peer.region} broke off.`));
    });
    if (this.#over) return;
    const said = resultOf(response);
    if (said === null || said.code !== undefined) {
      response.resume();
      const code = said?.code ?? "";
      // A node that does not know us, or has refused: its own words are not for the client.
      const known = isErrorCode(code) ? code : response.statusCode === 508 ? "INFINITE_LOOP_DETECTED" : "REGION_UNAVAILABLE";
      return this.#fail(new MayflyError(known, said?.message, said?.details === undefined ? {} : { details: said.details }));
    }
    sink.head(headOf(response, said, peer));
    response.on("data", (chunk: Buffer) => {
      if (!this.#over && !sink.data(chunk)) response.pause();
    });
    response.once("end", () => {
      if (this.#over) return;
      this.#over = true;
      this.#cancelDeadline();
      sink.end();
    });
  }

  #fail(error: MayflyError): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelDeadline();
    this.#outgoing?.destroy();
    this.#parts.sink.fail(error);
  }
}

function headOf(response: IncomingMessage, { start = "warm", timings = {} }: Result, { region }: Peer): ResponseHead {
  const headers = passOn(response.rawHeaders, (name) => name.startsWith(hopNames.hop) || name === "x-vercel-id" || name === "server");
  return { status: response.statusCode ?? 502, headers, start, timings, region };
}

/** What is signed: all but what each hop decides for itself. */
function signedPart(method: string, target: string, headers: readonly string[]): HopRequest {
  const signed: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!;
    if (name === hopNames.hop || (isFramingHeader(name) && name !== "host")) continue;
    signed.push(name, headers[index + 1]!);
  }
  return { method, target, headers: signed };
}

interface Result {
  readonly start?: InvocationStart;
  readonly timings?: Readonly<Record<string, number>>;
  readonly code?: string;
  readonly message?: string;
  readonly details?: Record<string, unknown>;
}

function resultOf(response: IncomingMessage): Result | null {
  const text = response.headers[hopNames.result];
  if (typeof text !== "string") return null;
  try {
    return JSON.parse(decodeURIComponent(text)) as Result;
  } catch {
    return null;
  }
}
