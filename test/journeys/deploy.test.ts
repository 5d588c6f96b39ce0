/** The main job: a directory becomes a site with Functions. By the command line, against a real server. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually, writeFiles, type Mayfly } from "../server.ts";

const hello = join(import.meta.dirname, "../../examples/hello");

describe("a directory becomes a site", () => {
  let mayfly: Mayfly;
  before(async () => {
    mayfly = await startMayfly({ hello: true });
  });

  it("deploys the example on a first start and says where it is", async () => {
    const url = await eventually(
      "the example's URL is printed",
      () => /http:\/\/hello-[0-9a-z]{9}\.localhost:\d+/.exec(mayfly.output)?.[0] ?? null,
    );
    assert.equal((await mayfly.fetch(url)).status, 200);
  });

  it("prints the URL and nothing else on standard output, and the site answers there", async () => {
    const { code, stdout, stderr } = await mayfly.run("deploy", hello, "--name", "site");
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^http:\/\/site-[0-9a-z]{9}\.localhost:\d+\n$/);
    assert.match(stderr, /Ready in .* · 1 function: 1 built, 0 from cache/);
    const url = stdout.trim();

    const page = await mayfly.fetch(url);
    assert.equal(page.status, 200);
    assert.match(String(page.headers["content-type"]), /^text\/html/);
    assert.equal(page.headers["x-vercel-cache"], "HIT");
    const again = await mayfly.fetch(url, { headers: { "if-none-match": String(page.headers["etag"]) } });
    assert.equal(again.status, 304);
    assert.equal(again.text, "");
    const head = await mayfly.fetch(url, { method: "HEAD" });
    assert.equal(head.headers["content-length"], String(page.body.length));

    const date = await mayfly.fetch(`${url}/api/date`);
    assert.equal(date.status, 200);
    assert.match(String(date.headers["x-mayfly-start"]), /^(cold|warm|hot)$/);
    const later = await mayfly.fetch(`${url}/api/date`);
    assert.notEqual(later.headers["x-mayfly-start"], "cold");

    const production = await mayfly.fetch(`http://site.localhost:${mayfly.port}/`);
    assert.equal(production.text, page.text, "the first deployment is production");
  });

  it("sends only what the server lacks", async () => {
    const directory = projectDirectory({ "index.html": "one", "big.bin": Buffer.alloc(100_000, 7), "c.txt": "c" });
    await mayfly.deploy(directory, "--name", "again");
    writeFiles(directory, { "c.txt": "changed" });
    const { code, stderr } = await mayfly.run("deploy", directory, "--name", "again");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /1 of 3 files/);
  });

  it("keeps deployments immutable, moves production with --prod only", async () => {
    const directory = projectDirectory({ "index.html": "v1" });
    const first = await mayfly.deploy(directory, "--name", "moving");
    writeFiles(directory, { "index.html": "v2" });
    const preview = await mayfly.deploy(directory, "--name", "moving");
    const production = `http://moving.localhost:${mayfly.port}/`;
    assert.deepEqual(
      [(await mayfly.fetch(first)).text, (await mayfly.fetch(preview)).text, (await mayfly.fetch(production)).text],
      ["v1", "v2", "v1"],
    );
    await mayfly.deploy(directory, "--name", "moving", "--prod");
    assert.equal((await mayfly.fetch(production)).text, "v2");
    assert.equal((await mayfly.fetch(first)).text, "v1");
  });

  it("leaves out what .vercelignore, .gitignore and the defaults name", async () => {
    const url = await mayfly.deploy(
      projectDirectory({
        "a.txt": "a",
        "secret.txt": "s",
        ".env.local": "X=1",
        ".vercelignore": "secret.txt\n",
        "node_modules/x/index.js": "x",
      }),
      "--name",
      "ignoring",
    );
    assert.equal((await mayfly.fetch(`${url}/a.txt`)).status, 200);
    for (const path of ["secret.txt", ".env.local", "node_modules/x/index.js"]) {
      assert.equal((await mayfly.fetch(`${url}/${path}`)).status, 404, path);
    }
  });

  it("gives a Function its environment, which no listing or log shows", async () => {
    const directory = projectDirectory({
      "api/env.js":
        "module.exports = (req, res) => { console.log('used'); res.json({ value: process.env.MY_SECRET, vercel: process.env.VERCEL_ENV }); }",
    });
    const url = await mayfly.deploy(directory, "--name", "env", "--env", "MY_SECRET=correct horse battery");
    assert.deepEqual(JSON.parse((await mayfly.fetch(`${url}/api/env`)).text), { value: "correct horse battery", vercel: "production" });
    const seen = (await mayfly.run("inspect", url, "--json")).stdout + (await mayfly.run("logs", url, "--json")).stdout;
    assert.ok(!seen.includes("correct horse"), seen);
  });

  it("takes environment and regions from the configuration, unless the deployment brings its own", async () => {
    const config = `export default { env: { A: "file", B: "file" }, build: { env: { WORD: "built" } }, regions: ["dev1"] };`;
    const directory = projectDirectory({
      "vercel.mjs": config,
      "api/a.js": "module.exports = (req, res) => res.end([process.env.A, process.env.B, require('../word.json')].join());",
      "package.json": JSON.stringify({ scripts: { build: `mkdir -p public && echo '"'$WORD'"' > word.json` } }),
    });
    const url = await mayfly.deploy(directory, "--name", "configured", "--env", "B=call");
    assert.equal((await mayfly.fetch(`${url}/api/a`)).text, "file,call,built");
    assert.equal((await mayfly.fetch(`${url}/vercel.mjs`)).status, 404);
  });

  it("deploys what a build writes to .vercel/output, and what --prebuilt brings", async () => {
    const config = JSON.stringify({
      version: 3,
      routes: [{ src: "/old", status: 308, headers: { location: "/new.txt" } }, { handle: "filesystem" }],
    });
    const build = `const fs = require("fs"); fs.mkdirSync(".vercel/output/static", { recursive: true });
      fs.writeFileSync(".vercel/output/config.json", ${JSON.stringify(config)}); fs.writeFileSync(".vercel/output/static/new.txt", "built");`;
    const built = projectDirectory({ "package.json": JSON.stringify({ scripts: { build: "node build.cjs" } }), "build.cjs": build });
    const url = await mayfly.deploy(built, "--name", "output");
    assert.equal((await mayfly.fetch(`${url}/new.txt`)).text, "built");
    assert.equal((await mayfly.fetch(`${url}/old`)).headers["location"], "/new.txt");

    const prebuilt = projectDirectory({
      ".vercel/output/config.json": config,
      ".vercel/output/static/new.txt": "prebuilt",
      ".vercel/output/functions/fn.func/.vc-config.json": JSON.stringify({
        runtime: "nodejs24.x",
        handler: "i.js",
        launcherType: "Nodejs",
        shouldAddHelpers: true,
      }),
      ".vercel/output/functions/fn.func/i.js": "module.exports = (req, res) => res.send('fn ' + req.query.a)",
    });
    const second = await mayfly.deploy(prebuilt, "--name", "prebuilt", "--prebuilt");
    assert.equal((await mayfly.fetch(`${second}/new.txt`)).text, "prebuilt");
    assert.equal((await mayfly.fetch(`${second}/fn?a=1`)).text, "fn 1");
  });

  it("lists, inspects with Functions marked λ, and removes", async () => {
    const url = await mayfly.deploy(hello, "--name", "listed");
    assert.match((await mayfly.run("ls", "listed")).stdout, /listed-/);
    const inspected = await mayfly.run("inspect", url);
    assert.match(inspected.stdout, /λ.*api\/date/);
    assert.match(inspected.stdout, /index\.html/);
    const removed = await mayfly.run("rm", url, "--yes");
    assert.equal(removed.code, 0, removed.stderr);
    assert.equal((await mayfly.fetch(url)).status, 404);
    assert.equal((await mayfly.fetch(`http://listed.localhost:${mayfly.port}/`)).status, 404);
  });

  it("answers 404 for unknown host, deployment and path in HTML, JSON and text, each with code and id", async () => {
    const url = await mayfly.deploy(projectDirectory({ "a.txt": "a" }), "--name", "lost");
    for (const [address, code] of [
      [`${url}/nothing`, "NOT_FOUND"],
      [`http://lost-000000000.localhost:${mayfly.port}/`, "DEPLOYMENT_NOT_FOUND"],
      [`http://example.test:${mayfly.port}/`, "DEPLOYMENT_NOT_FOUND"],
    ] as const) {
      for (const [accept, type] of [
        ["text/html", "text/html"],
        ["application/json", "application/json"],
        ["*/*", "text/plain"],
      ] as const) {
        const reply = await mayfly.fetch(address, { headers: { accept } });
        assert.equal(reply.status, 404);
        assert.equal(reply.headers["x-vercel-error"], code);
        assert.ok(String(reply.headers["content-type"]).startsWith(type), `${accept}: ${reply.headers["content-type"]}`);
        assert.ok(reply.text.includes(code));
        assert.ok(reply.text.includes(String(reply.headers["x-vercel-id"]).split("::").at(-1)!), "the id is shown");
      }
    }
  });
});

describe("many and big files", () => {
  it("deploys 10,000 files and one of 1 GB in bounded memory", { timeout: 240_000 }, async () => {
    const mayfly = await startMayfly();
    const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`d${i % 100}/f${i}.txt`, `file ${i}`]));
    const directory = projectDirectory(many);
    const big = join(directory, "big.bin");
    const { open } = await import("node:fs/promises");
    const file = await open(big, "w");
    const block = Buffer.alloc(1 << 20);
    for (let i = 0; i < 1024; i++) {
      block.writeUInt32LE(i, 0);
      await file.write(block);
    }
    await file.close();
    const url = await mayfly.deploy(directory, "--name", "many");
    rmSync(big);
    assert.equal((await mayfly.fetch(`${url}/d42/f4242.txt`)).text, "file 4242");
    const head = await mayfly.fetch(`${url}/big.bin`, { method: "HEAD" });
    assert.equal(head.headers["content-length"], String(1 << 30));
    const { peakMemoryMB } = await import("../memory.ts");
    for (const [pid, megabytes] of peakMemoryMB(mayfly.pid)) {
      assert.ok(megabytes < 600, `process ${pid} had ${megabytes} MB`);
    }
  });
});
