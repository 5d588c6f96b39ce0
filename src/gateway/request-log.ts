/**
 * Which requests to deployments are written down: all, until they come too fast. Then a share is, and a line of the
 * deployment's log says how many were not. Invariant: a request costs the hot path a comparison and, if it is written
 * down, one object; files and cached answers never crowd out what Functions did.
 */
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { Exchange } from "./exchange.ts";

/** Budgets are given out in slices so short that a burst does not use up a second. */
const sliceMs = 50;
/** So often a flood is told of. */
const tellMs = 10_000;
/** Deployments whose floods are counted at the same time; beyond it they are counted nowhere. */
const countedMax = 1000;
/** Of a request's path, in characters. */
const pathLengthMax = 1024;
/** A client that left before there was a head, as nginx and Vercel write it. */
const clientGone = 499;

export class RequestLog {
  readonly #logs: Pick<LogStore, "append" | "appendRequest">;
  readonly #clock: Clock;
  readonly #takes: string;
  readonly #rateMax: number;
  /** Requests that a slice takes: all, and of those not answered by a running Function. */
  readonly #sliceMax: number;
  readonly #slice = { endMs: 0, left: 0, leftForOthers: 0 };
  /** By deployment: how many were not written down, since it was last told. */
  #missed = new Map<string, number>();
  #isTelling = false;

  constructor(parts: {
    readonly logs: Pick<LogStore, "append" | "appendRequest">;
    readonly clock: Clock;
    readonly config: Pick<Config, "logRequests" | "logRequestsRateMax">;
  }) {
    this.#logs = parts.logs;
    this.#clock = parts.clock;
    this.#takes = parts.config.logRequests;
    this.#rateMax = parts.config.logRequestsRateMax;
    this.#sliceMax = Math.max(2, Math.ceil((this.#rateMax * sliceMs) / 1000));
  }

  /** Takes a request that was answered, by whatever answered it. Those to no deployment are nobody's. */
  take(exchange: Exchange, durationMs: number): void {
    const { deploymentId, answeredBy } = exchange;
    if (deploymentId === null || this.#takes === "none") return;
    const byFunction = answeredBy === "function" || answeredBy === "middleware";
    if (!byFunction && this.#takes === "functions") return;
    const nowMs = this.#clock.elapsed();
    const slice = this.#slice;
    if (nowMs >= slice.endMs) {
      slice.endMs = nowMs + sliceMs;
      slice.left = this.#sliceMax;
      slice.leftForOthers = this.#sliceMax >> 1;
    }
    if (slice.left <= 0 || (!byFunction && slice.leftForOthers <= 0)) return this.#miss(deploymentId);
    slice.left--;
    if (!byFunction) slice.leftForOthers--;
    const { host, path } = exchange.address;
    this.#logs.appendRequest({
      deploymentId,
      requestId: exchange.id,
      functionName: exchange.functionName,
      answeredBy,
      cache: exchange.cache,
      timestampMs: this.#clock.now(),
      method: exchange.method,
      path: path.length > pathLengthMax ? path.slice(0, pathLengthMax) : path,
      host,
      status: exchange.status === 0 ? clientGone : exchange.status,
      durationMs,
    });
  }

  #miss(deploymentId: string): void {
    const missed = this.#missed.get(deploymentId) ?? 0;
    if (missed === 0 && this.#missed.size >= countedMax) return;
    this.#missed.set(deploymentId, missed + 1);
    if (this.#isTelling) return;
    this.#isTelling = true;
    this.#clock.after(tellMs, () => this.#tell());
  }

  #tell(): void {
    this.#isTelling = false;
    const missed = this.#missed;
    this.#missed = new Map();
    const timestampMs = this.#clock.now();
    this.#logs.append(
      [...missed].map(([deploymentId, count]) => ({
        deploymentId,
        source: "function" as const,
        functionName: "",
        invocationId: "",
        stream: "system" as const,
        timestampMs,
        text: `REQUESTS_NOT_LOGGED: ${count} requests of the last ${tellMs / 1000} s are not in the log; it takes ${this.#rateMax} a second.`,
      })),
    );
  }
}
