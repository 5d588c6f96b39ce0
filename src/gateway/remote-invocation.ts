/**
 * An invocation at a peer: sent, streamed back, and given to another node when the first cannot take it. Invariants: what
 * a peer may have begun is sent a second time only when that is safe (GET and HEAD, RFC 9110 §9.2.1); of several answers
 * the first is given, and the others are given up.
 *
 * ```
 * asking ─ takes no connection ─▶ the next peer, at last this node       ─ head ─▶ answering ─ ended, broke off ─▶ over
 *        ├ is silent, and safe ──▶ the next peer as well                             │
 *        └ breaks off ───────────▶ safe: the next peer; else 502                     └ 101 ─▶ tunnel
 * ```
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { isErrorCode, MayflyError } from "../errors.ts";
import type { Invocation, ResponseHead, ResponseSink, RunningInvocation } from "../functions/functions.ts";
import { passOn } from "./headers.ts";
import { hopNames, readResult, type HopRequest, type HopResult } from "./hop.ts";
import type { Peer } from "./peers.ts";

/** What a peer may need beyond a Function's own time: waiting for an instance, and booting it. */
const peerExtraMs = 60_000;

export interface RemoteInvocationParts {
  readonly config: Pick<Config, "peerConnectMsMax" | "peerSilenceMs" | "peerHedgeMs">;
  readonly clock: Clock;
  readonly invocation: Invocation;
  readonly sink: ResponseSink;
  /** Whom to ask, in order. */
  readonly peers: readonly Peer[];
  /** @returns the value of `x-mayfly-hop` */
  readonly sign: (request: HopRequest) => string;
  /** Runs it here. */
  readonly local: () => RunningInvocation;
}

/** The same invocation at one of the peers. */
interface Attempt {
  readonly peer: Peer;
  readonly outgoing: ClientRequest;
  isConnected: boolean;
  /** Calls back no more. */
  readonly ends: (() => void)[];
}

export class RemoteInvocation implements RunningInvocation {
  readonly #parts: RemoteInvocationParts;
  /** It may be asked of several. */
  readonly #isSafe: boolean;
  #asked = 0;
  /** Those from whom an answer may come. */
  readonly #attempts = new Set<Attempt>();
  #local: RunningInvocation | null = null;
  /** Of the one that answers: its response, or from an upgrade on the connection. */
  #answer: IncomingMessage | Duplex | null = null;
  #over = false;
  #cancelDeadline: () => void = () => {};

  constructor(parts: RemoteInvocationParts) {
    this.#parts = parts;
    const { method, body } = parts.invocation;
    this.#isSafe = body === null && (method === "GET" || method === "HEAD");
  }

