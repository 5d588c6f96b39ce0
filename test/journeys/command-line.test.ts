/** What people do with our own command line after the first deploy, against a real server. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { atEnd } from "../at-end.ts";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { scratchDirectory } from "../scratch.ts";
import { openMayfly, writeFiles, type Mayfly } from "../server.ts";

describe("a project's life by the command line", () => {
  let mayfly: Mayfly;
  const directory = projectDirectory({
    "index.html": "one",
    "api/hello.js": 'module.exports = (req, res) => res.end("hello " + (process.env.GREETING || "nobody"));',
  });
  const urls: string[] = [];
  const production = () => mayfly.fetch(`http://shop.localhost:${mayfly.port}/`);

  /** Runs in the project's directory; it must end well. */
  async function run(...parameters: string[]): Promise<string> {
    const { code, stdout, stderr } = await mayfly.run(...parameters);
    assert.equal(code, 0, `mayfly ${parameters.join(" ")}:\n${stderr}`);
    return stdout.trim();
  }

  before(async () => {
    mayfly = await startMayfly();
  });

  it("links a directory, and deploys to that project whatever the directory is called", async () => {
    await run("link", directory, "--project", "shop");
    assert.match(readFileSync(join(directory, ".vercel/project.json"), "utf8"), /"projectName":"shop"/);
    for (const text of ["one", "two"]) {
      writeFiles(directory, { "index.html": text });
      urls.push(await run("deploy", directory, "--prod"));
    }
    assert.match(urls[1]!, /^http:\/\/shop-/);
    assert.equal((await production()).text, "two");
  });

  it("deploys by name where the link is another server's, and says so", async () => {
    const foreign = projectDirectory({
      "index.html": "foreign",
      ".vercel/project.json": '{"projectId":"prj_theirs","orgId":"team_theirs","projectName":"foreign-shop"}',
    });
    const { code, stdout, stderr } = await mayfly.run("deploy", foreign);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^http:\/\/foreign-shop-/);
    assert.match(stderr, /belongs to another server/);
    const link = await mayfly.run("link", foreign);
    assert.equal(link.code, 1);
    assert.match(link.stderr, /linked to foreign-shop already; replace that with --yes/);
  });

  it("rolls back and promotes", async () => {
    await run("rollback", "--project", "shop");
    assert.equal((await production()).text, "one");
    await run("promote", urls[1]!);
    assert.equal((await production()).text, "two");
    const { code, stderr } = await mayfly.run("promote", "dpl_none");
    assert.deepEqual([code, /\(not_found\)/.test(stderr)], [1, true]);
  });

  it("points a host at a deployment and takes it away, both by one word", async () => {
    assert.match(await run("alias", "set", urls[0]!, "shop-beta"), /^shop-beta\.localhost → dpl_/);
    assert.equal((await mayfly.fetch("http://shop-beta.localhost/")).text, "one");
    assert.match(await run("alias"), /shop-beta\.localhost/);
    const unsure = await mayfly.run("alias", "rm", "shop-beta");
    assert.deepEqual([unsure.code, /add --yes/.test(unsure.stderr)], [2, true]);
    await run("alias", "rm", "shop-beta", "--yes");
    assert.equal((await mayfly.fetch("http://shop-beta.localhost/")).status, 404);
  });

  it("sets variables that the next build sees, and never shows a sensitive one", async () => {
    await run("env", "add", "GREETING=everybody", "--project", "shop");
    await run("env", "add", "LOCAL=mine", "--readable", "--target", "development", "--project", "shop");
    const again = await mayfly.run("env", "add", "GREETING=x", "--project", "shop");
    assert.deepEqual([again.code, again.stdout], [1, ""]);
    const listed = await run("env", "ls", "--project", "shop");
    assert.match(listed, /GREETING +production, preview +sensitive/);
    assert.doesNotMatch(listed, /everybody/);
    const url = await run("redeploy", urls[1]!);
    assert.equal((await mayfly.fetch(`${url}/api/hello`)).text, "hello everybody");
    const pulled = JSON.parse(await run("env", "pull", "--project", "shop", "--json")) as Record<string, string>;
    assert.equal(pulled["LOCAL"], "mine");
    await run("env", "rm", "GREETING", "--project", "shop", "--yes");
    assert.doesNotMatch(await run("env", "ls", "--project", "shop"), /GREETING/);
  });

  it("tells what was built and what was re-used", async () => {
    const facts = JSON.parse(await run("inspect", urls[1]!, "--json")) as { entrypoints: { entrypoint: string; reused: boolean }[] };
    assert.deepEqual(
      facts.entrypoints.map(({ entrypoint }) => entrypoint),
      ["api/hello.js"],
    );
    assert.match(await run("inspect", urls[1]!), /api\/hello\.js +node +(?:built|cached)/);
  });

  it("lets others in with tokens of a scope, until they are revoked", async () => {
    const token = await run("tokens", "add", "looker", "--read-only", "--expires", "1h");
    assert.match(token, /^\w+$/);
    await run("ls", "--token", token);
    const refused = await mayfly.run("deploy", directory, "--token", token);
    assert.deepEqual([refused.code, /\(forbidden\)/.test(refused.stderr)], [1, true]);
    await run("tokens", "rm", "looker");
    assert.equal((await mayfly.run("ls", "--token", token)).code, 1);
  });

  it("backs up while it runs, and what is restored serves the same", async () => {
    const report = JSON.parse(await run("gc", "--dry-run", "--json")) as { deployments: string[] };
    assert.deepEqual(report.deployments, []);
    const backup = await run("backup");
    assert.ok(existsSync(join(backup, "mayfly.db")));
    const home = scratchDirectory();
    await run("restore", backup, join(home, "data"));
    const again = await mayfly.run("restore", backup, join(home, "data"));
    assert.deepEqual([again.code, /is not empty/.test(again.stderr)], [1, true]);
    const other = await openMayfly({ home });
    atEnd(() => other.stop());
    assert.equal((await other.fetch(urls[0]!)).text, "one");
  });
});
