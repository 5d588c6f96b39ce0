/** What the store must do whatever the database: {@link storeConformance} registers the tests for one driver. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { noSettings, type Deployment } from "../model.ts";
import { newDeploymentId } from "../names.ts";
import * as deployments from "./deployments.ts";
import { ensureProject, findProject, listProjects } from "./projects.ts";
import { addPurges, listPurges, purgesMax } from "./purges.ts";
import type { Store } from "./store.ts";
import { ensureFirstIdentity } from "./teams.ts";
import { createToken, findIdentity, fullGrant, listTokens, revokeToken, type Identity } from "./tokens.ts";
import { findUploads, recordUpload } from "./uploads.ts";

/** `open` opens one place again and again: what one store commits, the other must see. `fresh` begins an empty place. */
export function storeConformance(name: string, fresh: () => { open: () => Promise<Store> }): void {
  const withStore =
    (test: (store: Store, identity: Pick<Identity, "user" | "team">, again: () => Promise<Store>) => Promise<void>) => async () => {
      const { open } = fresh();
      const opened: Store[] = [];
      const again = async () => {
        const store = await open();
        opened.push(store);
        return store;
      };
      try {
        const store = await again();
        await test(store, await ensureFirstIdentity(store, "ann"), again);
      } finally {
        for (const store of opened) await store.close();
      }
    };

  describe(`store: ${name}`, () => {
    it(
      "keeps one first identity, and finds it by token only",
      withStore(async (store, identity, again) => {
        const other = await again();
        assert.deepEqual(await ensureFirstIdentity(other, "bob"), identity);
        const { text, token } = await createToken(store, identity, { ...fullGrant("test"), expiresAt: 100 }, 1);
        assert.match(text, /^\w+$/);
        assert.deepEqual(await findIdentity(other, text, 2), { ...identity, role: "OWNER", token });
        assert.equal(await findIdentity(other, text, 100), null, "it has expired");
        assert.equal(await findIdentity(other, `${text}x`, 2), null);
        assert.equal(await findIdentity(other, "", 2), null);
        assert.deepEqual(
          (await listTokens(store, identity.team.id)).map(({ id, usedAt }) => [id, usedAt]),
          [[token.id, 2]],
        );
        assert.equal(await revokeToken(store, "team_other", token.id), false);
        assert.equal(await revokeToken(store, identity.team.id, token.id), true);
        assert.equal(await findIdentity(other, text, 2), null, "it was revoked");
      }),
    );

    it(
      "makes a project once, though many ask at the same time",
      withStore(async (store, { team }, again) => {
        const stores = [store, await again()];
        const made = await Promise.all(
          Array.from({ length: 10 }, (_, i) => ensureProject(stores[i % 2]!, team.id, "site", { ...noSettings, framework: "nextjs" }, i)),
        );
        assert.equal(new Set(made.map(({ project }) => project.id)).size, 1);
        assert.equal(made.filter(({ created }) => created).length, 1);
        const found = await findProject(store, team.id, "site");
        assert.equal(found?.settings.framework, "nextjs");
        assert.deepEqual(await findProject(store, team.id, found.id), found);
        assert.equal(await findProject(store, "team_other", found.id), null);
        assert.deepEqual(await listProjects(store, { teamId: team.id, limit: 10 }), [found]);
      }),
    );

    it(
      "remembers uploads by team, 25,000 at once",
      withStore(async (store, { team }) => {
        await recordUpload(store, team.id, { sha1: "a1", digest: "d1", size: 5 }, 1);
        await recordUpload(store, team.id, { sha1: "a1", digest: "d1", size: 5 }, 2);
        const asked = ["a1", ...Array.from({ length: 25_000 }, (_, i) => `b${i}`)];
        assert.deepEqual([...(await findUploads(store, team.id, asked, 3)).values()], [{ sha1: "a1", digest: "d1", size: 5 }]);
        assert.equal((await findUploads(store, "team_other", asked, 3)).size, 0);
      }),
    );

    it(
      "shows a deployment and its aliases ready together, and never leaves a final state",
      withStore(async (store, { team, user }, again) => {
        const { project } = await ensureProject(store, team.id, "site", noSettings, 1);
        const make = async (createdAt: number) => {
          const deployment = sample(team.id, project.id, user.id, createdAt);
          await deployments.insertDeployment(store, deployment);
          return deployment;
        };
        const [first, second] = [await make(1), await make(2)];
        assert.deepEqual(await deployments.findDeployment(store, team.id, first.id), first);
        assert.deepEqual(
          (await deployments.listUnfinished(store)).map(({ id }) => id),
          [first.id, second.id],
        );
        assert.equal(await deployments.finishReady(store, first.id, done, 5), false, "not building yet");
        assert.equal(await deployments.beginBuilding(store, first.id, 3), true);
        const reader = await again();
        const before = reader.revision();
        assert.equal(reader.revision(), before);
        assert.equal(await deployments.finishReady(store, first.id, done, 5), true);
        assert.notEqual(reader.revision(), before);
        const ready = await deployments.findDeployment(reader, team.id, "site.localhost");
        assert.equal(ready?.id, first.id);
        assert.equal(ready?.state, "READY");
        assert.equal(ready?.attempts, 1);
        assert.equal(await deployments.finishUnready(store, first.id, "CANCELED", null, 6), false);

        assert.equal(await deployments.beginBuilding(store, second.id, 3), true);
        assert.equal(await deployments.finishUnready(store, second.id, "ERROR", { code: "BUILD_FAILED", message: "no" }, 6), true);
        assert.equal(await deployments.finishReady(store, second.id, done, 7), false);
        assert.equal((await deployments.findDeployment(store, team.id, "site.localhost"))?.id, first.id);

        const query = { teamId: team.id, limit: 10 };
        assert.deepEqual(
          (await deployments.listDeployments(store, query)).map(({ id }) => id),
          [second.id, first.id],
        );
        assert.deepEqual(
          (await deployments.listDeployments(store, { ...query, states: ["READY"], untilMs: 2 })).map(({ id }) => id),
          [first.id],
        );
        await deployments.deleteDeployments(store, [first.id]);
        assert.equal(await deployments.findDeployment(store, team.id, "site.localhost"), null);
        assert.deepEqual(await deployments.deleteProject(store, project.id), [second.id]);
        assert.equal(await findProject(store, team.id, "site"), null);
      }),
    );

    it(
      "hands purges on in order, to every opener, and folds the oldest of a project",
      withStore(async (store, _identity, again) => {
        const other = await again();
        const purge = { projectId: "prj_1", deploymentId: null, tag: "a", mode: "delete" } as const;
        const before = other.revision();
        await Promise.all([
          addPurges(store, [purge], 1),
          addPurges(other, [{ ...purge, deploymentId: "dpl_1", tag: null, mode: "invalidate" }], 2),
        ]);
        assert.notEqual(other.revision(), before);
        const both = await listPurges(other, 0);
        assert.deepEqual(
          both.map(({ serial }) => serial),
          [1, 2],
        );
        assert.deepEqual(await listPurges(store, 1), both.slice(1));
        // Who purges without end purges more of its own, and nothing of others'.
        await addPurges(store, [{ ...purge, projectId: "prj_2", tag: "of another" }], 3);
        await addPurges(
          store,
          Array.from({ length: purgesMax }, (_, n) => ({ ...purge, tag: String(n) })),
          5,
        );
        const rows = await listPurges(other, 0);
        const facts = rows.slice(0, 3).map(({ projectId, tag, mode, createdAt }) => [projectId, tag, mode, createdAt]);
        assert.deepEqual(facts, [
          ["prj_2", "of another", "delete", 3],
          ["prj_1", null, "delete", 5],
          ["prj_1", String(purgesMax / 2), "delete", 5],
        ]);
        assert.ok(rows.length < purgesMax);
      }),
    );
  });
}

const done = {
  manifestDigest: "m",
  summary: { functions: 2, built: 1, cached: 1, ms: 5 },
  branchHost: null,
  productionHost: "site.localhost",
};

function sample(teamId: string, projectId: string, creatorId: string, createdAt: number): Deployment {
  const id = newDeploymentId();
  return {
    id,
    teamId,
    projectId,
    name: "site",
    host: `site-${id.slice(4, 13)}.localhost`,
    target: "production",
    state: "QUEUED",
    creatorId,
    meta: { a: "b" },
    createdAt,
    buildingAt: null,
    readyAt: null,
    errorCode: null,
    errorMessage: null,
    sourceDigest: "s",
    manifestDigest: null,
    request: { settings: noSettings, prebuilt: false, force: false, env: { A: "sealed" }, buildEnv: {} },
    summary: null,
    attempts: 0,
    git: null,
    promotedAt: null,
  };
}
