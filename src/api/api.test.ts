/** What holds for every call: rates, and bodies whatever they claim to be. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { openTestApi } from "./testbed.ts";

it("slows down a token that calls too often, and an address that guesses tokens; uploads do not count", async () => {
  const api = await openTestApi({ MAYFLY_API_TOKEN_RATE_MAX: "5", MAYFLY_API_ADDRESS_RATE_MAX: "3" });
  const statuses = async (times: number, token: string | null, from: string) => {
    const all: number[] = [];
    for (let index = 0; index < times; index++) {
      all.push((await api.call("GET", "/v2/user", { token, headers: { "x-forwarded-for": from } })).status);
    }
    return all;
  };
  assert.deepEqual(await statuses(7, api.token, "192.0.2.1"), [200, 200, 200, 200, 200, 429, 429]);
  const refused = await api.call("GET", "/v2/user");
  assert.equal(refused.json.error.code, "rate_limited");
  assert.ok(Number(refused.headers["retry-after"]) > 0);
  assert.deepEqual(await statuses(5, "guess", "192.0.2.2"), [403, 403, 403, 429, 429]);
  assert.deepEqual(await statuses(1, "guess", "192.0.2.3"), [403], "another address is not concerned");
  const other = await api.newToken(api.identity);
  assert.deepEqual(await statuses(1, other, "192.0.2.2"), [200], "nor is who has a token");
  for (let index = 0; index < 8; index++) {
    const { status } = await api.call("POST", "/v2/files", { token: other, body: "x", headers: { "x-now-digest": "0".repeat(40) } });
    assert.equal(status, 400, "not 429");
  }
});

it("reads JSON whatever content type is claimed, names what is wrong, and answers 204 without a content type", async () => {
  const api = await openTestApi();
  const headers = { "content-type": "text/plain;charset=UTF-8" };
  assert.equal((await api.call("POST", "/v1/projects", { body: { name: "typed" }, headers })).status, 200);
  const wrong = await api.call("PATCH", "/v9/projects/typed", { body: { directoryListing: "yes" } });
  assert.deepEqual([wrong.status, wrong.json.error.code], [400, "bad_request"]);
  assert.match(wrong.json.error.message, /directoryListing/);
  const changed = await api.call("PATCH", "/v9/projects/typed", { body: { directoryListing: true, retention: { keepProduction: 3 } } });
  assert.deepEqual([changed.json.directoryListing, changed.json.retention.keepProduction], [true, 3]);
  const gone = await api.call("DELETE", "/v9/projects/typed");
  assert.deepEqual([gone.status, gone.headers["content-type"], gone.text], [204, undefined, ""]);
});

it("takes a branch's name in an address for what it is, whatever is in it", async () => {
  const api = await openTestApi();
  await api.call("POST", "/projects", { body: { name: "branches" } });
  for (const branch of ["feature/a", "50%", "%zz", "a b+c", "größe", "%2f"]) {
    const variable = { key: "OF_BRANCH", value: branch, type: "plain", target: "preview", gitBranch: branch };
    assert.equal((await api.call("POST", "/projects/branches/env", { body: variable })).status, 201, branch);
    const { status, json } = await api.call("GET", `/env/pull/branches/preview/${encodeURIComponent(branch)}`);
    assert.deepEqual([status, json.env?.OF_BRANCH], [200, branch]);
  }
});
