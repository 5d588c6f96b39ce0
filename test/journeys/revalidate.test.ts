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
    ".vercel/output/functions/mine.func/.vc-config.json": config,
    // What "use cache" and a fetch keep in this instance, on a page that is nobody else's.
    ".vercel/output/functions/mine.func/index.js": `
      const { DefaultCache, FetchCache } = globalThis[Symbol.for("@next/cache-handlers")];
      const cache = new FetchCache({});
      const entry = () => ({ value: new Response("used").body, tags: ["v"], stale: 1, revalidate: 100, expire: 100, timestamp: Date.now() });
      module.exports = async (request, response) => {
        const used = await DefaultCache.get("key", []);
        const fetched = await cache.get("key", { kind: "FETCH", tags: ["v"] });
        if (used === undefined) await DefaultCache.set("key", Promise.resolve(entry()));
        if (fetched === null) await cache.set("key", { kind: "FETCH", data: { body: "" } }, { tags: ["v"] });
        const text = used === undefined ? "none" : (await new Response(used.value).text()) + " " + used.revalidate;
        response.send([text, fetched === null ? "none" : Date.now() - fetched.lastModified < 1e9, "x-mayfly-purged" in request.headers].join());
      };`,
    ".vercel/output/functions/forget.func/.vc-config.json": config,
    ".vercel/output/functions/forget.func/index.js": `
      const { FetchCache } = globalThis[Symbol.for("@next/cache-handlers")];
      module.exports = async (request, response) => {
        const { tag, expire } = request.query;
        if (tag) await new FetchCache({}).revalidateTag([tag], expire === undefined ? undefined : { expire: Number(expire) });
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

  const mine = async (): Promise<string> => (await mayfly.fetch(`${url}/mine`)).text;
  assert.deepEqual([await mine(), await mine()], ["none,none,false", "used 100,true,false"]);
  await mayfly.fetch(`${url}/forget?tag=other`);
  assert.equal(await mine(), "used 100,true,false", "not meant");
  await mayfly.fetch(`${url}/forget?tag=v&expire=60`);
  assert.equal(await mine(), "used -1,false,false", "given once more, while it is made anew");
  await mayfly.fetch(`${url}/forget?tag=v`);
  assert.deepEqual([await mine(), await mine()], ["none,none,false", "used 100,true,false"], "another instance has revalidated it");
});
