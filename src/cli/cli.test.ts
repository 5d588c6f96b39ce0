/** Runs the command-line interface as people do: a process of its own, a real server, exit codes and both streams. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { scratchDirectory } from "../../test/scratch.ts";
import { answer, openRecordingApi, refuse, type RecordingApi, type RecordingApiOptions } from "../client/recording-api.ts";

const main = fileURLToPath(new URL("main.js", import.meta.url));
const url = "http://site-abc123def.localhost:3000";

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface RunOptions {
  readonly api?: RecordingApi;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Called with the process id and all of stderr so far. */
  readonly onStderr?: (pid: number, stderr: string) => void;
  /** User to run as, when this process may choose. */
  readonly uid?: number;
}

async function mayfly(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const env = {
    HOME: scratchDirectory(),
    TZ: "UTC",
    ...(options.api && { MAYFLY_API: options.api.url, MAYFLY_TOKEN: "mayfly_test" }),
    ...options.env,
  };
  const uid = process.getuid?.() === 0 ? options.uid : undefined;
  const child = spawn(process.execPath, [main, ...args], {
    env,
    cwd: options.cwd ?? scratchDirectory(),
    stdio: ["ignore", "pipe", "pipe"],
    ...(uid !== undefined && { uid }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    options.onStderr?.(child.pid!, stderr);
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, stdout, stderr };
}

/** A directory with an index.html. */
function site(): string {
  const root = scratchDirectory();
  chmodSync(root, 0o755);
  writeFileSync(join(root, "index.html"), "<h1>hello</h1>");
  return root;
}

/** Runs against an API of its own. */
async function withApi(args: readonly string[], apiOptions: RecordingApiOptions, options: RunOptions = {}) {
  await using api = await openRecordingApi({ token: "mayfly_test", ...apiOptions });
  return { ...(await mayfly(args, { api, ...options })), requests: api.requests, files: api.files };
}

/** A failed run: nothing on stdout, one error with its code on stderr, the exit code. */
function assertFailed(run: Run, code: string, pattern: RegExp, exitCode = 1): void {
  assert.match(run.stderr, pattern);
  assert.ok(run.stderr.includes(`(${code})`), run.stderr);
  assert.ok(!/^\s+at /m.test(run.stderr), run.stderr);
  assert.equal(run.stdout, "");
  assert.equal(run.code, exitCode);
}

describe("mayfly deploy", () => {
  it("prints the URL and nothing else on stdout; all else goes to stderr, in plain lines", async () => {
    const root = site();
    const events = [
      { type: "command", serial: "1", text: "npm run build" },
      { type: "stdout", serial: "2", text: "Compiled 2 \u001b[32mFunctions\u001b[39m\u001b]0;title\u0007" },
      { type: "stderr", serial: "3", text: "careful" },
      { type: "alias-assigned", alias: [] },
    ];
    const run = await withApi(["deploy", root], {
      events,
      deployment: { buildSummary: { functions: 2, built: 1, cached: 1, ms: 10 } },
    });
    assert.equal(run.stdout, `${url}\n`);
    assert.equal(run.code, 0);
    const lines = run.stderr.trimEnd().split("\n");
    assert.deepEqual(lines.slice(0, -1), [
      "Uploading 1 of 1 file (14 B)…",
      `Created dpl_1 at ${url}`,
      "Building…",
      "npm run build",
      "Compiled 2 Functions",
      "careful",
    ]);
    assert.match(lines.at(-1)!, /^Ready in [\d.]+ m?s · 2 functions: 1 built, 1 from cache$/);
  });

  it("sends what the flags say", async () => {
    const root = site();
    mkdirSync(join(root, ".vercel/output"), { recursive: true });
    writeFileSync(join(root, ".vercel/output/config.json"), '{"version":3}');
    const flags = [
      "--name",
      "My Shop",
      "--prod",
      "--prebuilt",
      "--force",
      "--env",
      "A=1",
      "--env=B=x=y",
      "--env",
      "FROM_SHELL",
      "--build-env",
      "C=",
    ];
    const run = await withApi(["deploy", ...flags, root], {}, { env: { FROM_SHELL: "shell" } });
    assert.equal(run.code, 0, run.stderr);
    const created = run.requests.find(({ method, path }) => method === "POST" && path === "/v13/deployments")!;
    assert.equal(created.query.toString(), "skipAutoDetectionConfirmation=1&forceNew=1&prebuilt=1");
    const { files, ...rest } = created.body;
    assert.deepEqual(rest, {
      version: 2,
      name: "my-shop",
      target: "production",
      env: { A: "1", B: "x=y", FROM_SHELL: "shell" },
      build: { env: { C: "" } },
      meta: {},
      projectSettings: {},
      source: "cli",
    });
    const data = Buffer.from('{"version":3}').toString("base64");
    assert.deepEqual(files, [{ file: ".vercel/output/config.json", mode: 0o100644, data, encoding: "base64" }]);
  });

  it("is a preview of the current directory, named for it, unless flags say otherwise", async () => {
    const root = site();
    const run = await withApi(["deploy"], {}, { cwd: root });
    const created = run.requests.find(({ path }) => path === "/v13/deployments")!;
    assert.equal(created.body.name, basename(root).toLowerCase());
    assert.ok(!("target" in created.body));
    assert.equal(created.query.toString(), "skipAutoDetectionConfirmation=1");
  });

  it("prints one JSON object with --json", async () => {
    const run = await withApi(["deploy", site(), "--json"], {});
    assert.deepEqual(JSON.parse(run.stdout), {
      id: "dpl_1",
      url,
      host: "site-abc123def.localhost",
      name: "site",
      projectId: "prj_1",
      target: "preview",
      readyState: "READY",
      buildSummary: null,
    });
    assert.equal(run.stdout.split("\n").length, 2);
  });

  it("returns after the creation with --no-wait", async () => {
    const run = await withApi(["deploy", site(), "--no-wait"], { states: ["ERROR"] });
    assert.equal(run.stdout, `${url}\n`);
    assert.equal(run.code, 0);
    assert.ok(!run.requests.some(({ path }) => path === "/v13/deployments/dpl_1"));
  });

  it("fails with the deployment's code and message", async () => {
    const failed = { states: ["ERROR"], deployment: { errorCode: "BUILD_FAILED", errorMessage: "tsc says no" } };
    const run = await withApi(["deploy", site()], failed);
    assertFailed(run, "BUILD_FAILED", /Error: tsc says no/);
    const json = await withApi(["deploy", site(), "--json"], failed);
    assert.equal(json.code, 1);
    assert.match(json.stderr, /Error: tsc says no \(BUILD_FAILED\)/);
    assert.deepEqual(JSON.parse(json.stdout), {
      error: { code: "BUILD_FAILED", message: "tsc says no", id: "dpl_1", url, errorCode: "BUILD_FAILED" },
    });
  });

  for (const [signal, exitCode] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    it(`cancels the deployment on ${signal} and exits ${exitCode}`, async () => {
      let canceled = false;
      const run = await withApi(
        ["deploy", site()],
        {
          intercept({ method, path }, response) {
            if (path.endsWith("/events")) {
              response.writeHead(200).write(`${JSON.stringify({ type: "stdout", serial: "1", text: "building for long" })}\n`);
              return true;
            }
            if (method === "PATCH" && path === "/v12/deployments/dpl_1/cancel") {
              canceled = true;
              return answer(response, 200, {});
            }
            if (path !== "/v13/deployments/dpl_1") return false;
            return answer(response, 200, { id: "dpl_1", url: "x", readyState: canceled ? "CANCELED" : "BUILDING" });
          },
        },
        { onStderr: (pid, stderr) => stderr.endsWith("building for long\n") && process.kill(pid, signal) },
      );
      assert.ok(canceled);
      assertFailed(run, "canceled", /Canceling dpl_1…\nError: The deployment dpl_1 was canceled\./, exitCode);
    });
  }

  it("survives a restart of the server while it builds", async () => {
    let polls = 0;
    const run = await withApi(["deploy", site()], {
      states: ["BUILDING", "BUILDING", "READY"],
      intercept({ path }, _response, incoming) {
        if (path !== "/v13/deployments/dpl_1" || ++polls > 3) return false;
        incoming.socket.destroy();
        return true;
      },
    });
    assert.equal(run.code, 0, run.stderr);
  });

  it("deploys 1 GB in bounded memory", async () => {
    const root = scratchDirectory();
    writeFileSync(join(root, "big"), "");
    truncateSync(join(root, "big"), 2 ** 30);
    let peakKB = 0;
    let pid = 0;
    const sample = (): void => {
      const status = pid === 0 ? "" : readFileSync(`/proc/${pid}/status`, "utf8");
      peakKB = Math.max(peakKB, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
    };
    const run = await withApi(
      ["deploy", root],
      {
        intercept({ path }) {
          if (process.platform === "linux" && path === "/v13/deployments/dpl_1") sample();
          return false;
        },
      },
      { onStderr: (child) => (pid = child) },
    );
    assert.equal(run.code, 0, run.stderr);
    assert.deepEqual([...run.files.values()], [2 ** 30]);
    assert.match(run.stderr, /Uploading 1 of 1 file \(1\.1 GB\)…/);
    assert.ok(process.platform !== "linux" || (peakKB > 10_000 && peakKB < 250_000), `${peakKB} kB at most`);
  });
});

describe("what goes wrong", () => {
  it("unknown flags and commands: usage, with what was probably meant, exit code 2", async () => {
    assertFailed(await mayfly(["deploy", "--prdo"]), "usage", /"--prdo" is not a flag of "mayfly deploy"\. Did you mean --prod\?/, 2);
    assertFailed(await mayfly(["deploy", "-x"]), "usage", /"-x" is not a flag/, 2);
    assertFailed(await mayfly(["depoly"]), "usage", /"depoly" is not a command\. Did you mean "mayfly deploy"\?/, 2);
    assertFailed(await mayfly(["frobnicate"]), "usage", /"frobnicate" is not a command\. See/, 2);
    assertFailed(await mayfly(["--jsno"]), "usage", /"--jsno" is not a flag/, 2);
    assertFailed(await mayfly(["deploy", "--name"]), "usage", /--name needs a value: --name NAME/, 2);
    assertFailed(await mayfly(["deploy", "--name", "--prod"]), "usage", /--name needs a value/, 2);
    assertFailed(await mayfly(["deploy", "--prod=yes"]), "usage", /--prod takes no value/, 2);
    assertFailed(await mayfly(["deploy", "a", "b"]), "usage", /"b" is one argument too many/, 2);
    assertFailed(await mayfly(["inspect"]), "usage", /Which deployment/, 2);
    assertFailed(await mayfly(["logs", "x", "--since", "soon"]), "usage", /--since is "soon"/, 2);
    assertFailed(await mayfly(["whoami", "--api", "ftp://x"]), "usage", /--api is "ftp:\/\/x"/, 2);
    assertFailed(await mayfly(["start", "--port", "99999"]), "config_invalid", /--port is "99999"/, 2);
    const json = await mayfly(["deploy", "--prdo", "--json"]);
    assert.equal(JSON.parse(json.stdout).error.code, "usage");
    assert.equal(json.code, 2);
  });

  it("an unreachable server: its address, and how to start one", async () => {
    const run = await mayfly(["deploy", site(), "--api", "http://127.0.0.1:1"]);
    assertFailed(
      run,
      "server_unreachable",
      /No Mayfly server answers at http:\/\/127\.0\.0\.1:1 \(ECONNREFUSED\)[^]*npm start[^]*mayfly start/,
    );
  });

  it("no token and a wrong token: what to do", async () => {
    const wrong = await withApi(["deploy", site()], { token: "mayfly_other" });
    assertFailed(wrong, "forbidden", /does not accept the token from MAYFLY_TOKEN\..*--token/);
    const none = await withApi(
      ["ls"],
      { intercept: (_request, response) => refuse(response, 401, "unauthorized", "A token is needed for this.") },
      { env: { MAYFLY_TOKEN: "" } },
    );
    assertFailed(none, "unauthorized", /There is no token for http:\/\/127\.0\.0\.1/);
    const odd = await withApi(["ls", "--token", "a b"], {});
    assertFailed(odd, "forbidden", /has a character that no token has/);
    assert.equal(odd.requests.length, 0);
  });

  it("an empty directory, a file, nothing", async () => {
    assertFailed(await withApi(["deploy", scratchDirectory()], {}), "empty_directory", /nothing to deploy in/);
    assertFailed(await withApi(["deploy", join(site(), "index.html")], {}), "not_a_directory", /is a file/);
    assertFailed(await withApi(["deploy", "nowhere"], {}), "not_a_directory", /nowhere" does not exist/);
  });

  it("an unreadable file", async () => {
    const root = site();
    writeFileSync(join(root, "key.pem"), "x");
    chmodSync(join(root, "key.pem"), 0);
    const run = await withApi(["deploy", root], {}, { uid: 65_534, cwd: root });
    assertFailed(run, "unreadable_file", /Cannot read "key\.pem": EACCES/);
  });

  it("a file that changes while it uploads", async () => {
    const root = site();
    writeFileSync(join(root, "index.html"), "x".repeat(100_000));
    const run = await withApi(["deploy", root], {
      intercept({ path }) {
        if (path === "/v13/deployments") writeFileSync(join(root, "index.html"), "<h1>HELLO</h1>");
        return false;
      },
    });
    assertFailed(run, "file_changed", /"index\.html" changed while it was uploaded/);
    assert.equal(run.files.size, 0);
  });

  it("a digest mismatch", async () => {
    const root = site();
    writeFileSync(join(root, "index.html"), "x".repeat(100_000));
    const run = await withApi(["deploy", root], {
      intercept({ path }, response, incoming) {
        if (path !== "/v2/files") return false;
        incoming.resume();
        return refuse(response, 400, "digest_mismatch", "The bytes do not match.");
      },
    });
    assertFailed(run, "digest_mismatch", /Cannot upload "index\.html"/);
  });

  it("names and variables that cannot be", async () => {
    assertFailed(await mayfly(["deploy", "--name", "!!!"]), "invalid_name", /no letter or digit/);
    assertFailed(await mayfly(["deploy", "/"]), "invalid_name", /choose one with --name/);
    assertFailed(await mayfly(["deploy", "--env", "1A=x"]), "invalid_env", /"1A"/);
    assertFailed(await mayfly(["deploy", "--env", "NOT_SET"]), "invalid_env", /NOT_SET has no value/);
  });
});

describe("terminals and help", () => {
  it("shows help that teaches, for all and for each", async () => {
    const all = await mayfly(["--help"]);
    assert.equal(all.code, 0);
    for (const name of ["start", "deploy", "ls", "inspect", "logs", "usage", "rm", "whoami"]) {
      assert.match(all.stdout, new RegExp(`^  ${name} `, "m"));
      const help = await mayfly([name, "--help"]);
      assert.equal(help.code, 0);
      assert.match(help.stdout, /^Usage: mayfly [^]*Options:[^]*--json[^]*Examples:\n {2}/);
      assert.ok(
        help.stdout.split("\n").every((line) => line.length <= 110),
        "lines are short",
      );
      assert.equal((await mayfly(["help", name])).stdout, help.stdout);
    }
    assert.match((await mayfly(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it("is not stopped by a reader that goes", async () => {
    const child = spawn("sh", ["-c", `"${process.execPath}" "${main}" --help | true; echo done`], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (text) => (output += text));
    child.stderr.on("data", (text) => (output += text));
    await new Promise((resolve) => child.on("close", resolve));
    assert.equal(output, "done\n");
  });
});

describe("mayfly ls, inspect, logs, usage, rm, whoami", () => {
  const deployment = {
    uid: "dpl_1",
    id: "dpl_1",
    url: "site-abc123def.localhost",
    publicUrl: url,
    name: "site",
    readyState: "READY",
    target: "production",
    createdAt: Date.UTC(2026, 10, 22, 3),
    ready: Date.UTC(2026, 10, 22, 3, 1),
    alias: ["site.localhost"],
    creator: { username: "alice" },
    buildSummary: { functions: 1, built: 1, cached: 0, ms: 1200 },
  };
  const output = [
    { type: "file", path: "index.html", digest: "d", mode: 0o100644, size: 1234 },
    {
      type: "lambda",
      path: "api/date",
      digest: "e",
      mode: 0o100644,
      size: 56_000,
      lambda: { functionName: "api/date", deployedTo: ["dev1"], memory: 1769, maxDuration: 10, runtime: "nodejs24.x" },
    },
  ];
  const line = (serial: number, text: string, more: object = {}) => ({
    serial,
    timestampMs: Date.UTC(2026, 10, 22, 3, 56, 1, serial),
    source: "function",
    functionName: "api/date",
    invocationId: "inv1",
    stream: "stdout",
    text,
    ...more,
  });
  const hour = (hours: number, functionName: string, more: object = {}) => ({
    start: Date.UTC(2026, 10, 22, hours),
    projectId: "prj_1",
    projectName: "site",
    deploymentId: null,
    functionName,
    ...{ invocations: 10, errors: 0, coldStarts: 1, wallMs: 1500, cpuMs: 40, gbSeconds: 2.59 },
    ...more,
  });
  const usage = {
    since: Date.UTC(2026, 10, 22, 0),
    until: Date.UTC(2026, 10, 22, 6),
    bucket: "hour",
    usage: [hour(1, "api/date"), hour(3, "api/date", { invocations: 80, errors: 2 }), hour(5, "api/x", { cpuMs: null, gbSeconds: 1234.5 })],
    totals: { invocations: 100, errors: 2, coldStarts: 3, wallMs: 4500, cpuMs: 80, gbSeconds: 1239.68 },
  };
  const routes: RecordingApiOptions["intercept"] = ({ method, path }, response) => {
    if (path === "/v6/deployments") return answer(response, 200, { deployments: [deployment], pagination: {} });
    if (/^\/v13\/deployments\/(dpl_1|site\.localhost)$/.test(path)) return answer(response, 200, deployment);
    if (path === "/v11/deployments/dpl_1/builds") return answer(response, 200, { builds: [{ id: "bld_1", output }] });
    if (method === "DELETE" && path === "/now/deployments/dpl_1") return answer(response, 200, { uid: "dpl_1", state: "DELETED" });
    if (method === "DELETE" && path === "/v9/projects/site") {
      response.writeHead(204).end();
      return true;
    }
    if (path === "/v1/mayfly/usage") return answer(response, 200, usage);
    if (path.endsWith("/logs")) {
      response
        .writeHead(200)
        .end(
          [{ dropped: 7 }, line(1, "hello"), line(2, "\u001b[2Jbad", { stream: "stderr" })]
            .map((entry) => `${JSON.stringify(entry)}\n`)
            .join(""),
        );
      return true;
    }
    return false;
  };
  const run = (...args: string[]) => withApi(args, { intercept: routes });

  it("lists deployments in a table", async () => {
    const listed = await run("ls", "site", "--limit", "5");
    assert.match(
      listed.stdout,
      /^AGE +PROJECT +URL +STATE +TARGET +ID\n.+site +http:\/\/site-abc123def\.localhost:3000 +READY +production +dpl_1\n$/,
    );
    assert.equal(listed.requests[0]!.query.toString(), "limit=5&app=site");
    const json = JSON.parse((await run("ls", "--json")).stdout);
    assert.deepEqual([json[0].id, json[0].url, json[0].readyState], ["dpl_1", url, "READY"]);
  });

  it("inspects facts and outputs, whatever names the deployment", async () => {
    for (const ref of ["dpl_1", "site.localhost", "SITE.localhost:3000", "http://site.localhost:3000/some/path?x=1"]) {
      const { stdout, code } = await run("inspect", ref);
      assert.equal(code, 0);
      assert.match(stdout, /^id +dpl_1$/m);
      assert.match(stdout, /^created +2026-11-22 03:00:00\.000$/m);
      assert.match(stdout, /^build +1\.2 s · 1 function: 1 built, 0 from cache$/m);
      assert.match(
        stdout,
        /^λ api\/date {5}56 kB {2}nodejs24\.x {2}1769 MB\n {2}index\.html {2}1\.2 kB\n\n1 function \(λ\), 1 static file \(1\.2 kB\)\n$/m,
      );
    }
    const json = JSON.parse((await run("inspect", "dpl_1", "--json")).stdout);
    assert.deepEqual([json.readyState, json.aliases, json.outputs.length], ["READY", ["site.localhost"], 2]);
    assertFailed(await run("inspect", "dpl_none"), "not_found", /Not found/);
    assertFailed(await run("inspect", "not a host"), "usage", /is not a deployment/, 2);
  });

  it("prints logs, harmless ones, and what was dropped", async () => {
    const shown = await run(
      "logs",
      "dpl_1",
      "--function",
      "api/date",
      "--request-id",
      "inv1",
      "--since",
      "2026-11-22T03:00Z",
      "--limit",
      "9",
    );
    assert.equal(shown.stdout, "2026-11-22 03:56:01.001  api/date  inv1  hello\n2026-11-22 03:56:01.002  api/date  inv1  bad\n");
    assert.equal(shown.stderr, "7 older lines were dropped.\n");
    assert.equal(
      shown.requests[0]!.query.toString(),
      `source=function&functionName=api%2Fdate&requestId=inv1&since=${Date.UTC(2026, 10, 22, 3)}&limit=9`,
    );
    assert.equal((await run("logs", "dpl_1", "--build")).requests[0]!.query.get("source"), "build");
    const json = (await run("logs", "dpl_1", "--json")).stdout
      .trim()
      .split("\n")
      .map((text) => JSON.parse(text));
    assert.deepEqual([json.length, json[0], json[1].text], [3, { dropped: 7 }, "hello"]);
  });

  it("shows what was used, with a chart and totals", async () => {
    const shown = await run("usage", "site", "--since", "2026-11-22T00:00Z");
    assert.match(shown.stdout, /^FUNCTION +INVOKED +ERRORS +COLD +TIME +CPU +GB-SECONDS +SINCE 2026-11-22T00:00Z$/m);
    assert.match(shown.stdout, /^api\/x +10 +0 +1 +1\.5 s +- +1,235 +·····█$/m);
    assert.match(shown.stdout, /^api\/date +90 +2 +2 +3\.0 s +80 ms +5\.18 +·▁·█··$/m);
    assert.match(shown.stdout, /^total +100 +2 +3 +4\.5 s +80 ms +1,240 +·▁·█·▁$/m);
    const query = shown.requests[0]!.query;
    assert.deepEqual([query.get("app"), query.get("groupBy"), query.get("since")], ["site", "function", String(Date.UTC(2026, 10, 22))]);
    const all = await run("usage", "--since", "1h", "--by", "deployment", "--json");
    assert.deepEqual(JSON.parse(all.stdout).totals, usage.totals);
    assert.deepEqual([all.requests[0]!.query.get("bucket"), all.requests[0]!.query.get("app")], ["minute", null]);
    assert.equal((await run("usage", "http://site.localhost:3000/")).requests[0]!.query.get("deploymentId"), "site.localhost");
    assertFailed(await run("usage", "--by", "hour"), "usage", /--by is "hour"/, 2);
  });

  it("follows logs across a restart, each line once, until Ctrl-C", async () => {
    let streams = 0;
    const intercept: RecordingApiOptions["intercept"] = (request, response, incoming) => {
      if (!request.path.endsWith("/logs")) return routes(request, response, incoming);
      streams++;
      response.writeHead(200).write(`${JSON.stringify(line(1, "one"))}\n`);
      if (streams === 1) setTimeout(() => response.destroy(), 10);
      else response.write(`${JSON.stringify(line(2, "two"))}\n${JSON.stringify({ dropped: 1 })}\n`);
      return true;
    };
    await using api = await openRecordingApi({ intercept });
    const env = { MAYFLY_API: api.url, HOME: "/nonexistent" };
    const child = spawn(process.execPath, [main, "logs", "dpl_1", "-f", "--since", "1h"], { env, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    child.stdout.on("data", (text) => {
      stdout += text;
      if (stdout.includes("two")) child.kill("SIGINT");
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    assert.deepEqual(stdout.match(/one|two/g), ["one", "two"]);
    assert.equal(code, 130);
    assert.equal(api.requests.at(-1)!.query.get("since"), String(line(1, "").timestampMs));
  });

  it("follows the log of a build to the build's end, and no further", async () => {
    let reads = 0;
    const intercept: RecordingApiOptions["intercept"] = (request, response, incoming) => {
      if (!request.path.endsWith("/logs")) return routes(request, response, incoming);
      const lines = [line(1, "one"), line(2, "two"), line(3, "last")];
      response.writeHead(200).write(`${JSON.stringify(lines[0])}\n`);
      // The stream stays open and lags behind what a read gives.
      if (++reads > 1)
        response.end(
          lines
            .slice(1)
            .map((entry) => `${JSON.stringify(entry)}\n`)
            .join(""),
        );
      return true;
    };
    const followed = await withApi(["logs", "dpl_1", "--build", "-f"], { intercept });
    assert.equal(followed.code, 0, followed.stderr);
    assert.deepEqual(followed.stdout.match(/one|two|last/g), ["one", "two", "last"]);
  });

  it("removes deployments and, with --yes, a project", async () => {
    const removed = await run("rm", "dpl_1", "http://site.localhost:3000");
    assert.equal(removed.stdout, "dpl_1\nsite.localhost\n");
    assert.equal(removed.requests.filter(({ method }) => method === "DELETE").length, 2);
    const partly = await run("rm", "dpl_none", "dpl_1");
    assert.equal(partly.stdout, "dpl_1\n");
    assert.equal(partly.code, 1);
    assert.match(partly.stderr, /There is no deployment "dpl_none"/);
    assertFailed(await run("rm", "--project", "site"), "usage", /add --yes/, 2);
    assertFailed(await run("rm"), "usage", /Say what to remove/, 2);
    assert.deepEqual(JSON.parse((await run("rm", "--project", "site", "--yes", "--json")).stdout), { removed: ["site"] });
  });

  it("tells whom the token stands for", async () => {
    assert.equal((await run("whoami")).stdout, "alice\n");
  });
});

describe("credentials", () => {
  it("sends the token that is stored for the server, and only that", async () => {
    await using api = await openRecordingApi({ token: "mayfly_stored" });
    const config = scratchDirectory();
    mkdirSync(join(config, "mayfly"));
    const path = join(config, "mayfly/credentials.json");
    writeFileSync(path, JSON.stringify({ [api.url]: "mayfly_stored", "https://other.example": "mayfly_secret" }));
    const env = { XDG_CONFIG_HOME: config, MAYFLY_API: api.url.replace("127.0.0.1", "localhost") };
    assert.equal((await mayfly(["whoami"], { env })).stdout, "alice\n");
    assert.equal((await mayfly(["whoami", "--token", "x"], { env })).code, 1);
    assert.deepEqual(
      api.requests.map(({ headers }) => headers.authorization),
      ["Bearer mayfly_stored", "Bearer x"],
    );
    writeFileSync(path, "{");
    assertFailed(await mayfly(["whoami"], { env }), "config_invalid", /credentials\.json is not a JSON object/, 2);
    rmSync(path);
  });
});
