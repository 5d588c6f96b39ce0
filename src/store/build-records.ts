/** Which blob holds what a project's last build has left for the next (build/reuse.ts), one for each lane (deploy/build-lane.ts). */
import type { Digest, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";

/** Lanes kept of a project; those that were not built for longest are forgotten. */
const lanesMax = 50;

export async function findBuildRecord(store: Store, projectId: string, lane: string): Promise<Digest | null> {
  const row = await store.db
    .selectFrom("build_records")
    .select("record_digest")
    .where("project_id", "=", projectId)
    .where("lane", "=", lane)
    .executeTakeFirst();
  return row?.record_digest ?? null;
}

export async function saveBuildRecord(store: Store, projectId: string, lane: string, digest: Digest, now: TimestampMs): Promise<void> {
  await store.db.transaction().execute(async (trx) => {
    await trx
      .insertInto("build_records")
      .values({ project_id: projectId, lane, record_digest: digest, updated_at: now })
      .onConflict((conflict) => conflict.columns(["project_id", "lane"]).doUpdateSet({ record_digest: digest, updated_at: now }))
      .execute();
    const lanes = await trx
      .selectFrom("build_records")
      .select("lane")
      .where("project_id", "=", projectId)
      .orderBy("updated_at", "desc")
      .offset(lanesMax)
      .limit(lanesMax)
      .execute();
    if (lanes.length === 0) return;
    await trx
      .deleteFrom("build_records")
      .where("project_id", "=", projectId)
      .where(
        "lane",
        "in",
        lanes.map((row) => row.lane),
      )
      .execute();
  });
}
