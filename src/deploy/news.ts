/**
 * Wakes who waits for the end of a deployment. The store has the truth, and another control plane may write it, so whoever
 * waits looks there now and then all the same: news only make the look come at once.
 */
import type { Clock } from "../clock.ts";

export class DeploymentNews {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  tell(deploymentId: string): void {
    for (const wake of this.#waiting.get(deploymentId) ?? []) wake();
  }

  /** Until something is told of the deployment, at most `ms`. @returns whether it was */
  async wait(deploymentId: string, ms: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const stop = this.#clock.after(ms, () => resolve(false));
    const wake = (): void => resolve(true);
    const waiting = this.#waiting.get(deploymentId) ?? new Set();
    this.#waiting.set(deploymentId, waiting.add(wake));
    const isTold = await promise;
    stop();
    waiting.delete(wake);
    if (waiting.size === 0 && this.#waiting.get(deploymentId) === waiting) this.#waiting.delete(deploymentId);
    return isTold;
  }
}
