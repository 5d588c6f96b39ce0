/**
 * What the collection of unused blobs (deploy/garbage.ts) asks and writes: the documents that everything in use is
 * reached from, what was found unused before, and the last look, under the write lock, before a blob goes.
 */
import { sql } from "kysely";
import type { Digest, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";

const rowsAtOnce = 500;

/** Blobs that rows name: documents (sources, manifests, build records), from which all others in use are reached. */
export async function listRoots(store: Store): Promise<Set<Digest>> {
  const roots = new Set<Digest>();
  const deployments = await store.db.selectFrom("deployments").select(["source_digest", "manifest_digest"]).execute();
  for (const row of deployments) {
    roots.add(row.source_digest);
    if (row.manifest_digest !== null) roots.add(row.manifest_digest);
  }
  for (const row of await store.db.selectFrom("build_records").select("record_digest").execute()) roots.add(row.record_digest);
  return roots;
}

/** Blobs of uploads that a client has sent, or announced, at or after `sinceMs`: their deployment may be on its way. */
export async function listFreshUploads(store: Store, sinceMs: TimestampMs): Promise<Set<Digest>> {
  const rows = await store.db.selectFrom("uploads").select("digest").where("created_at", ">=", sinceMs).execute();
  return new Set(rows.map(({ digest }) => digest));
}

/**
 * Remembers what is unused now, and forgets what is no longer.
 * @returns blobs that were found unused before `beforeMs`, and are still
 */
export async function recordGarbage(
  store: Store,
  unused: ReadonlyMap<Digest, number>,
  now: TimestampMs,
  beforeMs: TimestampMs,
): Promise<Map<Digest, number>> {
  return store.db.transaction().execute(async (trx) => {
    await trx.deleteFrom("garbage").where("found_at", ">", now).execute(); // the clock was set back
    const known = await trx.selectFrom("garbage").select(["digest", "found_at"]).execute();
    const used = known.map(({ digest }) => digest).filter((digest) => !unused.has(digest));
    for (let start = 0; start < used.length; start += rowsAtOnce) {
      await trx
        .deleteFrom("garbage")
        .where("digest", "in", used.slice(start, start + rowsAtOnce))
        .execute();
    }
    const rows = [...unused].map(([digest, size]) => ({ digest, size, found_at: now }));
    for (let start = 0; start < rows.length; start += rowsAtOnce) {
      await trx
        .insertInto("garbage")
        .values(rows.slice(start, start + rowsAtOnce))
        .onConflict((conflict) => conflict.column("digest").doNothing())
        .execute();
    }
    const due = await trx.selectFrom("garbage").select(["digest", "size"]).where("found_at", "<=", beforeMs).execute();
    return new Map(due.map(({ digest, size }) => [digest, size]));
  });
}

/**
 * The last look before blobs go: uploads of them that are not fresh are forgotten, so that clients send them again.
 * @returns those of `digests` that no upload refers to any more
 */
export async function releaseUploads(store: Store, digests: readonly Digest[], freshSinceMs: TimestampMs): Promise<Set<Digest>> {
  return store.db.transaction().execute(async (trx) => {
    await trx.deleteFrom("uploads").where("digest", "in", digests).where("created_at", "<", freshSinceMs).execute();
    const left = await trx.selectFrom("uploads").select("digest").where("digest", "in", digests).execute();
    const referred = new Set(left.map(({ digest }) => digest));
    return new Set(digests.filter((digest) => !referred.has(digest)));
  });
}

export async function forgetGarbage(store: Store, digests: readonly Digest[]): Promise<void> {
  await store.db.deleteFrom("garbage").where("digest", "in", digests).execute();
}

/** Records of builds that are older are forgotten: the next build of their lane begins anew. */
export async function deleteBuildRecords(store: Store, beforeMs: TimestampMs): Promise<void> {
  await store.db.deleteFrom("build_records").where("updated_at", "<", beforeMs).execute();
}

/** Gives disk back that deleted rows have left. */
export async function compact(store: Store): Promise<void> {
  await sql`pragma wal_checkpoint(truncate)`.execute(store.db);
}
