/** What a Function revalidates by tag is made anew for whoever asks next: the way of Next.js's revalidateTag, without Next.js. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";

const config = JSON.stringify({ runtime: "nodejs24.x", handler: "index.js", launcherType: "Nodejs", shouldAddHelpers: true });

it("a kept answer is forgotten by its tag before the response that names it arrives", { timeout: 120_000 }, async () => {
  const mayfly = await startMayfly();
  const directory = projectDirectory({
    ".vercel/output/config.json": JSON.stringify({ version: 3 }),
    ".vercel/output/functions/page.func/.vc-config.json": config,
    ".vercel/output/functions/page.func/index.js": `
      const { FetchCache } = globalThis[Symbol.for("@next/cache-handlers")];
      const cache = new FetchCache({});
      module.exports = async (request, response) => {
        // Data that this instance keeps is no part of what is kept for all.
        const kept = await cache.get("data", { kind: "FETCH", tags: ["t"] });
        await cache.set("data", { kind: "FETCH", data: { body: "old" } }, { tags: ["t"] });
        response.setHeader("x-next-cache-tags", "t,u").setHeader("cache-control", "s-maxage=31536000").send(kept === null ? String(process.hrtime.bigint()) : "old");
      };`,
    ".vercel/output/functions/page.prerender-config.json": JSON.stringify({ expiration: false, allowQuery: [], bypassToken: "token" }),
    ".vercel/output/functions/forget.func/.vc-config.json": config,
    ".vercel/output/functions/forget.func/index.js": `
      const { FetchCache } = globalThis[Symbol.for("@next/cache-handlers")];
      module.exports = async (request, response) => {
        if (request.query.tag) await new FetchCache({}).revalidateTag([request.query.tag]);
        // As res.revalidate() of the pages router does it.
        const init = { method: "HEAD", headers: { "x-prerender-revalidate": "token" } };
        if (request.query.path) {
          const made = await fetch("https://" + request.headers.host + request.query.path, init);
          if (made.headers.get("x-vercel-cache") !== "REVALIDATED") throw new Error("not revalidated");
        }
        response.send("forgotten");
      };`,
  });
  const url = await mayfly.deploy(directory, "--prebuilt", "--name", "revalidate");
  const page = async (): Promise<string> => (await mayfly.fetch(`${url}/page`)).text;
  const first = await page();
  assert.match(first, /^\d+$/);
  assert.equal(await page(), first, "kept");
  const other = await mayfly.fetch(`${url}/forget?tag=other`);
  assert.deepEqual([other.text, other.headers["x-mayfly-purge"]], ["forgotten", undefined]);
  assert.equal(await page(), first, "not meant");
  await mayfly.fetch(`${url}/forget?tag=u`);
  const second = await page();
  assert.match(second, /^\d+$/, "made anew, and from nothing old");
  assert.notEqual(second, first);
  assert.equal((await mayfly.fetch(`${url}/forget?path=/pages`)).text, "forgotten");
  assert.equal(await page(), second, "not meant");
  assert.equal((await mayfly.fetch(`${url}/forget?path=/page`)).text, "forgotten");
  assert.notEqual(await page(), second, "by its path");
});
