/** Every endpoint × every kind of caller, made from the table itself: who is let in, who is refused, who finds nothing. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { createTeam, addMember } from "../store/teams.ts";
import { endpoints } from "./api.ts";
import type { Endpoint } from "./endpoint.ts";
import { documentPath } from "./openapi.ts";
import { openTestApi, type Answer, type TestApi } from "./testbed.ts";

/** What each parameter of a path stands for: things of the first team. */
let things: Record<string, (endpoint: Endpoint) => string>;
let api: TestApi;
let member: string;
let readOnly: string;
let otherTeam: string;
let otherProject: string;
/** Ids that nobody outside may see. */
let secrets: string[];

const bodies: Readonly<Record<string, unknown>> = {
  "POST /deployments": { name: "site", files: [{ file: "a.txt", data: "a" }] },
  "POST /projects": { name: "made" },
  "POST /projects/:project/env": { key: "A", value: "a" },
  "POST /user/tokens": { name: "t" },
  "POST /teams/:team/members": { username: "new" },
  "POST /deployments/:deployment/aliases": { alias: "other-alias" },
  "POST /domains": { name: "made.test" },
  "POST /projects/:project/domains": { name: "added.test" },
  "POST /projects/:project/alias": { domain: "aliased.test", target: "PRODUCTION" },
};

const nameOf = ({ method, path }: Endpoint): string => `${method} ${path}`;

function ask(endpoint: Endpoint, token: string | null): Promise<Answer> {
  const path = endpoint.path
    .replaceAll(/:(\w+)/g, (_, name: string) => {
      return encodeURIComponent(things[name]?.(endpoint) ?? "1");
    })
    .replace("*", "main");
  const body = bodies[nameOf(endpoint)] ?? (endpoint.body === undefined || endpoint.body === "stream" ? undefined : {});
  return api.call(endpoint.method, path, { token, ...(body === undefined ? {} : { body }) });
}

/** Neither refused nor told that there is nothing; what is wrong with the call itself comes after that. */
function isLetIn({ status, json }: Answer): boolean {
  const lost = ["Project not found", "Deployment not found", "There is no such endpoint."];
  return status < 500 && ![401, 403, 405].includes(status) && !(status === 404 && lost.includes(json?.error?.message));
}

/** A body that the schema refuses is refused before anything is looked for: that tells nobody anything. */
function isFoundNothing({ status }: Answer, endpoint: Endpoint): boolean {
  return status === 404 || (status === 400 && bodies[nameOf(endpoint)] === undefined && endpoint.body !== undefined);
}

before(async () => {
  api = await openTestApi();
  const { store, identity } = api;
  const site = await api.deploy("site", { "index.html": "x" });
  await api.deploy("elsewhere", { "index.html": "y" });
  const { json: variable } = await api.call("POST", "/projects/site/env", { body: { key: "K", value: "v" } });
  await api.call("POST", `/deployments/${site.id}/aliases`, { body: { alias: "www.known.test" } });
  await api.call("POST", "/projects/site/domains", { body: { name: "shop.known.test" } });
  const { json: spare } = await api.call("POST", "/user/tokens", { body: { name: "spare" } });
  const { json: leaver } = await api.call("POST", `/teams/${identity.team.id}/members`, { body: { username: "leaver" } });
  const { json: tree } = await api.call("GET", `/deployments/${site.id}/files`);
  const { json: elsewhere } = await api.call("GET", "/projects/elsewhere");

  const joined = await addMember(store, identity.team.id, { username: "mo", email: "mo@localhost" }, "MEMBER");
  member = await api.newToken({ user: joined!.user, team: identity.team });
  readOnly = await api.newToken(identity, { scope: "read-only" });
  otherProject = await api.newToken(identity, { projectId: elsewhere.id });
  otherTeam = await api.newToken(await createTeam(store, "others", { username: "eve", email: "eve@localhost" }));

  things = {
    team: () => identity.team.id,
    user: () => leaver.uid,
    token: () => spare.token.id,
    project: () => site.projectId,
    deployment: () => site.id,
    alias: () => "www.known.test",
    domain: ({ path }) => (path.startsWith("/projects/") ? "shop.known.test" : "www.known.test"),
    uid: () => tree[0].uid,
    target: () => "production",
    id: ({ path }) => (path.includes("/env/:id") ? variable.created.id : path.startsWith("/env/pull") ? site.projectId : site.id),
  };
  secrets = [site.id, site.projectId, variable.created.id, spare.token.id, identity.team.id, "known.test"];
});

