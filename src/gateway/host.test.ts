/** The host index against a real database and real blobs: it follows every commit, and serves on without the database. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openDiskBlobs } from "../blobs/disk.ts";
import type { Manifest } from "../model.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import { openHostIndex, parseAuthority } from "./host.ts";
import { Lru } from "./lru.ts";
import { openPurgeLog } from "./purge-log.ts";
import { StoreRevision } from "./revision.ts";

async function openIndex(manifestsMax = 100) {
  const directory = mkdtempSync(join(tmpdir(), "mayfly-hosts-"));
  const store = await openSqliteStore({ path: join(directory, "mayfly.db") });
  const blobs = openDiskBlobs({ directory: join(directory, "blobs") });
  const asked = { revision: 0, reads: 0, broken: false };
  const watched: Store = {
    get db() {
      asked.reads++;
      if (asked.broken) throw new Error("database is gone");
      return store.db;
    },
    revision() {
      asked.revision++;
      if (asked.broken) throw new Error("database is gone");
      return store.revision();
    },
    close: () => store.close(),
  };
  await store.db.insertInto("teams").values({ id: "team_1", slug: "t", name: "T" }).execute();
  await store.db.insertInto("users").values({ id: "usr_1", username: "u", email: "u@example.com" }).execute();
  await store.db
    .insertInto("projects")
    .values({ id: "prj_1", team_id: "team_1", name: "p", settings: "{}", created_at: 0, updated_at: 0 })
    .execute();
  return {
    store,
    asked,
    index: openHostIndex({ store: watched, revision: new StoreRevision(watched), blobs, config: { manifestsMax } }),
    async deploy(id: string, state = "READY") {
      const host = `p-${id}.localhost`;
      const manifest: Manifest = {
        version: 1,
        deploymentId: id,
        projectId: "prj_1",
        teamId: "team_1",
        name: "p",
        host,
        target: "preview",
        createdAt: 0,
        routes: [],
        caseSensitive: false,
        outputs: {},
        functions: {},
        env: {},
      };
      const { digest } = await blobs.put(JSON.stringify(manifest));
      await store.db
        .insertInto("deployments")
        .values({
          id,
          team_id: "team_1",
          project_id: "prj_1",
          name: "p",
          host,
          target: "preview",
          state,
          creator_id: "usr_1",
          meta: "{}",
          created_at: 0,
          building_at: null,
          ready_at: null,
          error_code: null,
          error_message: null,
          source_digest: digest,
          manifest_digest: state === "READY" ? digest : null,
          request: "{}",
          attempts: 0,
        })
        .execute();
      return host;
    },
    async alias(host: string, deploymentId: string) {
      await store.db
        .insertInto("aliases")
        .values({ host, deployment_id: deploymentId, project_id: "prj_1", created_at: 0 })
        .onConflict((conflict) => conflict.column("host").doUpdateSet({ deployment_id: deploymentId }))
        .execute();
    },
    async [Symbol.asyncDispose]() {
      await store.close();
      await blobs.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

test("immutable hosts and aliases, remembered until something is committed", async () => {
  await using bed = await openIndex();
  const { index, asked } = bed;
  assert.equal(await index.resolve("p.localhost"), null);
  const one = await bed.deploy("one");
  await bed.alias("p.localhost", "one");
  assert.equal((await index.resolve(one))?.manifest.deploymentId, "one");
  const served = await index.resolve("p.localhost");
  assert.equal(served?.manifest.deploymentId, "one");
  assert.equal(served, await index.resolve(one), "one compiled manifest for both hosts");

  assert.equal(await index.resolve("none.localhost"), null);
  const reads = asked.reads;
  for (let count = 0; count < 100; count++) await index.resolve("p.localhost");
  for (let count = 0; count < 100; count++) assert.equal(await index.resolve("none.localhost"), null);
  assert.equal(asked.reads, reads, "nothing is read again");

  await bed.deploy("two");
  await bed.alias("p.localhost", "two");
  assert.equal((await index.resolve("p.localhost"))?.manifest.deploymentId, "two");
  assert.equal((await index.resolve(one))?.manifest.deploymentId, "one");
});

test("an alias cannot take over a deployment's own host", async () => {
  await using bed = await openIndex();
  const one = await bed.deploy("one");
  await bed.deploy("two");
  await bed.alias(one, "two");
  assert.equal((await bed.index.resolve(one))?.manifest.deploymentId, "one");
});

test("a deployment that is not ready says so, until it is", async () => {
  await using bed = await openIndex();
  for (const state of ["QUEUED", "BUILDING", "ERROR", "CANCELED"]) {
    const host = await bed.deploy(state.toLowerCase(), state);
    await assert.rejects(bed.index.resolve(host), { code: "DEPLOYMENT_NOT_READY" });
  }
});

test("without the database, what was asked for before is served; other hosts fail, and nothing is made up", async () => {
  await using bed = await openIndex();
  const host = await bed.deploy("one");
  await bed.deploy("two");
  await bed.index.resolve(host);
  assert.equal(await bed.index.resolve("none.localhost"), null);
  bed.asked.broken = true;
  assert.equal((await bed.index.resolve(host))?.manifest.deploymentId, "one");
  assert.equal(await bed.index.resolve("none.localhost"), null);
  await assert.rejects(bed.index.resolve("p-two.localhost"), { code: "INTERNAL_ERROR" });
  bed.asked.broken = false;
  assert.equal((await bed.index.resolve("p-two.localhost"))?.manifest.deploymentId, "two");
});

test("at once only what is surely so: nothing that was not asked for, or that a commit may have changed", async () => {
  await using bed = await openIndex();
  const host = await bed.deploy("one");
  assert.equal(bed.index.recall(host), null);
  const served = await bed.index.resolve(host);
  assert.equal(bed.index.recall(host), served);
  await bed.deploy("two");
  // What is asked in the turn of the commit may share its answer with what was asked before; the next turn knows.
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(bed.index.recall(host), null);
  assert.equal(await bed.index.resolve(host), served);
  assert.equal(bed.index.recall(host), served);
  await new Promise((resolve) => setImmediate(resolve));
  bed.asked.broken = true;
  assert.equal(bed.index.recall(host), served);
});

test("a purge of this process counts at once, though the turn has asked for the revision before", async () => {
  await using bed = await openIndex();
  const revision = new StoreRevision(bed.store);
  const purges = openPurgeLog(bed.store, revision);
  const scope = { projectId: "prj_1", deploymentId: "one", tags: ["t"], madeAt: 10 };
  await purges.refresh();
  revision.now();
  await purges.add([{ projectId: "prj_1", deploymentId: null, tag: "t", mode: "delete" }], 10);
  assert.equal(purges.verdict(scope), "delete");
  assert.equal(purges.verdict({ ...scope, madeAt: 11 }), null);
});

test("a burst reads once; a scan of random hosts pushes nothing out", async () => {
  await using bed = await openIndex(10);
  const host = await bed.deploy("one");
  const all = await Promise.all(Array.from({ length: 50 }, () => bed.index.resolve(host)));
  assert(all.every((served) => served === all[0]));
  assert.equal(bed.asked.reads, 1);
  for (let count = 0; count < 100; count++) await bed.index.resolve(`random${count}.localhost`);
  const { reads } = bed.asked;
  await bed.index.resolve(host);
  assert.equal(bed.asked.reads, reads);
});

test("hosts have one spelling", () => {
  for (const [text, host] of [
    ["Example.COM", "example.com"],
    ["example.com.", "example.com"],
    ["example.com.:80", "example.com"],
    ["a_b.example.com:65535", "a_b.example.com"],
    ["[::1]:3000", "[::1]"],
    ["127.0.0.1", "127.0.0.1"],
  ] as const) {
    assert.equal(parseAuthority(text)?.host, host, text);
  }
  for (const text of [
    "",
    ".",
    "a..b",
    ".a",
    "a:b",
    "a:",
    "a@b",
    "a/b",
    "a b",
    "a\tb",
    "é",
    "a:70000",
    "[::1",
    "::1",
    "a,b",
    "x".repeat(64),
    "a.".repeat(127) + "a",
  ]) {
    assert.equal(parseAuthority(text), null, text);
  }
});

test("an LRU forgets by weight what was used least recently", () => {
  const lru = new Lru<string, number>(10);
  lru.set("a", 1, 4);
  lru.set("b", 2, 4);
  assert.equal(lru.get("a"), 1);
  lru.set("c", 3, 4);
  assert.deepEqual([lru.get("a"), lru.get("b"), lru.get("c")], [1, undefined, 3]);
  lru.set("c", 4, 11);
  assert.deepEqual([lru.get("c"), lru.size], [undefined, 1]);
  lru.set("a", 5, 10);
  assert.deepEqual([lru.get("a"), lru.size], [5, 1]);
});
