/** `mayfly dev` as a person uses it: a process, a directory that is edited, a browser's requests, Ctrl-C. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { request as connect } from "node:http";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { atEnd } from "../at-end.ts";
import { projectDirectory } from "../mayfly.ts";
import { scratchDirectory } from "../scratch.ts";
import { cleanEnv, eventually, writeFiles } from "../server.ts";

const program = join(import.meta.dirname, "../../bin/mayfly");

interface Dev {
  readonly url: string;
  readonly child: ChildProcess;
  /** Lines of stdout: JSON objects. */
  readonly events: Record<string, unknown>[];
  readonly temporary: string;
}

async function startDev(directory: string): Promise<Dev> {
  const temporary = scratchDirectory();
  const env = { ...cleanEnv(scratchDirectory()), TMPDIR: temporary };
  const child = spawn(program, ["dev", directory, "--port", "0", "--json"], { env, stdio: ["ignore", "pipe", "pipe"] });
  atEnd(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  });
  const events: Record<string, unknown>[] = [];
  let rest = "";
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk));
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) events.push(JSON.parse(line) as Record<string, unknown>);
  });
  const url = await eventually("mayfly dev says its URL", () => {
    assert.equal(child.exitCode, null, errors);
    return (events.find((event) => typeof event["url"] === "string")?.["url"] as string | undefined) ?? null;
  });
  return { url: url.replace("localhost", "127.0.0.1"), child, events, temporary };
}

const get = async (url: string, headers: Record<string, string> = {}) => {
  const response = await fetch(url, { headers });
  return { status: response.status, text: await response.text() };
};

describe("a directory under development", () => {
  let dev: Dev;
  const directory = projectDirectory({
    "index.html": "one",
    "api/hello.js": 'module.exports = (req, res) => res.end("hello " + require("../lib/name.js") + " " + process.env.GREETING);',
    "api/other.ts": 'export function GET(): Response { return new Response("other"); }',
    "lib/name.js": 'module.exports = "you";',
    "vercel.json": '{"rewrites":[{"source":"/say","destination":"/api/hello"}]}',
    ".env.local": "GREETING=there\n",
  });
  before(async () => {
    dev = await startDev(directory);
  });

  it("serves files, Functions and routes as a deployment would", async () => {
    assert.deepEqual(await get(dev.url), { status: 200, text: "one" });
    assert.deepEqual(await get(`${dev.url}/api/hello`), { status: 200, text: "hello you there" });
    assert.deepEqual(await get(`${dev.url}/api/other`), { status: 200, text: "other" });
    assert.deepEqual(await get(`${dev.url}/say`), { status: 200, text: "hello you there" });
    assert.equal((await get(`${dev.url}/none`)).status, 404);
  });

  it("sees what is edited: a file, a Function, what it imports, a new one, variables, routes", async () => {
    const becomes = async (path: string, text: string) =>
      eventually(`${path} answers ${text}`, async () => ((await get(dev.url + path)).text === text ? true : null));
    writeFiles(directory, { "index.html": "two" });
    await becomes("/", "two");
    writeFiles(directory, { "lib/name.js": 'module.exports = "everybody";' });
    await becomes("/api/hello", "hello everybody there");
    writeFiles(directory, { "api/new/deep.js": 'module.exports = (req, res) => res.end("deep");' });
    await becomes("/api/new/deep", "deep");
    writeFiles(directory, { "api/new/deep.js": 'module.exports = (req, res) => res.end("deeper");' });
    await becomes("/api/new/deep", "deeper");
    writeFiles(directory, { ".env.local": "GREETING=here\n" });
    await becomes("/api/hello", "hello everybody here");
    writeFiles(directory, { "vercel.json": '{"rewrites":[{"source":"/tell","destination":"/api/other"}]}' });
    await becomes("/tell", "other");
    rmSync(join(directory, "api/other.ts"));
    await eventually("a Function that is gone answers 404", async () => ((await get(`${dev.url}/api/other`)).status === 404 ? true : null));
  });

  it("shows what is wrong as a page and an event until it is mended", async () => {
    writeFiles(directory, { "vercel.json": '{"rewrites":' });
    const page = await eventually("the page says what is wrong", async () => {
      const { text } = await get(dev.url, { accept: "text/html" });
      return text.includes("INVALID_VERCEL_JSON") ? text : null;
    });
    assert.match(page, /vercel\.json/);
    assert.ok(dev.events.some(({ type, code }) => type === "failed" && code === "INVALID_VERCEL_JSON"));
    // What changed while it was wrong is not forgotten, and only that is built again.
    writeFiles(directory, { "api/new/deep.js": 'module.exports = (req, res) => res.end("deepest");' });
    writeFiles(directory, { "vercel.json": "{}" });
    await eventually("what changed meanwhile is there", async () =>
      (await get(`${dev.url}/api/new/deep`)).text === "deepest" ? true : null,
    );
    const mended = dev.events.findLast(({ type }) => type === "built")!;
    assert.deepEqual([mended["functions"], mended["built"]], [2, 1]);
    await eventually("it is mended", async () => ((await get(dev.url)).text === "two" ? true : null));
  });

  it("prints what Functions write", async () => {
    writeFiles(directory, { "api/new/deep.js": 'module.exports = (req, res) => { console.log("a line"); res.end("logged"); };' });
    await eventually("it runs", async () => ((await get(`${dev.url}/api/new/deep`)).text === "logged" ? true : null));
    await eventually("its line is there", () => (dev.events.some(({ type, text }) => type === "line" && text === "a line") ? true : null));
  });

  it("ends at Ctrl-C and leaves nothing behind, in the project neither", async () => {
    const ended = once(dev.child, "exit");
    dev.child.kill("SIGINT");
    assert.deepEqual(await ended, [0, null]);
    assert.deepEqual(
      readdirSync(dev.temporary).filter((name) => name.startsWith("mayfly")),
      [],
    );
    assert.equal(existsSync(join(directory, ".vercel")), false);
  });
});

