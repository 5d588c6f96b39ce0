/**
 * Purges of the edge cache. A purge is a row, so it reaches every gateway on this store: each asks `store.revision()`
 * before it gives a kept answer, and reads the rows that are new. When they are too many, the older ones of the project that
 * has most are folded into one that purges all of it that is older: so the table stays small, nothing purged comes back, and
 * who purges without end does it to nobody else.
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

/**
 * The tag of every picture that is made of a source: a path of the deployment, with its query, or an address. A Function's
 * own tags have no line break.
 */
export function pictureTag(source: string): string {
  const address = source.startsWith("/") ? null : URL.parse(source);
  if (address !== null) address.hash = "";
  return `picture\n${address?.href ?? source.split("#", 1)[0]!}`;
}

/** More are folded: here, and where a gateway holds them. */
export const purgesMax = 10_000;
/** Project of a row that older versions have folded those of all projects into. */
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
  while (await fold(store));
}

const rowsAtOnce = 100;

/** Makes one row of the older half of the project that has most; false: there are not too many. */
async function fold(store: Store): Promise<boolean> {
  const count = store.db.fn.countAll<number>().as("rows");
  const { rows } = await store.db.selectFrom("cache_purges").select(count).executeTakeFirstOrThrow();
  if (rows <= purgesMax) return false;
  const loudest = await store.db
    .selectFrom("cache_purges")
    .select(["project_id", count])
    .groupBy("project_id")
    .orderBy("rows", "desc")
    .limit(1)
    .executeTakeFirstOrThrow();
  const ofProject = store.db.selectFrom("cache_purges").where("project_id", "=", loudest.project_id);
  const middle = Math.floor(loudest.rows / 2);
  const keeper = await ofProject.select("serial").orderBy("serial").offset(middle).limit(1).executeTakeFirst();
  if (keeper === undefined || loudest.rows < 2) return false;
  // First the row that stands for them, then they go: cut off between the two, nothing that was purged comes back.
  await store.db
    .updateTable("cache_purges")
    .set({
      deployment_id: null,
      tag: null,
      mode: "delete",
      created_at: ofProject.select(({ fn }) => fn.max("created_at").as("latest")).where("serial", "<=", keeper.serial),
    })
    .where("serial", "=", keeper.serial)
    .execute();
  await store.db.deleteFrom("cache_purges").where("project_id", "=", loudest.project_id).where("serial", "<", keeper.serial).execute();
  return true;
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
