/** Purges as the official client's `cache` asks for them: rows that every gateway reads. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { listPurges } from "../store/purges.ts";
import { openTestApi, type TestApi } from "./testbed.ts";

let api: TestApi;

before(async () => {
  api = await openTestApi();
  await api.deploy("site", { "index.html": "x" });
});

test("by tags, by the pictures' sources, or all; for a project that the token reaches", async () => {
  let serial = 0;
  const purge = async (name: string, body: object, project = "site") => {
    const { status, json } = await api.call("POST", `/v1/edge-cache/${name}?projectIdOrName=${project}`, { body });
    const rows = await listPurges(api.store, serial);
    serial = rows.at(-1)?.serial ?? serial;
    return [status, json?.purged ?? json?.error?.code, ...rows.map(({ tag, mode }) => `${mode} ${tag}`)];
  };
  assert.deepEqual(await purge("invalidate-by-tags", { tags: "a, b" }), [200, 2, "invalidate a", "invalidate b"]);
  assert.deepEqual(await purge("dangerously-delete-by-tags", { tags: ["a"], revalidationDeadlineSeconds: 1 }), [200, 1, "delete a"]);
  assert.deepEqual(await purge("invalidate-by-src-images", { srcImages: ["/a.jpg?v=1#x"] }), [200, 1, "invalidate picture\n/a.jpg?v=1"]);
  assert.deepEqual(await purge("dangerously-delete-by-src-images", { srcImages: ["HTTPS://Cdn.test/a.jpg"] }), [
    200,
    1,
    "delete picture\nhttps://cdn.test/a.jpg",
  ]);
  assert.deepEqual(await purge("purge-all", {}), [200, 1, "delete null"]);
  for (const [name, body] of [
    ["invalidate-by-tags", {}],
    ["invalidate-by-tags", { tags: " , " }],
    ["invalidate-by-src-images", { srcImages: [] }],
    ["dangerously-delete-by-src-images", { srcImages: "/a.jpg" }],
  ] as const) {
    const [status, , ...rows] = await purge(name, body);
    assert.deepEqual([status, rows], [400, []], `${name} ${JSON.stringify(body)}`);
  }
  assert.deepEqual(await purge("purge-all", {}, "other"), [404, "not_found"]);
  assert.equal((await api.call("POST", "/v1/edge-cache/purge-all")).status, 400);
});
