/** What people and programs get wrong: a clear error with a code, a non-zero exit, and a server that is none the worse. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { request } from "undici";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { cleanEnv, runMayfly, type Mayfly } from "../server.ts";
import { scratchDirectory } from "../scratch.ts";

describe("the command line", () => {
  let mayfly: Mayfly;
  before(async () => {
    mayfly = await startMayfly();
  });

  it("refuses an unknown flag and an unknown command, and suggests", async () => {
    const flag = await mayfly.run("deploy", "--prodd");
    assert.equal(flag.code, 2);
    assert.match(flag.stderr, /--prodd[\s\S]*--prod/);
    const command = await mayfly.run("deplyo");
    assert.equal(command.code, 2);
    assert.match(command.stderr, /deploy/);
    assert.equal((await mayfly.run("start", "--port", "99999")).code, 2);
    const weak = await mayfly.run("start", "--untrusted", "--sandbox", "process", "--port", "0", "--data", scratchDirectory());
    assert.deepEqual([weak.code, /sandbox_unavailable/.test(weak.stderr)], [1, true], weak.stderr);
  });

  it("says that no server answers and how to start one", async () => {
    const env = { ...cleanEnv(scratchDirectory()), MAYFLY_API: "http://127.0.0.1:9", MAYFLY_TOKEN: "x" };
    const { code, stderr } = await runMayfly(env, "deploy", projectDirectory({ a: "a" }));
    assert.equal(code, 1);
    assert.match(stderr, /server_unreachable/);
    assert.match(stderr, /127\.0\.0\.1:9/);
    assert.match(stderr, /start/);
  });

  it("names a wrong token, an empty directory, a directory that is none", async () => {
    const wrong = await mayfly.run("deploy", projectDirectory({ a: "a" }), "--token", "wrong");
    assert.deepEqual([wrong.code, /forbidden/.test(wrong.stderr)], [1, true]);
    const empty = await mayfly.run("deploy", projectDirectory({}), "--name", "x");
    assert.deepEqual([empty.code, /empty_directory/.test(empty.stderr)], [1, true]);
    const none = await mayfly.run("deploy", "/nonexistent/directory");
    assert.deepEqual([none.code, /not_a_directory/.test(none.stderr)], [1, true]);
  });

  it("fails a deployment with the build's own words", async () => {
    const directory = projectDirectory({ "package.json": JSON.stringify({ scripts: { build: "echo so-it-goes; exit 3" } }) });
    const { code, stdout, stderr } = await mayfly.run("deploy", directory, "--name", "failing");
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /so-it-goes/);
    assert.match(stderr, /BUILD_FAILED/);
    const invalid = await mayfly.run("deploy", projectDirectory({ "vercel.json": "{ nope", "a.txt": "a" }), "--name", "failing");
    assert.equal(invalid.code, 1);
    assert.match(invalid.stderr, /INVALID_VERCEL_JSON/);
  });
});

describe("the API", () => {
  let mayfly: Mayfly;
  let token: string;
  before(async () => {
    mayfly = await startMayfly();
    const credentials = JSON.parse(readFileSync(join(mayfly.home, "config", "mayfly", "credentials.json"), "utf8")) as Record<
      string,
      string
    >;
    token = Object.values(credentials)[0]!;
  });
  const sha1 = (text: string) => createHash("sha1").update(text).digest("hex");
  const call = async (method: "GET" | "POST", path: string, body?: string, headers: Record<string, string> = {}) => {
    const response = await request(mayfly.api + path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...headers },
      ...(body === undefined ? {} : { body }),
    });
    return {
      status: response.statusCode,
      json: (await response.body.json()) as { error?: { code: string; message: string; missing?: string[] } },
    };
  };
  const upload = (content: string, digest = sha1(content)) =>
    call("POST", "/v2/files", content, { "x-now-digest": digest, "content-type": "application/octet-stream" });
  const create = (files: unknown, more: object = {}) => call("POST", "/v13/deployments", JSON.stringify({ name: "x", files, ...more }));

  it("stores a file only under its own digest", async () => {
    const wrong = await upload("content", sha1("other"));
    assert.deepEqual([wrong.status, wrong.json.error?.code], [400, "digest_mismatch"]);
    const still = await create([{ file: "a", sha: sha1("other"), size: 5 }]);
    assert.deepEqual([still.status, still.json.error?.code, still.json.error?.missing], [400, "missing_files", [sha1("other")]]);
    assert.equal((await upload("content", "zz")).json.error?.code, "bad_request");
  });

  it("refuses paths that lead out of the tree or clash", async () => {
    await upload("a");
    const file = (path: string) => ({ file: path, sha: sha1("a"), size: 1 });
    for (const path of ["../a", "/etc/passwd", "a/../../b", "a//b", "a\\b", "a\0b", "", ".", "x".repeat(2000), "a/./b"]) {
      const { status, json } = await create([file(path)]);
      assert.deepEqual([status, json.error?.code], [400, "invalid_path"], JSON.stringify(path));
    }
    assert.equal((await create([file("a"), file("a")])).json.error?.code, "invalid_path");
    assert.equal((await create([file("a"), file("a/b")])).json.error?.code, "invalid_path");
    assert.equal((await create([file("__proto__")])).status, 200);
  });

  it("answers every wrong body and credential with a code", async () => {
    const cases: [() => Promise<{ status: number; json: { error?: { code: string } } }>, number, string][] = [
      [() => call("POST", "/v13/deployments", "{"), 400, "invalid_json"],
      [() => call("POST", "/v13/deployments", "[]"), 400, "invalid_json"],
      [() => create("files"), 400, "bad_request"],
      [() => create([]), 400, "no_files"],
      [() => create([{ file: 5 }]), 400, "invalid_file"],
      [() => create([{ file: "a", sha: "x", size: 1 }]), 400, "invalid_file"],
      [() => create([{ file: "a", data: "x" }], { name: "!!!" }), 400, "invalid_name"],
      [() => create([{ file: "a", data: "x" }], { env: { "A-B": "x" } }), 400, "invalid_env"],
      [() => create([{ file: "a", data: "x" }], { env: { A: 5 } }), 400, "bad_request"],
      [() => create([{ file: "a", data: "x" }], { project: "prj_nope" }), 404, "not_found"],
      [() => call("GET", "/v13/deployments/dpl_nope"), 404, "not_found"],
      [() => call("GET", "/v99/nothing"), 404, "not_found"],
      [() => call("GET", "/v2/user?teamId=team_other"), 403, "forbidden"],
      [() => call("GET", "/v2/user", undefined, { authorization: "Bearer nope" }), 403, "forbidden"],
      [() => call("GET", "/v2/user", undefined, { authorization: "" }), 401, "unauthorized"],
    ];
    for (const [ask, status, code] of cases) {
      const reply = await ask();
      assert.deepEqual([reply.status, reply.json.error?.code], [status, code], ask.toString());
    }
  });
});
