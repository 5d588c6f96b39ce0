/** Who takes which host: newer deployments from older ones, never the other way; people whatever they say. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { openData, type Data } from "../deploy/testbed.ts";
import { hostsOf } from "../deploy/alias.ts";
import type { Deployment, GitSource } from "../model.ts";
import { findAlias, setAlias, switchProduction } from "./aliases.ts";
import { beginBuilding, finishReady } from "./deployments.ts";
import { addProjectDomain } from "./domains.ts";
import { findProject } from "./projects.ts";

const at = async (data: Data, host: string) => (await findAlias(data.store, data.teamId, host))?.deploymentId ?? null;

async function finish(data: Data, deployment: Deployment, now = 100_000): Promise<void> {
  await beginBuilding(data.store, deployment.id, now);
  const done = { manifestDigest: "m", summary: { functions: 0, built: 0, cached: 0, ms: 1 } };
  await finishReady(data.store, deployment.id, { ...done, ...hostsOf(deployment, deployment.name, "localhost") }, now);
}

const push = (branch: string, more: Partial<GitSource> = {}): Partial<Deployment> => ({
  git: {
    provider: "github",
    repository: "o/r",
    branch,
    commitSha: "0".repeat(40),
    commitMessage: "",
    commitAuthor: "",
    pullRequest: null,
    fork: false,
    ...more,
  },
});

it("gives production to the newest, though an older one is built later", async () => {
  const data = await openData();
  const old = await data.deployment("site", { createdAt: 1000, ready: false });
  const recent = await data.deployment("site", { createdAt: 2000 });
  assert.equal(await at(data, "site.localhost"), recent.id);
  await finish(data, old);
  assert.equal(await at(data, "site.localhost"), recent.id);
  const staged = await data.deployment("site", { createdAt: 3000, more: { request: { ...recent.request, autoAssign: false } } });
  assert.equal(await at(data, "site.localhost"), recent.id);
  assert.equal(staged.promotedAt, null);
});

it("pins production after a rollback, until something is promoted; what was begun before does not undo it", async () => {
  const data = await openData();
  const [one, two] = [await data.deployment("site", { createdAt: 1000 }), await data.deployment("site", { createdAt: 2000 })];
  const begun = await data.deployment("site", { createdAt: 2500, ready: false });
  const { projectId } = one;
  const change = { projectId, host: "site.localhost" };
  const rollback = await switchProduction(data.store, { ...change, type: "rollback", deploymentId: one.id }, 3000);
  assert.deepEqual([rollback?.fromDeploymentId, rollback?.toDeploymentId, rollback?.jobStatus], [two.id, one.id, "succeeded"]);
  const three = await data.deployment("site", { createdAt: 4000 });
  assert.equal(three.promotedAt, null);
  assert.equal(await at(data, "site.localhost"), one.id);
  assert.equal((await findProject(data.store, data.teamId, "site"))?.productionPinned, true);

  await switchProduction(data.store, { ...change, type: "promote", deploymentId: two.id }, 5000);
  await finish(data, begun);
  assert.equal(await at(data, "site.localhost"), two.id);
  const four = await data.deployment("site", { createdAt: 6000 });
  assert.equal(await at(data, "site.localhost"), four.id);
  assert.equal(await switchProduction(data.store, { ...change, type: "promote", deploymentId: "dpl_none" }, 7000), null);
});

it("gives a branch's host to its newest commit, and no fork's", async () => {
  const data = await openData();
  const old = await data.deployment("site", { createdAt: 1000, target: "preview", ready: false, more: push("Feature/X_1") });
  const recent = await data.deployment("site", { createdAt: 2000, target: "preview", more: push("Feature/X_1") });
  await finish(data, old);
  assert.equal(await at(data, "site-git-feature-x-1.localhost"), recent.id);
  assert.equal(
    await addProjectDomain(data.store, { host: "x.test", projectId: old.projectId, branch: "Feature/X_1", createdAt: 1 }, recent),
    true,
  );
  await data.deployment("site", { createdAt: 3000, target: "preview", more: push("Feature/X_1", { fork: true }) });
  assert.equal(await at(data, "x.test"), recent.id);
  assert.equal(await at(data, "site-git-feature-x-1.localhost"), recent.id);
  const long = await data.deployment("site", { createdAt: 3000, target: "preview", more: push("x".repeat(100)) });
  const { branchHost } = hostsOf(long, "site", "localhost");
  assert.match(branchHost!, /^site-git-x+-[0-9a-f]{6}\.localhost$/);
  assert.equal(branchHost!.split(".")[0]!.length, 63);
});

it("moves a project's domains with production or their branch, and takes no host from another project", async () => {
  const data = await openData();
  const one = await data.deployment("site", { createdAt: 1000 });
  const domain = (host: string, branch: string | null = null) => ({ host, projectId: one.projectId, branch, createdAt: 1 });
  assert.equal(await addProjectDomain(data.store, domain("shop.test"), one), true);
  assert.equal(await addProjectDomain(data.store, domain("next.test", "next"), null), true);
  assert.equal(await at(data, "shop.test"), one.id);
  const two = await data.deployment("site", { createdAt: 2000 });
  const next = await data.deployment("site", { createdAt: 2500, target: "preview", more: push("next") });
  assert.deepEqual([await at(data, "shop.test"), await at(data, "next.test")], [two.id, next.id]);

  const other = await data.deployment("other", { createdAt: 3000 });
  assert.equal(await addProjectDomain(data.store, { ...domain("shop.test"), projectId: other.projectId }, other), false);
  // A person may point a host of the team anywhere; from then on it is that project's.
  await setAlias(
    data.store,
    { teamId: data.teamId, projectId: null },
    { host: "site.localhost", deploymentId: other.id, projectId: other.projectId },
    4000,
  );
  await data.deployment("site", { createdAt: 5000 });
  assert.equal(await at(data, "site.localhost"), other.id);
  assert.equal(
    await setAlias(
      data.store,
      { teamId: "team_other", projectId: null },
      { host: "shop.test", deploymentId: other.id, projectId: other.projectId },
      1,
    ),
    "taken",
  );
  assert.equal(
    await setAlias(
      data.store,
      { teamId: data.teamId, projectId: null },
      { host: one.host, deploymentId: two.id, projectId: two.projectId },
      1,
    ),
    "taken",
  );
});
