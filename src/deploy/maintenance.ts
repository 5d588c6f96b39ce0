/**
 * What clears up after the platform: deployments that have outlived their rule, files that nothing refers to, old records, old
 * keys.
 * It runs by itself every `maintenanceMs`, and when it is asked; never twice at once, and never beside a backup. Each part
 * is safe to run on two control planes at the same time.
 */
import { messageOf } from "../errors.ts";
import { deleteCronRuns } from "../store/cron-runs.ts";
import { deleteIdempotencyKeys } from "../store/deployments.ts";
import { compact, deleteBuildRecords } from "../store/garbage.ts";
import { deleteExpiredTokens } from "../store/tokens.ts";
import type { DeployContext } from "./deploy.ts";
import { collectGarbage, type GarbageReport } from "./garbage.ts";
import { retire } from "./retention.ts";
import { finishRotation } from "./rotation.ts";

const dayMs = 86_400_000;
/** How long records are of use. */
const cronRunsMs = 30 * dayMs;
const idempotencyKeysMs = dayMs;
const buildRecordsMs = 90 * dayMs;
const expiredTokensMs = 30 * dayMs;

export interface MaintenanceReport extends GarbageReport {
  /** Ids of deployments that have gone, or would. */
  readonly deployments: readonly string[];
}

export class Maintenance {
  readonly #context: DeployContext;
  readonly #log: (line: string) => void;
  #work: Promise<unknown> = Promise.resolve();
  #cancel: () => void = () => {};
  #closed = false;

  constructor(context: DeployContext, log: (line: string) => void) {
    this.#context = context;
    this.#log = log;
  }

  /** From now on it runs by itself. */
  start(): void {
    const { clock, config } = this.#context;
    this.#cancel = clock.after(config.maintenanceMs, () => {
      this.run({ dryRun: false }).then(
        () => this.#closed || this.start(),
        (error: unknown) => {
          this.#log(`Maintenance: ${messageOf(error)}`);
          if (!this.#closed) this.start();
        },
      );
    });
  }

  run(options: { readonly dryRun: boolean }): Promise<MaintenanceReport> {
    return this.alone(async () => {
      const deployments = await retire(this.#context, options);
      if (!options.dryRun) {
        await this.#forgetRecords();
        await finishRotation(this.#context);
      }
      return { deployments, ...(await collectGarbage(this.#context, options)) };
    });
  }

  /** Runs `work` while nothing is cleared away. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#work.then(work);
    this.#work = mine.catch(() => {});
    return mine;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    await this.#work;
  }

  async #forgetRecords(): Promise<void> {
    const { store, clock, config, toolchains } = this.#context;
    const now = clock.now();
    await deleteCronRuns(store, now - cronRunsMs);
    await deleteIdempotencyKeys(store, now - idempotencyKeysMs);
    await deleteBuildRecords(store, now - buildRecordsMs);
    await deleteExpiredTokens(store, now - expiredTokensMs);
    await toolchains.prune(now - config.toolchainDays * dayMs);
    await compact(store);
  }
}
