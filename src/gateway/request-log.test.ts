/** Which requests are written down, as what, and what becomes of a flood. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MayflyError } from "../errors.ts";
import { answer, ask, openTestbed, type SiteParts } from "./testbed.ts";

describe("the request log", () => {
  const image = { sizes: [64], formats: [] };
  const site: SiteParts = {
    files: { "a.txt": "a" },
    functions: {
      "api/f": async () => answer("f", { headers: ["cache-control", "s-maxage=60"] }),
      "api/broken": () => Promise.reject(new MayflyError("FUNCTION_INVOCATION_FAILED")),
    },
    routes: [{ src: "^/old$", status: 308, headers: { location: "/a.txt" } }, { handle: "filesystem" }],
    manifest: () => ({ images: image }),
  };

  test("has every request to a deployment, whatever answered it", async () => {
    await using bed = await openTestbed({ a: site });
    for (const path of ["/a.txt", "/old", "/api/f", "/api/f?x", "/none?secret=1", "/api/broken", "/_next/image?url=/a.txt&w=64"]) {
      await ask(bed, "a.localhost", path);
    }
    await ask(bed, "a.localhost", "/api/f");
    await ask(bed, "a.localhost", "/api/f");
    await ask(bed, "a.localhost", "/a.txt");
    await ask(bed, "nobody.localhost", "/a.txt");
    assert.deepEqual(
      bed.requests.map((one) => [one.answeredBy, one.path, one.status, one.cache, one.functionName, one.deploymentId]),
      [
        ["static", "/a.txt", 200, "HIT", "", "dpl_a"],
        ["redirect", "/old", 308, "", "", "dpl_a"],
        ["function", "/api/f", 200, "MISS", "api/f", "dpl_a"],
        ["function", "/api/f", 200, "MISS", "api/f", "dpl_a"],
        ["error", "/none", 404, "", "", "dpl_a"],
        ["function", "/api/broken", 500, "", "api/broken", "dpl_a"],
        ["image", "/_next/image", 400, "", "", "dpl_a"],
        ["cache", "/api/f", 200, "HIT", "api/f", "dpl_a"],
        ["cache", "/api/f", 200, "HIT", "api/f", "dpl_a"],
        ["static", "/a.txt", 200, "HIT", "", "dpl_a"],
      ],
    );
  });

  test("of a flood takes a share, keeps room for Functions, and says how much is missing", async () => {
    await using bed = await openTestbed({ a: site }, { MAYFLY_LOG_REQUESTS_RATE_MAX: "80" }, undefined, { stillClock: true });
    for (let n = 0; n < 10; n++) await ask(bed, "a.localhost", "/a.txt");
    for (let n = 0; n < 3; n++) await ask(bed, "a.localhost", `/api/f?${n}`);
    assert.deepEqual(
      bed.requests.map(({ answeredBy }) => answeredBy),
      ["static", "static", "function", "function"],
    );
    bed.skip(10_000);
    assert.deepEqual(
      bed.logged.map(({ deploymentId, stream, text }) => [deploymentId, stream, text.startsWith("REQUESTS_NOT_LOGGED: 9 ")]),
      [["dpl_a", "system", true]],
    );
    await ask(bed, "a.localhost", "/a.txt");
    assert.equal(bed.requests.length, 5);
  });

  for (const [takes, expected] of [
    ["functions", ["function"]],
    ["none", []],
  ] as const) {
    test(`takes ${takes} when it is told so`, async () => {
      await using bed = await openTestbed({ a: site }, { MAYFLY_LOG_REQUESTS: takes });
      for (const path of ["/a.txt", "/api/f", "/api/f"]) await ask(bed, "a.localhost", path);
      assert.deepEqual(
        bed.requests.map(({ answeredBy }) => answeredBy),
        expected,
      );
    });
  }
});
