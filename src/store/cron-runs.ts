/**
 * Runs of cron jobs. A run is claimed by its row, whose key is project, path, schedule and the time it was due: of two
 * control planes on one database only one can have it.
 */
import type { Selectable } from "kysely";
import type { TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

/** What tells one job of a project from another. */
export interface CronJob {
  readonly projectId: string;
  readonly path: string;
  /** Cron syntax, UTC. */
  readonly schedule: string;
}

export interface CronRun extends CronJob {
  readonly dueAt: TimestampMs;
  readonly deploymentId: string;
  readonly startedAt: TimestampMs;
  readonly endedAt: TimestampMs | null;
  /** HTTP status of the answer; null: there was none. */
  readonly status: number | null;
  readonly error: string | null;
}

/**
 * Claims a run.
 * @param overlapMs a run that began so long ago and has no end has died with its control plane
 * @returns "overlap" when the job still runs: that is written down as a run that did not happen; "claimed" by another
 */
export async function beginCronRun(
  store: Store,
  run: CronJob & { readonly dueAt: TimestampMs; readonly deploymentId: string },
  overlapMs: number,
  now: TimestampMs,
): Promise<"begun" | "overlap" | "claimed"> {
  return store.db.transaction().execute(async (trx) => {
    const { projectId, path, schedule, dueAt, deploymentId } = run;
    const { numInsertedOrUpdatedRows } = await trx
      .insertInto("cron_runs")
      .values({ project_id: projectId, path, schedule, due_at: dueAt, deployment_id: deploymentId, started_at: now })
      .onConflict((conflict) => conflict.columns(["project_id", "path", "schedule", "due_at"]).doNothing())
      .executeTakeFirst();
    if (numInsertedOrUpdatedRows === 0n) return "claimed";
    const running = await trx
      .selectFrom("cron_runs")
      .select("due_at")
      .where("project_id", "=", projectId)
      .where("path", "=", path)
      .where("due_at", "!=", dueAt)
      .where("ended_at", "is", null)
      .where("started_at", ">", now - overlapMs)
      .executeTakeFirst();
    if (running === undefined) return "begun";
    await trx
      .updateTable("cron_runs")
      .set({ ended_at: now, error: "Skipped: the run before it had not ended." })
      .where("project_id", "=", projectId)
      .where("path", "=", path)
      .where("schedule", "=", schedule)
      .where("due_at", "=", dueAt)
      .execute();
    return "overlap";
  });
}

export async function endCronRun(
  store: Store,
  run: CronJob & { readonly dueAt: TimestampMs },
  end: { readonly status: number | null; readonly error: string | null },
  now: TimestampMs,
): Promise<void> {
  await store.db
    .updateTable("cron_runs")
    .set({ ended_at: now, status: end.status, error: end.error })
    .where("project_id", "=", run.projectId)
    .where("path", "=", run.path)
    .where("schedule", "=", run.schedule)
    .where("due_at", "=", run.dueAt)
    .execute();
}

/** Of a project, the last due first. */
export async function listCronRuns(store: Store, projectId: string, limit: number): Promise<CronRun[]> {
  const rows = await store.db
    .selectFrom("cron_runs")
    .selectAll()
    .where("project_id", "=", projectId)
    .orderBy("due_at", "desc")
    .limit(limit)
    .execute();
  return rows.map(toRun);
}

/** Runs due before are forgotten. */
export async function deleteCronRuns(store: Store, beforeMs: TimestampMs): Promise<void> {
  await store.db.deleteFrom("cron_runs").where("due_at", "<", beforeMs).execute();
}

const toRun = (row: Selectable<Tables["cron_runs"]>): CronRun => ({
  projectId: row.project_id,
  path: row.path,
  schedule: row.schedule,
  dueAt: row.due_at,
  deploymentId: row.deployment_id,
  startedAt: row.started_at,
  endedAt: row.ended_at,
  status: row.status,
  error: row.error,
});
