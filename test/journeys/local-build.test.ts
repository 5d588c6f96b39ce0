/** `mayfly build`, then `mayfly deploy --prebuilt`: the same site as one that the server has built. */
import assert from "node:assert/strict";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { cleanEnv, runMayfly, writeFiles, type Mayfly } from "../server.ts";
import { scratchDirectory } from "../scratch.ts";

describe("a build on one's own machine", () => {
  let mayfly: Mayfly;
  const env = cleanEnv(scratchDirectory());
  const directory = projectDirectory({
    "index.html": "home",
    "about.html": "about",
    "api/typed.ts": 'export function GET(request: Request): Response { return new Response("typed " + new URL(request.url).pathname); }',
    "api/[id].js": 'const { word } = require("../lib/word.js"); module.exports = (req, res) => res.json({ ...req.query, word });',
    "lib/word.js": 'exports.word = "traced";',
    "vercel.json": '{"cleanUrls":true,"redirects":[{"source":"/old","destination":"/about"}]}',
  });
  const output = join(directory, ".vercel/output");
  before(async () => {
    mayfly = await startMayfly();
  });

  it("writes the Build Output API, complete in itself, and answers as the server's own build does", async () => {
    const built = await runMayfly(env, "build", directory, "--json");
    assert.equal(built.code, 0, built.stderr);
    const { functions, files } = JSON.parse(built.stdout) as Record<string, unknown>;
    assert.deepEqual([functions, files], [2, 3]);
    assert.equal(existsSync(join(output, "functions/api/[id].func/lib/word.js")), true);
    const here = await mayfly.deploy(directory, "--name", "here", "--prebuilt");
    const there = await mayfly.deploy(directory, "--name", "there");
    for (const path of ["/", "/about", "/about.html", "/old", "/api/typed", "/api/7?a=b", "/api/typed.ts", "/lib/word.js", "/none"]) {
      const [one, other] = await Promise.all([mayfly.fetch(here + path), mayfly.fetch(there + path)]);
      assert.equal(one.status, other.status, path);
      assert.equal(one.headers["location"], other.headers["location"], path);
      if (one.status === 200) assert.equal(one.text, other.text, path);
    }
  });

  it("refuses an output that was built for another target", async () => {
    const { code, stderr } = await mayfly.run("deploy", directory, "--prod", "--prebuilt");
    assert.equal(code, 1);
    assert.match(stderr, /was built for preview, not production.*\(conflict\)/);
  });

  it("leaves the earlier output as it is when a build fails", async () => {
    const before = readFileSync(join(output, "config.json"), "utf8");
    const { mtimeMs } = lstatSync(join(output, "config.json"));
    writeFiles(directory, { "vercel.json": '{"redirects":3}' });
    const { code, stdout, stderr } = await runMayfly(env, "build", directory);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /\(INVALID_VERCEL_JSON\)/);
    assert.equal(readFileSync(join(output, "config.json"), "utf8"), before);
    assert.equal(lstatSync(join(output, "config.json")).mtimeMs, mtimeMs);
    assert.deepEqual(readdirSync(join(directory, ".vercel")), ["output"]);
  });
});
