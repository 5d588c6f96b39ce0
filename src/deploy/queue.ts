/**
 * Deployments that wait for their build. The database is the queue's memory; this holds only the order and what runs:
 *
 *   enqueue ─▶ waiting ─▶ running (at most `concurrency`) ─▶ gone      cancel and close reach both
 *                 └─▶ superseded, by a newer push to the same branch
 *
 * Fair between projects: they take turns, so one that deploys a hundred times delays another by one build. Within a
 * project the order is that of arrival.
 */
import { availableParallelism, totalmem } from "node:os";
import { messageOf, MayflyError } from "../errors.ts";
import type { Deployment } from "../model.ts";

/** What the queue must know of a deployment. */
export type QueuedDeployment = Pick<Deployment, "id" | "projectId" | "target" | "git">;

export interface BuildQueueOptions {
  /** Builds at once. */
  readonly concurrency: number;
  readonly waitingMax: number;
  /** Brings a deployment to its final state; never rejects for reasons of the deployment. */
  readonly run: (deploymentId: string, signal: AbortSignal) => Promise<void>;
  /** Writes down that a waiting deployment will not be built, because `by` is newer. */
  readonly supersede: (deploymentId: string, by: string) => Promise<void>;
  readonly log: (line: string) => void;
}

export class BuildQueue {
  readonly #options: BuildQueueOptions;
  /** Project → its waiting deployments. The map's order is the turn: who was served goes to the end. */
  readonly #waiting = new Map<string, QueuedDeployment[]>();
  readonly #running = new Map<string, { abort: AbortController; ended: Promise<void> }>();
  #length = 0;
  #closed = false;

  constructor(options: BuildQueueOptions) {
    this.#options = options;
  }

  /** @throws MayflyError queue_full */
  refuseWhenFull(): void {
    if (this.#length >= this.#options.waitingMax) throw new MayflyError("queue_full");
  }

  enqueue(deployment: QueuedDeployment): void {
    const waiting = this.#waiting.get(deployment.projectId) ?? [];
    if (this.#closed || this.#running.has(deployment.id) || waiting.some(({ id }) => id === deployment.id)) return;
    const older = waiting.filter((other) => isSamePlace(other, deployment));
    for (const { id } of older) {
      this.#take(deployment.projectId, id);
      this.#options.supersede(id, deployment.id).catch((error: unknown) => this.#options.log(`Deployment ${id}: ${messageOf(error)}`));
    }
    const rest = this.#waiting.get(deployment.projectId);
    if (rest === undefined) this.#waiting.set(deployment.projectId, [deployment]);
    else rest.push(deployment);
    this.#length++;
    this.#next();
  }

  get status(): { readonly running: number; readonly waiting: number } {
    let waiting = 0;
    for (const deployments of this.#waiting.values()) waiting += deployments.length;
    return { running: this.#running.size, waiting };
  }

  /** Takes a deployment out, or cuts its build off; resolves when it no longer runs. */
  async cancel(deploymentId: string): Promise<void> {
    for (const projectId of this.#waiting.keys()) this.#take(projectId, deploymentId);
    const running = this.#running.get(deploymentId);
    running?.abort.abort();
    await running?.ended;
  }

  /** Cuts every build off, to be begun again by the next control plane. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting.clear();
    this.#length = 0;
    const running = [...this.#running.values()];
    for (const { abort } of running) abort.abort();
    await Promise.all(running.map(({ ended }) => ended));
  }

  #take(projectId: string, id: string): void {
    const waiting = this.#waiting.get(projectId);
    const place = waiting?.findIndex((deployment) => deployment.id === id) ?? -1;
    if (waiting === undefined || place === -1) return;
    waiting.splice(place, 1);
    this.#length--;
    if (waiting.length === 0) this.#waiting.delete(projectId);
  }

  #next(): void {
    while (!this.#closed && this.#running.size < this.#options.concurrency) {
      const [turn] = this.#waiting;
      if (turn === undefined) return;
      const [projectId, waiting] = turn;
      const { id } = waiting[0]!;
      this.#take(projectId, id);
      // To the end of the round.
      if (this.#waiting.delete(projectId)) this.#waiting.set(projectId, waiting);
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

/** Builds at once on this machine: one a core, as far as half of the memory reaches. */
export function concurrencyHere(buildsMax: number, buildMemoryMB: number): number {
  if (buildsMax > 0) return buildsMax;
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 / (buildMemoryMB * 1024 * 1024))));
}

/** Pushes to one branch of one repository: only the newest is worth a build. What people deploy by hand never replaces another. */
function isSamePlace(a: QueuedDeployment, b: QueuedDeployment): boolean {
  if (a.git === undefined || a.git === null || b.git === undefined || b.git === null) return false;
  if (a.target !== b.target || a.git.repository !== b.git.repository || a.git.fork !== b.git.fork) return false;
  // Two forks may have branches of one name.
  return a.git.fork ? a.git.pullRequest === b.git.pullRequest : a.git.branch === b.git.branch;
}
