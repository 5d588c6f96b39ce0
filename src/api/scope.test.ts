/** Tokens that may do less than their holder: they cannot make more of themselves. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { systemClock } from "../clock.ts";
import { openSqliteUsage } from "../usage/sqlite.ts";
import { addMember } from "../store/teams.ts";
import { openTestApi, type TestApi } from "./testbed.ts";

let api: TestApi;
before(async () => {
  api = await openTestApi();
});

describe("a token for one project", () => {
  it("takes no host away from another project, pointed to or promised", async () => {
    const own = await api.deploy("own", { "index.html": "own" });
    await api.deploy("other", { "index.html": "other" });
    await api.call("POST", "/projects/other/domains", { body: { name: "branch.other.test", gitBranch: "main" } });
    const token = await api.newToken(api.identity, { projectId: own.projectId });
    const point = (alias: string, by: string) => api.call("POST", `/deployments/${own.id}/aliases`, { token: by, body: { alias } });
    for (const host of ["other.localhost", "branch.other.test"]) {
      const taken = await point(host, token);
      assert.deepEqual([taken.status, taken.json.error?.code], [409, "alias_in_use"], host);
    }
    for (const host of ["mine.localhost", "own.localhost"]) {
      assert.equal((await point(host, token)).status, 200, host);
      assert.equal((await point(host, token)).status, 200, "again");
    }
    assert.equal((await point("other.localhost", api.token)).status, 200, "a token for the team moves hosts between its projects");
  });

  it("makes no deployment in another project, nor one of another project production", async () => {
    const own = await api.deploy("own", { "index.html": "own" });
    const other = await api.deploy("other", { "index.html": "other" });
    const token = await api.newToken(api.identity, { projectId: own.projectId });
    const call = async (path: string, body: object) => (await api.call("POST", path, { token, body })).status;
    const files = [{ file: "index.html", data: "x" }];
    assert.equal(await call("/deployments", { name: "other", files }), 403);
    assert.equal(await call("/deployments", { name: "new", files }), 403);
    assert.equal(await call("/deployments", { project: other.projectId, files }), 403);
    assert.equal(await call("/deployments", { deploymentId: other.id }), 403);
    for (const way of ["promote", "rollback"]) {
      assert.equal(await call(`/projects/own/${way}/${other.id}`, {}), 404);
      // Nor does a token of the team put one project's deployment in the place of another's.
      assert.equal((await api.call("POST", `/projects/own/${way}/${other.id}`)).status, 404);
    }
  });

  it("sees nothing of another project, by whatever query or body it is named", async () => {
    const own = await api.deploy("own", { "index.html": "own" });
    const other = await api.deploy("other", { "index.html": "other" });
    const variable = { key: "SECRET", value: "of-another", type: "plain", target: "production" };
    const { json: secret } = await api.call("POST", "/projects/other/env?upsert=true", { body: variable });
    const usage = await openSqliteUsage({ path: join(api.data, "usage.db"), clock: systemClock, daysMax: 1, bufferRowsMax: 10 });
    const used = {
      invocations: 1,
      errors: 0,
      coldStarts: 0,
      wallMs: 1,
      cpuMs: 1,
      gbSeconds: 1,
      functionName: "f",
      timestampMs: Date.now(),
    };
    for (const { id: deploymentId, projectId } of [own, other])
      usage.append([{ ...used, teamId: api.identity.team.id, projectId, deploymentId }]);
    await usage.close();
    const token = await api.newToken(api.identity, { projectId: own.projectId });
    const hidden = [other.id, other.projectId, other.url, secret.created.id, "of-another"];
    const until = `until=${Date.now() + 120_000}`;
    const asks: readonly (readonly [method: string, path: string, body?: object])[] = [
      ["GET", "/projects"],
      ["GET", "/projects?search=other"],
      ["GET", "/deployments"],
      ["GET", `/deployments?projectId=${other.projectId}`],
      ["GET", "/deployments?app=other"],
      ["GET", "/aliases"],
      ["GET", `/aliases?projectId=${other.projectId}`],
      ["GET", `/mayfly/usage?${until}`],
      ["GET", `/mayfly/usage?${until}&app=other`],
      ["GET", `/mayfly/usage?${until}&projectId=${other.projectId}`],
      ["GET", `/mayfly/usage?${until}&deploymentId=${other.id}`],
      ["GET", `/api/logs/request-logs?projectId=${other.projectId}`],
      ["GET", `/api/logs/request-logs?projectId=${own.projectId}&deploymentId=${other.id}`],
      ["GET", `/env/pull/${other.projectId}/production`],
      ["GET", `/env/pull/${other.id}`],
      ["GET", "/projects/own/env?decrypt=true"],
      ["GET", `/projects/own/env/${secret.created.id}`],
      ["PATCH", `/projects/own/env/${secret.created.id}`, { value: "changed" }],
      ["DELETE", `/projects/own/env/${secret.created.id}`],
      ["GET", "/mayfly/git/connections"],
      ["POST", "/projects/own/edge-cache/purge", { deployment: other.id }],
    ];
    for (const [method, path, body] of asks) {
      const { status, text } = await api.call(method, path, { token, ...(body === undefined ? {} : { body }) });
      const shown = hidden.filter((each) => text.includes(each));
      assert.deepEqual([shown, status < 500], [[], true], `${method} ${path}: ${status}`);
      if (/other|env\/env|purge|\/env\/./.test(path))
        assert.ok(status === 404 || /"(?:deployments|aliases|projects)":\[\]/.test(text), `${path}: ${text}`);
    }
    // What was refused was not done; and each is there for who may see it.
    assert.equal((await api.call("GET", `/projects/other/env/${secret.created.id}`)).json.value, "of-another");
    assert.equal((await api.call("GET", `/mayfly/usage?${until}`)).json.totals.invocations, 2);
    assert.equal((await api.call("GET", `/mayfly/usage?${until}`, { token })).json.totals.invocations, 1);
  });

  it("gets no deployment of another project by the key that made it", async () => {
    const own = await api.deploy("own", { "index.html": "own" });
    const token = await api.newToken(api.identity, { projectId: own.projectId });
    const create = (by: string) =>
      api.call("POST", "/deployments", {
        token: by,
        body: { name: "other", files: [{ file: "index.html", data: "x" }] },
        headers: { "idempotency-key": "build-1" },
      });
    const made = await create(api.token);
    assert.equal(made.status, 200, made.text);
    const { status, text } = await create(token);
    assert.deepEqual([status, text.includes(made.json.id)], [403, false]);
  });
});

it("a token speaks for its own team alone, whatever team a call names", async () => {
  const { id, slug } = api.identity.team;
  const statusOf = async (query: string) => (await api.call("GET", `/v2/user?${query}`)).status;
  for (const own of [`teamId=${id}`, `teamId=${slug}`, `slug=${slug}`, `teamId=${id}&slug=${slug}`])
    assert.equal(await statusOf(own), 200, own);
  for (const other of ["teamId=team_other", "slug=others", `teamId=${id}&slug=others`, `teamId=${id}&teamId=team_other`, "teamId="]) {
    assert.equal(await statusOf(other), 403, other);
  }
});

it("a member's token shows, revokes and makes only that member's own", async () => {
  const { team } = api.identity;
  const joined = await addMember(api.store, team.id, { username: "mo", email: "mo@localhost" }, "MEMBER");
  const token = await api.newToken({ user: joined!.user, team });
  const { json: listed } = await api.call("GET", "/user/tokens", { token });
  assert.deepEqual(new Set(listed.tokens.map(({ userId }: { userId: string }) => userId)), new Set([joined!.user.id]));
  const { json: owners } = await api.call("POST", "/user/tokens", { body: { name: "owner's" } });
  assert.equal((await api.call("DELETE", `/user/tokens/${owners.token.id}`, { token })).status, 404);
  assert.equal((await api.call("GET", "/v2/user", { token: owners.bearerToken })).status, 200);
  assert.equal((await api.call("POST", "/user/tokens", { token, body: { name: "x", user: api.identity.user.username } })).status, 403);
  assert.equal((await api.call("POST", "/user/tokens", { token, body: { name: "x", user: "mo" } })).status, 200);
});

describe("a token that ends", () => {
  it("makes none that outlives it", async () => {
    const endsAt = Date.now() + 60_000;
    const token = await api.newToken(api.identity, { expiresAt: endsAt });
    const make = (expiresAt?: number | null) => api.call("POST", "/user/tokens", { token, body: { name: "next", expiresAt } });
    for (const later of [undefined, null, endsAt + 1]) {
      const { status, json } = await make(later);
      assert.deepEqual([status, json.error?.code], [403, "forbidden"], String(later));
    }
    for (const soon of [endsAt, endsAt - 1]) assert.equal((await make(soon)).json.token.expiresAt, soon);
    assert.equal((await api.call("POST", "/user/tokens", { body: { name: "for ever" } })).json.token.expiresAt, null);
  });
});
