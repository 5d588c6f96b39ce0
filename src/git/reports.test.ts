/** What a host is told when it does not listen: later, as the state is by then, and never faster than it asks. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { beforeEach, it } from "node:test";
import { noSettings, type DeploymentState } from "../model.ts";
import { newDeploymentId } from "../names.ts";
import { beginBuilding, finishReady, finishUnready, insertDeployment } from "../store/deployments.ts";
import { insertGitReport, listReports } from "../store/git-reports.ts";
import { eventually } from "../../test/server.ts";
import { openGitTestbed, type GitTestbed } from "./testbed.ts";

let bed: GitTestbed;
beforeEach(async () => {
  bed = await openGitTestbed();
});

const shaOf = (i: number): string => i.toString(16).padStart(40, "a");

/** A deployment of a commit, as a push would have made it. */
async function deploy(i: number, pullRequest: number | null = null): Promise<string> {
  const { store } = bed.context;
  const id = newDeploymentId();
  const now = bed.clock.now();
  await insertDeployment(store, {
    id,
    teamId: bed.project.teamId,
    projectId: bed.project.id,
    name: "shop",
    host: `shop-${id.slice(4, 13)}.localhost`,
    target: "preview",
    state: "QUEUED",
    creatorId: "usr_x",
    meta: {},
    createdAt: now,
    buildingAt: null,
    readyAt: null,
    errorCode: null,
    errorMessage: null,
    sourceDigest: "s",
    manifestDigest: null,
    git: null,
    promotedAt: null,
    request: { settings: noSettings, prebuilt: false, force: false, env: {}, buildEnv: {} },
    summary: null,
    attempts: 0,
  });
  const commit = { sha: shaOf(i), branch: "main", pullRequest, production: false, fork: false, outcome: null, description: null };
  await insertGitReport(store, { id: randomUUID(), connectionId: bed.connectionId, deploymentId: id, createdAt: now, ...commit });
  return id;
}

async function become(id: string, state: DeploymentState): Promise<void> {
  const { store } = bed.context;
  const now = bed.clock.now();
  await beginBuilding(store, id, now);
  if (state === "READY") {
    const summary = { functions: 0, built: 0, cached: 0, ms: 1 };
    await finishReady(store, id, { manifestDigest: "m", summary, branchHost: null, productionHost: null }, now);
  }
  if (state === "ERROR") await finishUnready(store, id, "ERROR", { code: "BUILD_FAILED", message: "No." }, now);
}

const told = (i: number): string[] => (bed.github.statuses.get(shaOf(i)) ?? []).map(({ state }) => state);
const posts = (): number => bed.github.called("POST", /\/statuses\/[0-9a-f]{40}$/).length;

/** Moves the time on by small steps, with a moment for real work between them, until something is so. */
async function advanceUntil(what: string, isSo: () => boolean | Promise<boolean>, stepMs = 250): Promise<void> {
  await eventually(what, async () => {
    if (await isSo()) return true;
    bed.clock.advance(stepMs);
    return null;
  });
}

it("tells the host each state once, and the pull request in one comment", async () => {
  const id = await deploy(1, 7);
  await advanceUntil("it is queued", () => told(1).length === 1);
  await become(id, "BUILDING");
  await advanceUntil("it is built", () => told(1).length === 2);
  await become(id, "READY");
  await advanceUntil("it is ready", () => told(1).includes("success"));
  await advanceUntil("the comment says so", () => /Ready/.test(bed.github.comments.get(7)?.[0]?.body ?? ""));
  assert.deepEqual(told(1), ["pending", "pending", "success"]);
  assert.equal(bed.github.comments.get(7)?.length, 1);
  assert.deepEqual(
    bed.github.deployments.map(({ states }) => states.map(({ state }) => state)),
    [["queued", "in_progress", "success"]],
  );
  const before = bed.github.calls.length;
  for (let i = 0; i < 20; i++) bed.clock.advance(60_000);
  assert.equal(bed.github.calls.length, before, "what is known is not said again");
  assert.deepEqual(bed.github.wrong, []);
});

it("says nothing for a minute to a host that is down, and then what is true by then", async () => {
  bed.github.failure = { status: 502, body: {} };
  const ids = [await deploy(1), await deploy(2)];
  await advanceUntil("it was tried", () => posts() >= 2);
  const begin = bed.clock.now();
  for (const id of ids) await become(id, "READY");
  while (bed.clock.now() < begin + 60_000) {
    bed.clock.advance(250);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.ok(posts() < 40, `${posts()} attempts within a minute`);
  bed.github.failure = null;
  await advanceUntil("both are told", () => told(1).length > 0 && told(2).length > 0, 5000);
  assert.deepEqual([told(1), told(2)], [["success"], ["success"]]);
});

it("asks nothing before the time that the host names, of any commit", async () => {
  const reset = bed.clock.now() + 120_000;
  const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(reset / 1000) };
  bed.github.failure = { status: 403, body: { message: "API rate limit exceeded" }, headers };
  await deploy(1);
  await advanceUntil("it was tried", () => posts() === 1);
  bed.github.failure = null;
  await deploy(2);
  while (bed.clock.now() < reset - 1000) {
    bed.clock.advance(1000);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.deepEqual(told(1), []);
  await advanceUntil("then it is", () => told(1).length === 1 && told(2).length === 1);
});

it("posts after a restart what was not posted before", async () => {
  bed.github.failure = { status: 500, body: {} };
  const id = await deploy(1, 3);
  await advanceUntil("it was tried", () => posts() >= 1);
  await bed.restart();
  await become(id, "ERROR");
  bed.github.failure = null;
  await advanceUntil("it is told", () => told(1).includes("failure"), 1000);
  assert.match(bed.github.statuses.get(shaOf(1))![0]!.description, /failed\. No\./);
  await advanceUntil("the comment too", () => bed.github.comments.get(3)?.length === 1);
});

it("gives up what the host refuses for good, and says so in the log of commits", async () => {
  bed.github.failure = { status: 403, body: { message: "Resource not accessible by personal access token" } };
  await deploy(1);
  await advanceUntil("it was tried", () => posts() >= 1);
  const [report] = await listReports(bed.context.store, bed.connectionId, 1);
  await advanceUntil("the refusal is noted", async () =>
    /not accessible/.test((await listReports(bed.context.store, bed.connectionId, 1))[0]?.error ?? ""),
  );
  assert.equal(report?.posted, null);
  await advanceUntil(
    "it gives up",
    async () => (await listReports(bed.context.store, bed.connectionId, 1))[0]?.posted === "QUEUED",
    10_000,
  );
  assert.equal(posts(), 5);
  assert.match((await listReports(bed.context.store, bed.connectionId, 1))[0]?.error ?? "", /not accessible/);
});

it("lets no message of a commit or build become Markdown or a mention", async () => {
  const commit = { branch: "main", pullRequest: 4, production: false, fork: true, outcome: "failed", createdAt: bed.clock.now() } as const;
  const description = "<img src=x> | @everyone [a](http://evil)\n# `x`";
  await insertGitReport(bed.context.store, {
    ...commit,
    id: "r",
    connectionId: bed.connectionId,
    deploymentId: null,
    sha: shaOf(9),
    description,
  });
  await advanceUntil("it is told", () => bed.github.comments.has(4));
  const text = bed.github.comments.get(4)![0]!.body;
  assert.match(text, /\\<img src=x\\> \\\| @\u200beveryone \\\[a\\\]\(http:\/\/evil\) \\# \\`x\\`/);
});
