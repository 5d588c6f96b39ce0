/** What people see of a deployment beside its site: its source and build log, for those of its team; answers kept by the edge. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { eventually, type Mayfly } from "../server.ts";

const files = {
  "index.html": "<h1>site</h1>",
  "notes/<b>odd & name.txt": "<script>alert(1)</script>",
  "api/kept.js": `let count = 0;
    module.exports = async (req, res) => {
      await new Promise((done) => setTimeout(done, 100));
      res.setHeader("cache-control", "s-maxage=600"); res.setHeader("vercel-cache-tag", "kept"); res.send(String(++count)); };`,
};

describe("pages and the edge cache", () => {
  let mayfly: Mayfly;
  let url: URL;

  before(async () => {
    mayfly = await startMayfly();
    url = new URL(await mayfly.deploy(projectDirectory(files), "--name", "pages"));
  });

  it("what a token has opened is closed with the token", async () => {
    const call = (method: string, path: string, body?: object) =>
      mayfly.fetch(`${mayfly.api}${path}`, {
        method,
        headers: { authorization: `Bearer ${tokenOf(mayfly)}`, host: "127.0.0.1" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    const made = JSON.parse((await call("POST", "/v3/user/tokens", { name: "short" })).text) as {
      bearerToken: string;
      token: { id: string };
    };
    const form = `http://localhost/_mayfly/sign-in?to=${encodeURIComponent(`${url.host}/_src`)}`;
    const enter = async (): Promise<string> => {
      const entered = await mayfly.fetch(form, { method: "POST", body: `token=${made.bearerToken}` });
      return String(entered.headers["location"]);
    };
    const taken = await mayfly.fetch(await enter());
    const cookie = String([taken.headers["set-cookie"]].flat()[0]).split(";", 1)[0]!;
    const unused = await enter();
    assert.equal((await mayfly.fetch(`${url.origin}/_src`, { headers: { cookie } })).status, 200);
    assert.equal((await call("DELETE", `/v3/user/tokens/${made.token.id}`)).status, 200);
    const away = await mayfly.fetch(`${url.origin}/_src`, { headers: { cookie } });
    assert.deepEqual([away.status, /\/_mayfly\/sign-in/.test(String(away.headers["location"]))], [303, true]);
    assert.match(String((await mayfly.fetch(unused)).headers["location"]), /\/_mayfly\/sign-in/);
  });

  it("source and build log: only with a token of the team, which the deployment's host never sees", async () => {
    const token = tokenOf(mayfly);
    for (const view of ["_src", "_logs"]) {
      const away = await mayfly.fetch(`${url.origin}/${view}`, { headers: { cookie: "_mayfly_view=forged" } });
      assert.equal(away.status, 303);
      const form = String(away.headers["location"]);
      assert.match(form, /^http:\/\/localhost:\d+\/_mayfly\/sign-in\?to=/);
      assert.match((await mayfly.fetch(form)).text, /<form method="post">/);
      assert.equal((await mayfly.fetch(form, { method: "POST", body: "token=wrong" })).status, 403);
      assert.equal((await mayfly.fetch(form, { method: "POST", body: `token=${"x".repeat(10_000)}` })).status, 403);
      const entered = await mayfly.fetch(form, { method: "POST", body: `token=${token}` });
      assert.equal(entered.status, 303);
      const back = String(entered.headers["location"]);
      assert(back.startsWith(`${url.origin}/${view}?ticket=v1.`) && !back.includes(token));
      const taken = await mayfly.fetch(back);
      const cookies = [taken.headers["set-cookie"]].flat().map(String);
      assert.deepEqual([taken.status, taken.headers["location"], cookies.length], [303, `/${view}`, 2]);
      for (const cookie of cookies)
        assert.match(cookie, /^_mayfly_view=v1\.[^;]+; Path=\/_(src|logs); Max-Age=28800; HttpOnly; SameSite=Lax$/);
      const cookie = cookies[0]!.split(";", 1)[0]!;
      const page = await mayfly.fetch(`${url.origin}/${view}`, { headers: { cookie } });
      assert.equal(page.status, 200);
      assert.equal(page.headers["cache-control"], "private, no-store");
      assert.match(String(page.headers["content-security-policy"]), /^default-src 'none'; style-src 'sha256-/);
      if (view === "_logs") continue;
      assert.match(page.text, /notes\/&lt;b&gt;odd &amp; name\.txt/);
      const file = await mayfly.fetch(`${url.origin}/_src?f=${encodeURIComponent("notes/<b>odd & name.txt")}`, { headers: { cookie } });
      assert.match(file.text, /<pre[^>]*>&lt;script&gt;alert\(1\)&lt;\/script&gt;<\/pre>/);
      assert.equal((await mayfly.fetch(`${url.origin}/_src?f=../../etc/passwd`, { headers: { cookie } })).status, 404);
      // A ticket is no pass for longer, and opens no other deployment.
      const ticket = new URL(back).searchParams.get("ticket")!;
      assert.equal((await mayfly.fetch(`${url.origin}/_src`, { headers: { cookie: `_mayfly_view=${ticket}` } })).status, 303);
      const other = new URL(await mayfly.deploy(projectDirectory({ "index.html": "other" }), "--name", "other"));
      assert.equal((await mayfly.fetch(`${other.origin}/_src`, { headers: { cookie } })).status, 303);
    }
    for (const target of ["evil.example/_src", `${url.host}/x`, "localhost/_src", ""]) {
      assert.equal((await mayfly.fetch(`http://localhost/_mayfly/sign-in?to=${encodeURIComponent(target)}`)).status, 404, target);
    }
    // Whoever tries one token after the other has to wait, even with a right one; the form can still be seen.
    const form = `http://localhost/_mayfly/sign-in?to=${encodeURIComponent(`${url.host}/_src`)}`;
    const tries = await Promise.all(Array.from({ length: 12 }, () => mayfly.fetch(form, { method: "POST", body: "token=wrong" })));
    assert.deepEqual([...new Set(tries.map(({ status }) => status))].sort(), [403, 429]);
    const late = await mayfly.fetch(form, { method: "POST", body: `token=${token}` });
    assert.equal(late.status, 429);
    assert.match(String(late.headers["retry-after"]), /^[1-9]\d?$/);
    assert.equal((await mayfly.fetch(form)).status, 200);
  });

  it("a Function's answer is kept: one invocation for many requests, until it is purged", async () => {
    const ask = () => mayfly.fetch(`${url.origin}/api/kept`);
    const replies = await Promise.all(Array.from({ length: 100 }, ask));
    assert(replies.every(({ status }) => status === 200));
    const hit = await eventually("the answer is kept", async () => {
      const reply = await ask();
      return reply.headers["x-vercel-cache"] === "HIT" ? reply : null;
    });
    assert.equal(hit.text, "1");
    const purge = (body: object) =>
      mayfly.fetch(`${mayfly.api}/v1/projects/pages/edge-cache/purge`, {
        method: "POST",
        headers: { authorization: `Bearer ${tokenOf(mayfly)}`, "content-type": "application/json", host: "127.0.0.1" },
        body: JSON.stringify(body),
      });
    // Every request after the API's answer: no pause in between.
    for (const [body, expected] of [
      [{ tags: ["other"] }, "1"],
      [{ tags: ["kept"] }, "2"],
      [{ deployment: url.hostname }, "3"],
      [{}, "4"],
    ] as const) {
      assert.equal((await purge(body)).status, 200);
      assert.equal((await ask()).text, expected, JSON.stringify(body));
    }
    assert.equal((await purge({ deployment: "other.localhost" })).status, 404);
  });
});

/** The one that this machine's user got at the first start. */
function tokenOf({ home }: Mayfly): string {
  return Object.values(JSON.parse(readFileSync(join(home, "config/mayfly/credentials.json"), "utf8")) as Record<string, string>)[0]!;
}