describe("every endpoint", () => {
  it("has a rule, a summary, and is in the OpenAPI document, which has no others", async () => {
    const { json: document } = await api.call("GET", "/openapi.json", { token: null });
    assert.equal(document.openapi, "3.1.0");
    const documented = Object.entries(document.paths as Record<string, object>).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    assert.deepEqual(documented.toSorted(), endpoints.map(({ method, path }) => `${method} ${documentPath(path)}`).toSorted());
    const ids = Object.values(document.paths as Record<string, Record<string, { operationId: string }>>).flatMap((operations) =>
      Object.values(operations).map(({ operationId }) => operationId),
    );
    assert.equal(new Set(ids).size, ids.length, "operation ids are unique");
    for (const { summary, access, path, subject } of endpoints) {
      assert.ok(summary.length > 5 && access, path);
      if (subject === "project") assert.match(path, /:project/);
      if (subject === "deployment") assert.match(path, /:deployment/);
    }
  });

  it("refuses who has no token, a wrong one, or one that has expired", async () => {
    const expired = await api.newToken(api.identity, { expiresAt: Date.now() - 1 });
    for (const endpoint of endpoints.filter(({ access }) => access !== "anyone")) {
      const none = await ask(endpoint, null);
      assert.deepEqual([none.status, none.json.error.missingToken], [401, true], nameOf(endpoint));
      for (const token of ["wrong", expired]) {
        const wrong = await ask(endpoint, token);
        assert.deepEqual([wrong.status, wrong.json.error.invalidToken], [403, true], nameOf(endpoint));
      }
    }
  });

  it("lets a read-only token read only, and a member do what is not the owner's", async () => {
    for (const endpoint of endpoints) {
      if (endpoint.access === "anyone") continue;
      if (endpoint.access !== "read") assert.equal((await ask(endpoint, readOnly)).status, 403, nameOf(endpoint));
      if (endpoint.access === "admin") assert.equal((await ask(endpoint, member)).status, 403, nameOf(endpoint));
      if (endpoint.access !== "read") continue;
      for (const token of [readOnly, member]) assert.ok(isLetIn(await ask(endpoint, token)), nameOf(endpoint));
    }
  });

  it("shows another team nothing, not even that it is there", async () => {
    for (const endpoint of endpoints.filter(({ subject }) => subject !== "server")) {
      const answer = await ask(endpoint, otherTeam);
      const { status, text } = answer;
      const shown = secrets.filter((secret) => text.includes(secret));
      assert.deepEqual(shown, [], nameOf(endpoint));
      if (endpoint.path.includes(":") && !/config$|availability$/.test(endpoint.path))
        assert.ok(isFoundNothing(answer, endpoint), `${nameOf(endpoint)}: ${status}`);
      else assert.ok(status < 500, nameOf(endpoint));
    }
  });

  it("keeps a token for one project in that project", async () => {
    for (const endpoint of endpoints.filter(({ subject }) => subject !== "server")) {
      const answer = await ask(endpoint, otherProject);
      const { status, text } = answer;
      if (endpoint.subject === "team" || endpoint.access === "admin") assert.equal(status, 403, nameOf(endpoint));
      else if (endpoint.subject === "project" || endpoint.subject === "deployment") {
        assert.ok(isFoundNothing(answer, endpoint), `${nameOf(endpoint)}: ${status}`);
      } else assert.ok(!text.includes(secrets[1]!), nameOf(endpoint));
    }
  });

  it("lets the owner do everything", async () => {
    const order = (endpoint: Endpoint) =>
      endpoint.method !== "DELETE" ? 0 : endpoint.subject === "team" ? 3 : endpoint.path === "/projects/:project" ? 2 : 1;
    const late = (endpoint: Endpoint) => (/^\/(deployments\/:deployment|aliases\/:alias)$/.test(endpoint.path) ? 0.5 : 0);
    for (const endpoint of endpoints.toSorted((a, b) => order(a) + late(a) - order(b) - late(b))) {
      const answer = await ask(endpoint, api.token);
      assert.ok(
        isLetIn(answer) || (endpoint.access === "anyone" && answer.status < 500),
        `${nameOf(endpoint)}: ${answer.status} ${answer.text}`,
      );
    }
  });
});
