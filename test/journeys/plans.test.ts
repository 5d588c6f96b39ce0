/** Projects that are large to plan: the API answers meanwhile, a cancel and a deadline end it, and the next is built. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, describe, it } from "node:test";
import { startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly } from "../server.ts";

const sha1 = (text: string): string => createHash("sha1").update(text).digest("hex");
const source = "export default () => {};";

/** A project whose files in `api/` take seconds to compare, and whose vercel.json is refused after that. */
function large(count: number): object[] {
  const functions = Array.from({ length: count }, (_, index) => ({
    file: `api/${index % 7}/${index}.js`,
    sha: sha1(source),
    size: source.length,
  }));
  const vercelJson = { functions: { "api/nothing.js": { memory: 256 } } };
  return [...functions, { file: "vercel.json", data: JSON.stringify(vercelJson) }];
}

/** The deployment, once it is in error. */
const refused = (mayfly: Mayfly, id: string) =>
  eventually("it is refused", async () => {
    const { json } = await mayfly.call("GET", `/v13/deployments/${id}`);
    return json["readyState"] === "ERROR" ? json : null;
  });

describe("a project that is large to plan", () => {
  let mayfly: Mayfly;
  before(async () => {
    mayfly = await startMayfly({ env: { MAYFLY_PLAN_TIMEOUT_MS: "120000", MAYFLY_PLAN_MEMORY_MB: "64" } });
    await mayfly.call("POST", "/v2/files", source, { "x-now-digest": sha1(source), "content-type": "application/octet-stream" });
  });
  const create = async (files: object[]): Promise<string> => {
    const { status, json } = await mayfly.call("POST", "/v13/deployments", JSON.stringify({ name: "large", files }));
    assert.equal(status, 200, JSON.stringify(json));
    return String(json["id"]);
  };
  const look = async (id: string) => (await mayfly.call("GET", `/v13/deployments/${id}`)).json;
  const isBuilding = (id: string) =>
    eventually("it is being planned", async () => ((await look(id))["readyState"] === "BUILDING" ? true : null));

  it("keeps nobody waiting for the API, and ends in what is wrong with it", async () => {
    const id = await create(large(1200));
    await isBuilding(id);
    const began = performance.now();
    const waits: number[] = [];
    for (;;) {
      const asked = performance.now();
      const { readyState, errorCode, errorMessage } = await look(id);
      waits.push(performance.now() - asked);
      assert.notEqual(readyState, "READY");
      if (readyState === "ERROR") {
        assert.deepEqual([errorCode, /api\/nothing\.js/.test(String(errorMessage))], ["INVALID_VERCEL_JSON", true]);
        break;
      }
    }
    const longest = Math.max(...waits);
    assert.ok(waits.length > 10 && longest < (performance.now() - began) / 2, `${waits.length} answers, the slowest after ${longest} ms`);
  });

  it("is given up when it is canceled, and the next is built", async () => {
    const id = await create(large(5000));
    await isBuilding(id);
    const { status } = await mayfly.call("PATCH", `/v12/deployments/${id}/cancel`);
    assert.equal(status, 200);
    assert.equal((await look(id))["readyState"], "CANCELED");
    const next = await create([{ file: "index.html", data: "hi" }]);
    await eventually("the next is ready", async () => ((await look(next))["readyState"] === "READY" ? true : null));
    assert.equal((await look(id))["readyState"], "CANCELED");
  });

  it("is refused at once beyond what can be compared", async () => {
    const id = await create(large(6000));
    const { errorCode, errorMessage } = await refused(mayfly, id);
    assert.deepEqual([errorCode, /6000 files in api\//.test(String(errorMessage))], ["BUILD_FAILED", true]);
  });

  it("has a bound on its memory", async () => {
    // Read in an instant, and a hundred megabytes when it is understood.
    const packageJson = `{"files":[${"{},".repeat(3_000_000)}{}]}`;
    const headers = { "x-now-digest": sha1(packageJson), "content-type": "application/octet-stream" };
    await mayfly.call("POST", "/v2/files", packageJson, headers);
    const id = await create([...large(300), { file: "package.json", sha: sha1(packageJson), size: packageJson.length }]);
    const { errorCode, errorMessage } = await refused(mayfly, id);
    assert.equal(errorCode, "BUILD_OUT_OF_MEMORY", String(errorMessage));
  });

  it("has a deadline", async () => {
    const hasty = await startMayfly({ env: { MAYFLY_PLAN_TIMEOUT_MS: "500" } });
    await hasty.call("POST", "/v2/files", source, { "x-now-digest": sha1(source), "content-type": "application/octet-stream" });
    const { json } = await hasty.call("POST", "/v13/deployments", JSON.stringify({ name: "hasty", files: large(5000) }));
    const { errorCode, errorMessage } = await refused(hasty, String(json["id"]));
    assert.equal(errorCode, "BUILD_PLAN_TIMEOUT", String(errorMessage));
  });
});
