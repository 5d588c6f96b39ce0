/**
 * Deployments that wait for their build. The database is the queue's memory; this holds only the order and what runs:
 *
 *   enqueue ─▶ waiting ─▶ running (at most `concurrency`) ─▶ gone      cancel and close reach both
 */
import { messageOf, MayflyError } from "../errors.ts";

export interface BuildQueueOptions {
  readonly concurrency: number;
  readonly waitingMax: number;
  /** Brings a deployment to its final state; never rejects for reasons of the deployment. */
  readonly run: (deploymentId: string, signal: AbortSignal) => Promise<void>;
  readonly log: (line: string) => void;
}

export class BuildQueue {
  readonly #options: BuildQueueOptions;
  readonly #waiting: string[] = [];
  readonly #running = new Map<string, { abort: AbortController; ended: Promise<void> }>();
  #closed = false;

  constructor(options: BuildQueueOptions) {
    this.#options = options;
  }

  /** @throws MayflyError queue_full */
  refuseWhenFull(): void {
    if (this.#waiting.length >= this.#options.waitingMax) throw new MayflyError("queue_full");
  }

  enqueue(deploymentId: string): void {
    if (this.#closed || this.#running.has(deploymentId) || this.#waiting.includes(deploymentId)) return;
    this.#waiting.push(deploymentId);
    this.#next();
  }

  /** Takes a deployment out, or cuts its build off; resolves when it no longer runs. */
  async cancel(deploymentId: string): Promise<void> {
    const place = this.#waiting.indexOf(deploymentId);
    if (place !== -1) this.#waiting.splice(place, 1);
    const running = this.#running.get(deploymentId);
    running?.abort.abort();
    await running?.ended;
  }

  /** Cuts every build off, to be begun again by the next control plane. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting.length = 0;
    const running = [...this.#running.values()];
    for (const { abort } of running) abort.abort();
    await Promise.all(running.map(({ ended }) => ended));
  }

  #next(): void {
    while (!this.#closed && this.#running.size < this.#options.concurrency) {
      const id = this.#waiting.shift();
      if (id === undefined) return;
      const abort = new AbortController();
      const ended = this.#options
        .run(id, abort.signal)
        .catch((error: unknown) => this.#options.log(`Deployment ${id}: ${messageOf(error)}`))
        .finally(() => {
          this.#running.delete(id);
          this.#next();
        });
      this.#running.set(id, { abort, ended });
    }
  }
}
