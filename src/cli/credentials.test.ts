/** Tokens of this machine's user: who may read them, writers at the same time, which one counts. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { credentialsPath, readToken, resolveApi, resolveToken, writeToken } from "./credentials.ts";

describe("credentials", () => {
  it("writes tokens that only their owner can read, and leaves nothing else behind", async () => {
    const env = { XDG_CONFIG_HOME: join(scratchDirectory(), "deep/config") };
    assert.equal(await readToken("http://127.0.0.1:3000", env), undefined);
    await writeToken("http://127.0.0.1:3000", "mayfly_a", env);
    await writeToken("https://mayfly.example.com", "mayfly_b", env);
    const path = credentialsPath(env);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(dirname(path)), ["credentials.json"]);
    assert.deepEqual(JSON.parse(readFileSync(path, "utf8")), {
      "http://127.0.0.1:3000": "mayfly_a",
      "https://mayfly.example.com": "mayfly_b",
    });
    await writeToken("http://127.0.0.1:3000", undefined, env);
    assert.equal(await readToken("http://127.0.0.1:3000", env), undefined);
    assert.equal(await readToken("https://mayfly.example.com/", env), "mayfly_b");
  });

  it("keeps the tokens of writers at the same time, and passes a dead writer's lock", async () => {
    const env = { XDG_CONFIG_HOME: scratchDirectory() };
    const ports = Array.from({ length: 20 }, (_value, index) => 4000 + index);
    await Promise.all(ports.map((port) => writeToken(`http://127.0.0.1:${port}`, `t${port}`, env)));
    for (const port of ports) assert.equal(await readToken(`http://localhost:${port}`, env), `t${port}`);
    const lock = `${credentialsPath(env)}.lock`;
    writeFileSync(lock, "");
    utimesSync(lock, 1, 1);
    await writeToken("http://127.0.0.1:4000", "again", env);
    assert.equal(await readToken("http://[::1]:4000", env), "again");
  });

  it("prefers the flag, then the environment, then the file", async () => {
    const env = { XDG_CONFIG_HOME: scratchDirectory() };
    const api = "http://127.0.0.1:3000";
    await writeToken(api, "stored", env);
    assert.deepEqual(await resolveToken(api, "flag", { ...env, MAYFLY_TOKEN: "env" }), { value: "flag", from: "--token" });
    assert.deepEqual(await resolveToken(api, undefined, { ...env, MAYFLY_TOKEN: "env" }), { value: "env", from: "MAYFLY_TOKEN" });
    assert.deepEqual(await resolveToken(api, undefined, env), { value: "stored", from: credentialsPath(env) });
    assert.equal(credentialsPath({ HOME: "/home/a" }), "/home/a/.config/mayfly/credentials.json");
  });

  for (const [flag, env, expected] of [
    [undefined, {}, "http://127.0.0.1:3000"],
    [undefined, { MAYFLY_API: "https://m.example.com/path" }, "https://m.example.com"],
    ["localhost:8080", { MAYFLY_API: "https://m.example.com" }, "http://localhost:8080"],
  ] as const) {
    it(`takes ${expected} from ${JSON.stringify([flag, env])}`, () => assert.equal(resolveApi(flag, env), expected));
  }
  it("refuses what is no URL of a server", () => {
    for (const text of ["ftp://x", "http://", "", "a b"]) assert.throws(() => resolveApi(text, {}), { code: "usage" });
  });
});
