/** A handler that takes events answers requests: the file that stands between, in a server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { writeFiles } from "../../test/server.ts";
import { eventBridge } from "./event-bridge.ts";

const launchers = {
  "launcher.js": `exports.launcher = async (event) => {
    const { method, path, headers, encoding, body } = JSON.parse(event.body);
    const said = [event.Action, method, path, headers["x-a"], Buffer.from(body, encoding).toString(), process.env.LAMBDA_TASK_ROOT];
    return { statusCode: 201, headers: { "set-cookie": ["a=1", "b=2"], "content-length": "7" }, encoding: "base64", body: Buffer.from(JSON.stringify(said)).toString("base64") };
  };`,
  "launcher.mjs": `export const launcher = async () => ({ statusCode: 200, body: "module" });`,
};

for (const [file, source] of Object.entries(launchers)) {
  test(`${file}: method, path, headers and body go in; status, headers and body come out`, async () => {
    const root = scratchDirectory();
    const bridge = eventBridge("launcher.launcher", (path) => path === file);
    assert.ok(bridge !== null);
    writeFiles(root, { [file]: source, [bridge.path]: bridge.text });
    delete process.env["LAMBDA_TASK_ROOT"];
    const server = createServer(createRequire(import.meta.url)(join(root, bridge.path)) as RequestListener).listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/a?q=1`;
      const response = await fetch(url, { method: "POST", headers: { "x-a": "1" }, body: "b\u00f6dy" });
      const text = await response.text();
      if (file === "launcher.mjs") assert.deepEqual([response.status, text], [200, "module"]);
      else {
        assert.deepEqual(JSON.parse(text), ["Invoke", "POST", "/api/a?q=1", "1", "b\u00f6dy", root]);
        assert.deepEqual([response.status, response.headers.getSetCookie()], [201, ["a=1", "b=2"]]);
      }
    } finally {
      server.close();
    }
  });
}

test("a handler that is a file, and one that is none, need no bridge", () => {
  const has = (path: string): boolean => ["api/a.js", "launcher.js"].includes(path);
  assert.equal(eventBridge("api/a.js", has), null);
  assert.equal(eventBridge("other.handler", has), null);
  assert.equal(eventBridge("bootstrap", has), null);
});
