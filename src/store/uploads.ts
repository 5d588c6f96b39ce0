/** Which files a team has sent: the SHA-1 that clients name them by → blob. A file is uploaded once, ever. */
import type { Insertable } from "kysely";
import type { Digest, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

export interface Upload {
  readonly sha1: string;
  readonly digest: Digest;
  readonly size: number;
}

/** Files that are recorded together: a commit costs the same for one file as for fifty that arrive beside it. */
const waiting = new WeakMap<Store, { rows: Insertable<Tables["uploads"]>[]; committed: Promise<void> }>();
const gatherMs = 2;
/** SQLite takes at most 32,766 parameters in a statement, and a row has five. */
const rowsMax = 5000;

/** Resolves when it is on disk. */
export function recordUpload(store: Store, teamId: string, { sha1, digest, size }: Upload, now: TimestampMs): Promise<void> {
  let batch = waiting.get(store);
  if (batch === undefined) {
    const rows: Insertable<Tables["uploads"]>[] = [];
    const committed = new Promise((gathered) => setTimeout(gathered, gatherMs)).then(() => {
      waiting.delete(store);
      return commit(store, rows);
    });
    batch = { rows, committed };
    waiting.set(store, batch);
  }
  batch.rows.push({ sha1, team_id: teamId, digest, size, created_at: now });
  return batch.committed;
}

async function commit(store: Store, rows: readonly Insertable<Tables["uploads"]>[]): Promise<void> {
  // The same file twice in one statement would be a conflict with itself.
  const distinct = [...new Map(rows.map((row) => [`${row.team_id}/${row.sha1}`, row])).values()];
  for (let start = 0; start < distinct.length; start += rowsMax) {
    await store.db
      .insertInto("uploads")
      .values(distinct.slice(start, start + rowsMax))
      .onConflict((conflict) =>
        conflict.columns(["team_id", "sha1"]).doUpdateSet({
          digest: (set) => set.ref("excluded.digest"),
          size: (set) => set.ref("excluded.size"),
          created_at: (set) => set.ref("excluded.created_at"),
        }),
      )
      .execute();
  }
}

/** So much may pass before an upload that is asked for counts as fresh again: not every deployment writes a row for each file. */
const freshStepMs = 3_600_000;
/** Asked for in one statement. */
const askedAtOnce = 10_000;

/** Of the asked SHA-1s those that the team has sent. They count as fresh from now on: no collection takes them away. */
export async function findUploads(store: Store, teamId: string, sha1s: readonly string[], now: TimestampMs): Promise<Map<string, Upload>> {
  const found = new Map<string, Upload>();
  for (let start = 0; start < sha1s.length; start += askedAtOnce) {
    // Before they are read: a collection that is under way has either taken them already, or lets them be.
    await store.db
      .updateTable("uploads")
      .set({ created_at: now })
      .where("team_id", "=", teamId)
      .where("sha1", "in", sha1s.slice(start, start + askedAtOnce))
      .where("created_at", "<", now - freshStepMs)
      .execute();
    const rows = await store.db
      .selectFrom("uploads")
      .select(["sha1", "digest", "size"])
      .where("team_id", "=", teamId)
      .where("sha1", "in", sha1s.slice(start, start + askedAtOnce))
      .execute();
    for (const row of rows) found.set(row.sha1, row);
  }
  return found;
}
