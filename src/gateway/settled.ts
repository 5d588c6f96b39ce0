/**
 * Answers that are settled: routing looked at nothing of the request but its method, host and target, so every such request
 * is answered alike for as long as the host names the same deployment. They pass by the journey's steps. Invariant: what is
 * given here is what the journey would have given; whenever that is in doubt, the request makes its journey.
 */
import type { Exchange } from "./exchange.ts";
import type { Address, HostIndex, ServedDeployment } from "./host.ts";
import { Lru } from "./lru.ts";

/**
 * SEAM: who can give an answer again without a question: static files, and what the edge cache keeps. Says on the exchange
 * what answered (`answeredBy`, `cache`).
 */
export interface SettledAnswer {
  /** @returns false: not now, or not to this request; nothing has been sent then */
  give(exchange: Exchange): boolean;
}

interface Settled {
  readonly deployment: ServedDeployment;
  readonly address: Address;
  readonly functionName: string;
  readonly answer: SettledAnswer;
}

export class SettledAnswers {
  readonly #hosts: HostIndex;
  readonly #settled: Lru<string, Settled>;

  constructor(hosts: HostIndex, { settledAnswersMax }: { readonly settledAnswersMax: number }) {
    this.#hosts = hosts;
    this.#settled = new Lru(settledAnswersMax);
  }

  /** Answers at once, if it can. */
  give(exchange: Exchange): boolean {
    const { request } = exchange;
    if (!isPlainGet(exchange)) return false;
    const key = keyOf(exchange);
    const settled = this.#settled.get(key);
    if (settled === undefined) return false;
    const { address, deployment, functionName, answer } = settled;
    if (request.serverName !== null && request.serverName !== address.host) return false;
    if (this.#hosts.recall(address.host) !== deployment) {
      this.#settled.delete(key);
      return false;
    }
    exchange.address = address;
    exchange.deploymentId = deployment.manifest.deploymentId;
    exchange.functionName = functionName;
    return answer.give(exchange);
  }

  /** Takes note of how a request was answered, whose routing looked at nothing else of it. */
  note(exchange: Exchange, deployment: ServedDeployment, answer: SettledAnswer): void {
    if (isPlainGet(exchange)) {
      const { address, functionName } = exchange;
      this.#settled.set(keyOf(exchange), { deployment, address, functionName, answer });
    }
  }
}

/** A GET of a path, without a body. */
function isPlainGet({ method, request }: Exchange): boolean {
  return method === "GET" && request.bodyLength === 0 && request.upgrade === null && request.target.startsWith("/");
}

/** As the client said it. A host that journeys has no slash, so no two pairs of host and target look alike. */
function keyOf(exchange: Exchange): string {
  const { secure, target } = exchange.request;
  return `${secure ? "https " : ""}${exchange.header("host")}${target}`;
}
