/**
 * Makes pictures smaller, in sandboxes that strangers' pictures cannot leave. Hides the workers: they boot when asked for,
 * rest frozen, and go when idle. Invariants: at most `imageWorkersMax` workers; a worker sees the pictures of one project
 * only, so that whoever takes one over by a broken picture finds nobody else's; whoever waits does so in turn and in time.
 */
import { availableParallelism } from "node:os";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { SandboxDriver, SandboxMount } from "../sandbox/sandbox.ts";
import type { ImageJob } from "./frames.js";
import { ImageWorker, PictureRefused, workerMounts, type Made } from "./image-worker.ts";

export interface ImageTask extends Omit<ImageJob, "pixelsMax"> {
  /** Whose picture it is. */
  readonly projectId: string;
  readonly source: Buffer;
}

/** SEAM between the gateway and what makes pictures. */
export interface Optimiser {
  /**
   * @returns null: the picture moves and is to be given as it is
   * @throws MayflyError INVALID_IMAGE_OPTIMIZE_REQUEST: it is no picture, or too large a one; IMAGE_OPTIMIZER_BUSY: too many
   * wait; INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED: its worker ended, took too long or cannot be started
   */
  optimise(task: ImageTask): Promise<Made>;
  /** Ends all workers. */
  close(): Promise<void>;
}

export interface OptimiserOptions {
  readonly config: Pick<
    Config,
    "imageWorkersMax" | "imageQueueMax" | "imageMsMax" | "imageIdleMs" | "imageMemoryMB" | "imagePixelsMax" | "imageSourceBytesMax"
  >;
  readonly clock: Clock;
  readonly sandboxes: SandboxDriver;
}

/** @returns null, and why: there are no binaries for this platform */
export function openOptimiser(options: OptimiserOptions): Optimiser | { readonly missing: string } {
  try {
    return new Workers(options, workerMounts());
  } catch (error) {
    return { missing: messageOf(error).split("\n", 1)[0]! };
  }
}

interface Resting {
  readonly projectId: string;
  readonly worker: ImageWorker;
  readonly cancelEnd: () => void;
}

class Workers implements Optimiser {
  readonly #options: OptimiserOptions;
  readonly #mounts: readonly SandboxMount[];
  readonly #workersMax: number;
  /** Used last at the end. */
  readonly #resting: Resting[] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #alive = new Set<ImageWorker>();
  readonly #ending = new Set<Promise<void>>();
  #busy = 0;
  #closed = false;

  constructor(options: OptimiserOptions, mounts: readonly SandboxMount[]) {
    this.#options = options;
    this.#mounts = mounts;
    const { imageWorkersMax } = options.config;
    this.#workersMax = imageWorkersMax === 0 ? Math.max(1, Math.floor(availableParallelism() / 2)) : imageWorkersMax;
  }

  async optimise({ projectId, source, ...job }: ImageTask): Promise<Made> {
    await this.#turn();
    try {
      return await this.#make(projectId, { ...job, pixelsMax: this.#options.config.imagePixelsMax }, source);
    } finally {
      this.#busy--;
      this.#waiting.shift()?.();
    }
  }

  /** Resolves when one more may be at work. */
  async #turn(): Promise<void> {
    const { config, clock } = this.#options;
    if (this.#closed) throw new MayflyError("SHUTTING_DOWN");
    if (this.#busy >= this.#workersMax) {
      if (this.#waiting.length >= config.imageQueueMax) throw busy();
      await new Promise<void>((resolve, reject) => {
        const go = (): void => {
          cancel();
          resolve();
        };
        const cancel = clock.after(config.imageMsMax, () => {
          this.#waiting.splice(this.#waiting.indexOf(go), 1);
          reject(busy());
        });
        this.#waiting.push(go);
      });
      if (this.#closed) throw new MayflyError("SHUTTING_DOWN");
    }
    this.#busy++;
  }

  async #make(projectId: string, job: ImageJob, source: Buffer): Promise<Made> {
    const { clock, config } = this.#options;
    let worker: ImageWorker | undefined;
    let isLate = false;
    const cancel = clock.after(config.imageMsMax, () => {
      isLate = true;
      if (worker !== undefined) this.#end(worker);
    });
    try {
      worker = await this.#worker(projectId);
      if (isLate) this.#end(worker);
      const made = await worker.make(job, source);
      this.#rest(worker, projectId);
      return made;
    } catch (error) {
      if (error instanceof PictureRefused) {
        this.#rest(worker!, projectId);
        throw new MayflyError("INVALID_IMAGE_OPTIMIZE_REQUEST", `The picture cannot be read: ${error.message}`);
      }
      if (worker !== undefined) this.#end(worker);
      const why = isLate ? `it took more than ${config.imageMsMax} ms` : messageOf(error);
      throw new MayflyError("INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED", `The picture could not be made: ${why}`, { cause: error });
    } finally {
      cancel();
    }
  }

  async #worker(projectId: string): Promise<ImageWorker> {
    const index = this.#resting.findLastIndex((resting) => resting.projectId === projectId);
    if (index !== -1) {
      const { worker, cancelEnd } = this.#resting.splice(index, 1)[0]!;
      cancelEnd();
      if (!worker.isOver) {
        await worker.wake();
        return worker;
      }
      this.#end(worker);
    }
    if (this.#alive.size >= this.#workersMax) this.#endOldest();
    const { sandboxes, config } = this.#options;
    const bytesMax = config.imageSourceBytesMax;
    const worker = await ImageWorker.boot({ sandboxes, mounts: this.#mounts, memoryMB: config.imageMemoryMB, bytesMax });
    this.#alive.add(worker);
    return worker;
  }

  #rest(worker: ImageWorker, projectId: string): void {
    const { clock, config } = this.#options;
    if (this.#closed || worker.isOver || config.imageIdleMs === 0) return this.#end(worker);
    const resting: Resting = {
      projectId,
      worker,
      cancelEnd: clock.after(config.imageIdleMs, () => {
        this.#resting.splice(this.#resting.indexOf(resting), 1);
        this.#end(worker);
      }),
    };
    this.#resting.push(resting);
    worker.rest().catch(() => {});
  }

  #endOldest(): void {
    const oldest = this.#resting.shift();
    if (oldest === undefined) return;
    oldest.cancelEnd();
    this.#end(oldest.worker);
  }

  #end(worker: ImageWorker): void {
    if (!this.#alive.delete(worker)) return;
    const ending: Promise<void> = worker.destroy().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
    ending.catch((error: unknown) => process.emitWarning(`Cannot remove a sandbox: ${messageOf(error)}`));
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { cancelEnd } of this.#resting.splice(0)) cancelEnd();
    for (const worker of this.#alive) this.#end(worker);
    for (const go of this.#waiting.splice(0)) go();
    await Promise.allSettled(this.#ending);
  }
}

function busy(): MayflyError {
  return new MayflyError("IMAGE_OPTIMIZER_BUSY", undefined, { details: { retryAfterS: 2 } });
}
