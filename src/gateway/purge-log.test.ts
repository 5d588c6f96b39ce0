/** Purges as a gateway remembers them: bounded, whoever purges without end, and at nobody else's cost. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { atEnd } from "../../test/at-end.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { purgesMax } from "../store/purges.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { openPurgeLog } from "./purge-log.ts";
import { StoreRevision } from "./revision.ts";

const kept = { projectId: "prj_loud", deploymentId: "dpl_loud", tags: ["kept"], madeAt: 10 };
const other = { ...kept, projectId: "prj_other", deploymentId: "dpl_other" };

test("a project that purges without end has its own older answers purged, and no one else's", async () => {
  const store = await openSqliteStore({ path: join(scratchDirectory(), "mayfly.db") });
  atEnd(() => store.close());
  const log = openPurgeLog(store, new StoreRevision(store));
  await log.add([{ projectId: other.projectId, deploymentId: other.deploymentId, tag: "another", mode: "invalidate" }], 20);
  const purge = async (from: number, count: number, until: number): Promise<void> => {
    const tags = Array.from({ length: count }, (_, index) => `${from + index}-${"x".repeat(200)}`);
    await log.add(
      tags.map((tag) => ({ projectId: kept.projectId, deploymentId: kept.deploymentId, tag, mode: "delete" as const })),
      until,
    );
  };
  await purge(0, purgesMax - 1, 20);
  assert.equal(log.verdict(kept), null, "as long as each is remembered, each counts for its own tag");
  // What is remembered stays within bounds: in this process, and for one that starts.
  for (let round = 1; round <= 2; round++) await purge(round * purgesMax, purgesMax, 20 + round);
  const { length } = await store.db.selectFrom("cache_purges").select("serial").execute();
  assert.ok(length <= purgesMax, `${length} rows`);
  for (const each of [log, openPurgeLog(store, new StoreRevision(store))]) {
    await each.refresh();
    assert.equal(each.verdict(kept), "delete", "what cannot be told apart any more is purged");
    assert.equal(each.verdict({ ...kept, madeAt: 23 }), null, "only what is as old");
    assert.equal(each.verdict({ ...kept, tags: [`${3 * purgesMax - 1}-${"x".repeat(200)}`], madeAt: 22 }), "delete");
    assert.equal(each.verdict(other), null);
    assert.equal(each.verdict({ ...other, tags: ["another"] }), "invalidate");
    assert.equal(each.verdict({ ...other, tags: ["another"], madeAt: 21 }), null);
  }
});