  begin(): void {
    const { clock, invocation } = this.#parts;
    this.#cancelDeadline = clock.after(invocation.spec.maxDurationS * 1000 + peerExtraMs, () => {
      this.#fail(new MayflyError("FUNCTION_INVOCATION_TIMEOUT"));
    });
    this.#askNext();
  }

  resume(): void {
    if (this.#local !== null) this.#local.resume();
    else this.#answer?.resume();
  }

  cancel(): void {
    this.#end();
    this.#local?.cancel();
  }

  // ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #askNext(): void {
    if (this.#over || this.#answer !== null) return;
    const peer = this.#parts.peers[this.#asked++];
    if (peer !== undefined) return this.#ask(peer);
    if (this.#attempts.size > 0) return;
    // Nobody of the Function's regions answers: better from here than not at all.
    this.#end();
    this.#local = this.#parts.local();
  }

  #ask(peer: Peer): void {
    const { invocation, clock, config } = this.#parts;
    const outgoing = peer.request({ method: invocation.method, path: invocation.url, headers: this.#headers() });
    const attempt: Attempt = { peer, outgoing, isConnected: false, ends: [] };
    this.#attempts.add(attempt);
    peer.underWay++;
    outgoing.once("close", () => peer.underWay--);
    const cancelConnect = clock.after(config.peerConnectMsMax, () => {
      if (!attempt.isConnected) outgoing.destroy(new Error(`it takes no connection within ${config.peerConnectMsMax} ms`));
    });
    const begin = (): void => {
      attempt.isConnected = true;
      cancelConnect();
      this.#send(outgoing);
    };
    outgoing.on("socket", (socket) => {
      if (socket.connecting) socket.once(peer.readyEvent, begin);
      else begin();
    });
    // Nobody tells of a cable that was pulled: a connection just stays silent.
    const cancelSilence = clock.after(config.peerSilenceMs, () => void this.#doubt(attempt));
    attempt.ends.push(
      cancelConnect,
      cancelSilence,
      peer.onSilence((isLost) => {
        if (isLost) (this.#answer ?? outgoing).destroy(new Error("it has been silent for too long"));
        else if (this.#isSafe) this.#askNext();
      }),
    );
    outgoing.on("response", (response) => this.#receive(attempt, response));
    outgoing.on("upgrade", (response, socket, first) => this.#join(attempt, response, socket, first));
    outgoing.on("error", (error) => this.#broke(attempt, error));
    // Its head goes with the first bytes, or at once when there are none.
    outgoing.flushHeaders();
  }

  #headers(): string[] {
    const { method, url, manifest, upgrade, body, headers: own } = this.#parts.invocation;
    const headers = own.slice();
    const at = headers.findIndex((name, position) => position % 2 === 0 && name === "host");
    const [, host = ""] = at === -1 ? [] : headers.splice(at, 2);
    const sent = ["host", manifest.host, ...headers, hopNames.host, host];
    sent.push(hopNames.hop, this.#parts.sign({ method, target: url, headers: sent }));
    const isMeasured = headers.some((name, position) => position % 2 === 0 && name === "content-length");
    if (upgrade !== undefined) sent.push("connection", "upgrade", "upgrade", upgrade);
    else if (body !== null && !isMeasured) sent.push("transfer-encoding", "chunked");
    return sent;
  }

  #send(outgoing: ClientRequest): void {
    const { body, upgrade } = this.#parts.invocation;
    // Of an upgrade the body is what the client sends once it is agreed on.
    if (body === null || upgrade !== undefined) return void outgoing.end();
    outgoing.on("drain", () => body.resume());
    body.read({
      onData: (chunk) => {
        if (!outgoing.write(chunk)) body.pause();
      },
      onEnd: () => outgoing.end(),
      onError: () => outgoing.destroy(),
    });
  }

  /** No answer yet: it may be a slow Function, or a node that has gone. */
  async #doubt({ peer, outgoing }: Attempt): Promise<void> {
    if (this.#over || this.#answer !== null) return;
    const { clock, config } = this.#parts;
    const cancel = clock.after(config.peerHedgeMs, () => {
      if (this.#isSafe && !outgoing.destroyed) this.#askNext();
    });
    const isThere = await peer.probe();
    cancel();
    // Two that were not answered, this and the request: it is not only busy.
    if (!isThere && !this.#over && this.#answer === null && peer.isUp) peer.failed("a request and a probe are not answered");
  }

  #broke(attempt: Attempt, error: Error): void {
    const { peer, outgoing } = attempt;
    if (this.#over || this.#answer !== null || !this.#attempts.has(attempt)) return;
    this.#drop(attempt);
    if (!attempt.isConnected) {
      peer.failed(error.message);
      this.#askNext();
    } else if (this.#isSafe) {
      // A kept connection that the peer had just closed, or a peer that dies.
      if (outgoing.reusedSocket && peer.isUp) this.#ask(peer);
      else this.#askNext();
    } else {
      this.#fail(new MayflyError("NO_RESPONSE_FROM_FUNCTION", `The node in ${peer.region} went away.`));
    }
  }

  // ── answering ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The first to answer. The others are given up. @returns false: it was not the first */
  #win(attempt: Attempt, answer: IncomingMessage | Duplex): boolean {
    answer.on("error", () => {});
    attempt.peer.heard();
    if (this.#over || this.#answer !== null) {
      answer.destroy();
      return false;
    }
    this.#answer = answer;
    for (const other of this.#attempts) {
      if (other === attempt) continue;
      this.#drop(other);
      other.outgoing.destroy();
    }
    return true;
  }

  #receive(attempt: Attempt, response: IncomingMessage): void {
    if (!this.#win(attempt, response)) return;
    const { sink } = this.#parts;
    const { peer } = attempt;
    response.once("close", () => {
      if (!response.complete) this.#fail(new MayflyError("NO_RESPONSE_FROM_FUNCTION", `The node in ${peer.region} broke off.`));
    });
    const result = readResult(response.headers[hopNames.result]);
    if (result === null || result.code !== undefined) {
      response.resume();
      return this.#fail(failureOf(response, result));
    }
    sink.head(headOf(response, result, peer));
    response.on("data", (chunk: Buffer) => {
      peer.heard();
      if (!this.#over && !sink.data(chunk)) response.pause();
    });
    response.once("end", () => {
      if (this.#over) return;
      this.#close();
      sink.end();
    });
  }

  /** From here on bytes go both ways, until either side ends it. */
  #join(attempt: Attempt, response: IncomingMessage, socket: Duplex, first: Buffer): void {
    if (!this.#win(attempt, socket)) return;
    const { sink, invocation } = this.#parts;
    const { peer } = attempt;
    const { body } = invocation;
    const result = readResult(response.headers[hopNames.result]);
    if (result === null || body === null) return this.#fail(new MayflyError("REGION_UNAVAILABLE"));
    sink.head(headOf(response, result, peer));
    const take = (chunk: Buffer): void => {
      peer.heard();
      if (!this.#over && !sink.data(chunk)) socket.pause();
    };
    if (first.length > 0) take(first);
    socket.on("data", take);
    socket.once("close", () => {
      if (this.#over) return;
      this.#close();
      sink.end();
    });
    socket.on("drain", () => body.resume());
    body.read({
      onData: (chunk) => {
        if (!socket.write(chunk)) body.pause();
      },
      onEnd: () => void socket.end(),
      onError: () => socket.destroy(),
    });
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #drop(attempt: Attempt): void {
    this.#attempts.delete(attempt);
    for (const end of attempt.ends) end();
  }

  /** Takes every callback back; what is open stays open. */
  #close(): void {
    this.#over = true;
    this.#cancelDeadline();
    for (const attempt of this.#attempts) this.#drop(attempt);
  }

  #end(): void {
    const attempts = [...this.#attempts];
    this.#close();
    for (const { outgoing } of attempts) outgoing.destroy();
    this.#answer?.destroy();
  }

  #fail(error: MayflyError): void {
    if (this.#over) return;
    this.#end();
    this.#parts.sink.fail(error);
  }
}

/** A node that does not know us, or has refused: its own words are not for the client. */
function failureOf(response: IncomingMessage, result: HopResult | null): MayflyError {
  const code = result?.code ?? "";
  const known = isErrorCode(code) ? code : response.statusCode === 508 ? "INFINITE_LOOP_DETECTED" : "REGION_UNAVAILABLE";
  return new MayflyError(known, result?.message, result?.details === undefined ? {} : { details: result.details });
}

function headOf(response: IncomingMessage, { start = "warm", timings = {} }: HopResult, { region }: Peer): ResponseHead {
  const headers = passOn(response.rawHeaders, (name) => name.startsWith(hopNames.hop) || name === "x-vercel-id" || name === "server");
  return { status: response.statusCode ?? 502, headers, start, timings, region };
}
