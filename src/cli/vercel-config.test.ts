/** The official client's own files: pointed here, and put back to the byte. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { pointVercelAt, putVercelBack, vercelDirectory } from "./vercel-config.ts";

const api = "http://127.0.0.1:3000";
const read = (directory: string, name: string) => JSON.parse(readFileSync(join(directory, name), "utf8"));

it("finds the client's own directory", () => {
  assert.equal(vercelDirectory({ HOME: "/home/a" }, "linux"), "/home/a/.local/share/com.vercel.cli");
  assert.equal(vercelDirectory({ HOME: "/home/a", XDG_DATA_HOME: "/data" }, "linux"), "/data/com.vercel.cli");
  assert.equal(vercelDirectory({ HOME: "/Users/a" }, "darwin"), "/Users/a/Library/Application Support/com.vercel.cli");
});

it("keeps what a person had, however often it is called, and puts it back to the byte", async () => {
  const directory = scratchDirectory();
  const config = '{ "currentTeam": "team_x", "collectMetrics": true, "telemetry": { "enabled": true, "id": 7 } }';
  const auth = '{"token":"theirs","refreshToken":"r"}';
  writeFileSync(join(directory, "config.json"), config);
  writeFileSync(join(directory, "auth.json"), auth);
  assert.equal(await pointVercelAt(directory, api, "mayfly_1", "team_1"), true);
  await pointVercelAt(directory, api, "mayfly_2", "team_1");
  await pointVercelAt(directory, "http://other:1", "mayfly_3", "team_1");
  assert.deepEqual(read(directory, "config.json"), {
    currentTeam: "team_1",
    collectMetrics: true,
    telemetry: { enabled: false, id: 7 },
    api: "http://other:1",
  });
  assert.deepEqual(read(directory, "auth.json"), { token: "mayfly_3" });
  assert.equal(statSync(join(directory, "auth.json")).mode & 0o777, 0o600);
  assert.equal(await putVercelBack(directory), true);
  assert.equal(readFileSync(join(directory, "config.json"), "utf8"), config);
  assert.equal(readFileSync(join(directory, "auth.json"), "utf8"), auth);
  assert.equal(await putVercelBack(directory), false);
  assert.deepEqual(readdirSync(directory).toSorted(), ["auth.json", "config.json"]);
});

it("leaves nothing where nothing was", async () => {
  const directory = join(scratchDirectory(), "com.vercel.cli");
  assert.equal(await pointVercelAt(directory, api, "mayfly_1", "team_1"), false);
  assert.equal(existsSync(join(directory, "auth.json")), true);
  await putVercelBack(directory);
  assert.deepEqual(readdirSync(directory), []);
});

it("touches nothing when a file cannot be understood", async () => {
  const directory = scratchDirectory();
  writeFileSync(join(directory, "auth.json"), "{");
  await assert.rejects(pointVercelAt(directory, api, "mayfly_1", "team_1"), { code: "config_invalid" });
  assert.deepEqual(readdirSync(directory), ["auth.json"]);
});