it("runs a project's own development server behind the same address, WebSockets too, with Functions beside it", async () => {
  const directory = projectDirectory({
    "vercel.json": '{"devCommand":"node tool.mjs $PORT"}',
    "api/hello.js": 'module.exports = (req, res) => res.end("from a Function");',
    "index.html": "never served",
    "tool.mjs": `
      import { createServer } from "node:http";
      import { writeFileSync } from "node:fs";
      const server = createServer((req, res) => res.end("from the dev server " + req.method + " " + req.url));
      server.on("upgrade", (req, socket) => socket.end("HTTP/1.1 101 Switching Protocols\\r\\nconnection: upgrade\\r\\nupgrade: echo\\r\\n\\r\\nhello"));
      server.listen(Number(process.argv[2]), "127.0.0.1");
      writeFileSync("server.pid", String(process.pid));
    `,
  });
  const dev = await startDev(directory);
  assert.deepEqual(await get(`${dev.url}/a?b=c`), { status: 200, text: "from the dev server GET /a?b=c" });
  assert.deepEqual(await get(`${dev.url}/api/hello`), { status: 200, text: "from a Function" });
  const upgraded = await new Promise<string>((resolve, reject) => {
    const asking = connect(dev.url, { headers: { connection: "upgrade", upgrade: "echo" } });
    asking.once("upgrade", (_response, socket, head) => {
      let text = head.toString();
      socket.on("data", (chunk: Buffer) => (text += chunk));
      socket.on("end", () => resolve(text));
    });
    asking.once("error", reject);
    asking.end();
  });
  assert.equal(upgraded, "hello");
  const ended = once(dev.child, "exit");
  dev.child.kill("SIGINT");
  assert.deepEqual(await ended, [0, null]);
});
