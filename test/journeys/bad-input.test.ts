/** What people and programs get wrong: a clear error with a code, a non-zero exit, and a server that is none the worse. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { cleanEnv, eventually, runMayfly, type Mayfly } from "../server.ts";
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
  before(async () => {
    mayfly = await startMayfly();
  });
  const sha1 = (text: string) => createHash("sha1").update(text).digest("hex");
  const call = (...parameters: Parameters<Mayfly["call"]>) => mayfly.call(...parameters);
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

  it("takes 100,000 files and no more; names that differ in case or Unicode form only are served as themselves", async () => {
    const shared = sha1("x");
    await upload("x");
    const names = {
      ...{ "a.txt": "lower", "A.txt": "upper", "caf\u00e9.txt": "composed", "cafe\u0301.txt": "decomposed" },
      ...{ "\ufb01.txt": "ligature", "fi.txt": "letters" },
    };
    const few = Object.entries(names).map(([file, data]) => ({ file, data }));
    const many = Array.from({ length: 100_000 - few.length }, (_, index) => ({ file: `many/${index}`, sha: shared, size: 1 }));
    const tooMany = await create([...few, ...many, { file: "one-more", sha: shared, size: 1 }]);
    assert.deepEqual([tooMany.status, tooMany.json.error?.code], [400, "too_many_files"]);
    const { status, json } = await create([...few, ...many]);
    assert.equal(status, 200, JSON.stringify(json.error));
    const host = await eventually("it is ready", async () => {
      const { json: deployment } = await call("GET", `/v13/deployments/${String(json["id"])}`);
      assert.notEqual(deployment["readyState"], "ERROR", JSON.stringify(deployment));
      return deployment["readyState"] === "READY" ? String(deployment["url"]) : null;
    });
    const last = `/many/${many.length - 1}`;
    for (const [path, content] of Object.entries({ ...names, [last.slice(1)]: "x" })) {
      const { text } = await mayfly.fetch(`http://${host}:${mayfly.port}/${encodeURI(path)}`);
      assert.equal(text, content, JSON.stringify(path));
    }
  });
});

describe("values that nobody may read", () => {
  it(
    "are masked in the build's log, the API's answers, the page of the log and the reason of a failure",
    { timeout: 120_000 },
    async () => {
      const mayfly = await startMayfly();
      const secrets = { GIVEN: "given/s3cret value+1", KEPT: 'kept&s3cret="value\u00e9\\' };
      const script = `
      for (const value of [process.env.GIVEN, process.env.KEPT]) {
        console.log("plain", value); console.error("base64", Buffer.from(value).toString("base64"));
        console.log("url", encodeURIComponent(value)); console.log("form", String(new URLSearchParams({ value })));
        process.stdout.write(value.slice(0, 7)); process.stdout.write(value.slice(7) + "\\n");
        console.log("json", JSON.stringify({ value }), JSON.stringify(JSON.stringify({ value })));
        for (const user of ["a", "ab", "abc"]) console.log("basic", Buffer.from(user + ":" + value + ":end").toString("base64"));
        console.log("small", encodeURIComponent(value).toLowerCase(), "hex", Buffer.from(value).toString("hex"));
        console.log("ascii", JSON.stringify(value).replace(/[^ -~]/g, (unit) => "\\\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0")));
        for (const letter of value) process.stdout.write(letter);
        process.stdout.write("x".repeat(70000) + value + "y".repeat(70000) + "\\n");
      }
      require("fs").mkdirSync("public"); process.exit(Number(process.env.END ?? 0));`;
      const command = `node build.cjs # ${secrets.GIVEN}`;
      const directory = projectDirectory({ "vercel.json": JSON.stringify({ buildCommand: command }), "build.cjs": script });
      await mayfly.deploy(projectDirectory({ a: "a" }), "--name", "masked");
      assert.equal((await mayfly.run("env", "add", `KEPT=${secrets.KEPT}`, "--project", "masked")).code, 0);
      for (const end of ["0", "5"]) {
        const run = await mayfly.run(
          "deploy",
          directory,
          "--name",
          "masked",
          "--build-env",
          `GIVEN=${secrets.GIVEN}`,
          "--build-env",
          `END=${end}`,
          "--json",
        );
        const listed = (await mayfly.run("ls", "--json")).stdout;
        const { id } = (JSON.parse(listed) as { id: string }[])[0]!;
        const places = {
          deploy: run.stdout + run.stderr,
          logs: JSON.stringify(await mayfly.run("logs", id, "--build")),
          events: JSON.stringify((await mayfly.call("GET", `/v3/deployments/${id}/events?builds=1&limit=-1`)).json),
          inspect: JSON.stringify(await mayfly.run("inspect", id, "--json")),
          deployment: JSON.stringify((await mayfly.call("GET", `/v13/deployments/${id}`)).json),
          list: listed,
        };
        assert.equal(run.code, end === "0" ? 0 : 1, run.stderr);
        assert.match(places.events, /plain \u2022+/, "its lines are there");
        for (const [place, text] of Object.entries(places)) {
          for (const value of Object.values(secrets)) {
            const forms = [
              value,
              Buffer.from(value).toString("base64"),
              encodeURIComponent(value),
              String(new URLSearchParams({ value })).slice(6),
              encodeURIComponent(value).replaceAll(/%../g, (escape) => escape.toLowerCase()),
              Buffer.from(value).toString("hex"),
              JSON.stringify(value).slice(1, -1),
              JSON.stringify(JSON.stringify(value).slice(1, -1)).slice(1, -1),
              JSON.stringify(value)
                .slice(1, -1)
                .replaceAll(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
              // What of it is in any base64 text that it is a part of: some characters fewer at each end.
              ...["a", "ab", "abc"].map((user) => Buffer.from(`${user}:${value}:end`).toString("base64").slice(6, -8)),
            ];
            for (const form of forms)
              assert.ok(!text.includes(form) && !text.includes(JSON.stringify(form).slice(1, -1)), `${form} in ${place}`);
          }
        }
      }
    },
  );
});
