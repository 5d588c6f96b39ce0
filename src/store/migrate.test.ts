/** Databases of every older version, made by the migrations of their time, come forward with what is in them. */
import { noSettings } from "../model.ts";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { it } from "node:test";
import { Kysely, sql } from "kysely";
import { scratchDirectory } from "../../test/scratch.ts";
import { switchProduction, listAliases } from "./aliases.ts";
import { findDeployment, listUnfinished } from "./deployments.ts";
import { latestVersion, migrate } from "./migrate.ts";
import { nodeSqliteDialect, openNodeSqlite } from "./node-sqlite.ts";
import { ensureProject, findProject } from "./projects.ts";
import { openSqliteStore } from "./sqlite.ts";
import type { Tables } from "./tables.ts";
import { findIdentity } from "./tokens.ts";
import { findUploads } from "./uploads.ts";

/** What version 1 could hold, in its own words. */
const firstRows = (digest: string) => [
  `insert into users values ('usr_1', 'ann', 'ann@localhost')`,
  `insert into teams values ('team_1', 'ann', 'Ann')`,
  `insert into tokens values ('${digest}', 'usr_1', 'team_1', 'old', 5)`,
  `insert into projects values ('prj_1', 'team_1', 'site', '{"framework":"nextjs"}', 5, 6)`,
  `insert into deployments values ('dpl_1', 'team_1', 'prj_1', 'site', 'site-1.localhost', 'production', 'READY', 'usr_1', '{"a":"b"}',
     7, 8, 9, null, null, 's', 'm', '{"settings":{},"prebuilt":false,"force":false,"env":{},"buildEnv":{}}', null, 1)`,
  `insert into deployments values ('dpl_2', 'team_1', 'prj_1', 'site', 'site-2.localhost', 'preview', 'QUEUED', 'usr_1', '{}',
     10, null, null, null, null, 's', null, '{"settings":{},"prebuilt":false,"force":false,"env":{},"buildEnv":{}}', null, 0)`,
  `insert into aliases values ('site.localhost', 'dpl_1', 'prj_1', 9)`,
  `insert into uploads values ('${"a".repeat(40)}', 'team_1', 'd', 5, 5)`,
];

for (let version = 1; version <= latestVersion; version++) {
  it(`version ${version} comes forward to ${latestVersion}`, async () => {
    const path = join(scratchDirectory(), "mayfly.db");
    const database = openNodeSqlite(path, { durable: false });
    const old = new Kysely<Tables>({ dialect: nodeSqliteDialect(database) });
    await migrate(old, 1);
    for (const row of firstRows(createHash("sha256").update("token").digest("hex"))) database.exec(row);
    await migrate(old, version);
    const { rows } = await sql<{ version: number }>`select max(version) as version from migrations`.execute(old);
    assert.equal(rows[0]?.version, version);
    await old.destroy();

    const store = await openSqliteStore({ path });
    try {
      const identity = await findIdentity(store, "token", 10);
      assert.deepEqual(
        [identity?.user.username, identity?.team.id, identity?.role, identity?.token.scope],
        ["ann", "team_1", "OWNER", "full"],
      );
      const project = await findProject(store, "team_1", "site");
      assert.deepEqual([project?.settings.framework, project?.productionPinned], ["nextjs", false]);
      const deployment = await findDeployment(store, "team_1", "site.localhost");
      assert.deepEqual([deployment?.id, deployment?.promotedAt, deployment?.git, deployment?.meta], ["dpl_1", 9, null, { a: "b" }]);
      assert.deepEqual(
        (await listUnfinished(store)).map(({ id }) => id),
        ["dpl_2"],
      );
      assert.deepEqual(
        (await listAliases(store, { projectId: "prj_1" })).map(({ host, since }) => [host, since]),
        [["site.localhost", 7]],
      );
      assert.equal((await findUploads(store, "team_1", ["a".repeat(40)], 10)).size, 1);
      await switchProduction(store, { type: "rollback", deploymentId: "dpl_1", projectId: "prj_1", host: "site.localhost" }, 20);
      assert.equal((await ensureProject(store, "team_1", "another", noSettings, 30)).created, true);
      assert.deepEqual((await sql`pragma foreign_key_check`.execute(store.db)).rows, []);
    } finally {
      await store.close();
    }
  });
}
