/**
 * Purges of the edge cache. A purge is a row, so it reaches every gateway on this store: each asks `store.revision()`
 * before it gives a kept answer, and reads the rows that are new. Rows beyond the newest few are folded into one that
 * purges everything older, so the table stays small and nothing purged comes back.
 */
import { sql } from "kysely";
import type { TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";

/** `delete`: never given again. `invalidate`: given once more while it is made anew. */
export type PurgeMode = "delete" | "invalidate";

export interface Purge {
  readonly projectId: string;
  /** null: of all deployments of the project. */
  readonly deploymentId: string | null;
  /** null: whatever the tags. */
  readonly tag: string | null;
  readonly mode: PurgeMode;
}

export interface StoredPurge extends Purge {
  /** Grows; a reader continues after the last it saw. */
  readonly serial: number;
  /** Answers made at or before this time are meant. */
  readonly createdAt: TimestampMs;
}

/** The newest rows that are kept apart. */
export const purgesMax = 10_000;
/** Project of the row that stands for all that were folded. */
export const everyProject = "*";

/** Resolves when every gateway that is asked from now on obeys. */
export async function addPurges(store: Store, purges: readonly Purge[], now: TimestampMs): Promise<void> {
  for (let index = 0; index < purges.length; index += rowsAtOnce) {
    const rows = purges
      .slice(index, index + rowsAtOnce)
      .map(
        ({ projectId, deploymentId, tag, mode }, place) =>
          sql`select ${sql.lit(place + 1)} as place, ${projectId} as project_id, ${deploymentId} as deployment_id, ${tag} as tag, ${mode} as mode`,
      );
    // One statement: serials have no gap that a reader could miss, and nothing waits for a second one.
    await sql`insert into cache_purges (serial, project_id, deployment_id, tag, mode, created_at)
      select before.serial + row.place, row.project_id, row.deployment_id, row.tag, row.mode, ${now}
      from (select coalesce(max(serial), 0) as serial from cache_purges) as before, (${sql.join(rows, sql` union all `)}) as row`.execute(
      store.db,
    );
  }
  await fold(store);
}

const rowsAtOnce = 100;

/** Makes one row of all but the newest ones. */
async function fold(store: Store): Promise<void> {
  const { serial } = await store.db
    .selectFrom("cache_purges")
    .select(({ fn }) => fn.max("serial").as("serial"))
    .executeTakeFirstOrThrow();
  const oldest = Number(serial ?? 0) - purgesMax + 1;
  const folded = await store.db
    .selectFrom("cache_purges")
    .select([sql<number | null>`max(created_at)`.as("created_at"), sql<number>`count(*)`.as("n")])
    .where("serial", "<", oldest)
    .executeTakeFirstOrThrow();
  if (Number(folded.n) < 2) return;
  // First the row that stands for them, then they go: cut off between the two, nothing that was purged comes back.
  const keeper = { project_id: everyProject, deployment_id: null, tag: null, mode: "delete", created_at: Number(folded.created_at) };
  await store.db
    .updateTable("cache_purges")
    .set(keeper)
    .where("serial", "=", oldest - 1)
    .execute();
  await store.db
    .deleteFrom("cache_purges")
    .where("serial", "<", oldest - 1)
    .execute();
}

/** Rows after `serial`, in order. */
export async function listPurges(store: Store, serial: number): Promise<readonly StoredPurge[]> {
  const rows = await store.db.selectFrom("cache_purges").selectAll().where("serial", ">", serial).orderBy("serial").execute();
  return rows.map((row) => ({
    serial: Number(row.serial),
    projectId: row.project_id,
    deploymentId: row.deployment_id,
    tag: row.tag,
    mode: row.mode as PurgeMode,
    createdAt: Number(row.created_at),
  }));
}
