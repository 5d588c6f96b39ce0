/** The seed's example: Next.js with a static page and one Function beside it, built by `@vercel/next` in the sandbox. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { it } from "node:test";
import { startMayfly } from "../mayfly.ts";

it("deploys examples/next-date: page and logo are static, api/date runs on each request", { timeout: 280_000 }, async () => {
  const mayfly = await startMayfly();
  const url = await mayfly.deploy(join(import.meta.dirname, "../../examples/next-date"));

  const page = await mayfly.fetch(url);
  assert.equal(page.status, 200);
  assert.match(String(page.headers["content-type"]), /^text\/html/);
  const logo = await mayfly.fetch(`${url}/static/logo.svg`);
  assert.deepEqual([logo.status, logo.headers["content-type"]], [200, "image/svg+xml"]);
  for (const reply of [page, logo]) {
    assert.equal(reply.headers["x-vercel-cache"], "HIT");
    assert.equal(reply.headers["x-mayfly-start"], undefined, "no Function runs for it");
  }
  const script = /src="(\/_next\/static\/[^"]+\.js)"/.exec(page.text)?.[1];
  assert.ok(script, page.text);
  assert.equal((await mayfly.fetch(url + script)).status, 200);

  const dates = [await mayfly.fetch(`${url}/api/date`), await mayfly.fetch(`${url}/api/date`)];
  for (const date of dates) assert.ok(date.status === 200 && date.headers["x-mayfly-start"] !== undefined);
  assert.notEqual(dates[0]!.text, dates[1]!.text, "each request runs the Function");

  const { stdout } = await mayfly.run("inspect", url);
  assert.match(stdout, /λ.*api\/date/);
  assert.doesNotMatch(stdout, /λ.*(index|logo)/);
  assert.equal((await mayfly.fetch(`${url}/nothing-here`)).status, 404);
});
