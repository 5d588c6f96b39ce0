/** Prerenders through the front door: fallback, expiry, on-demand, draft mode, parameters, groups. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../errors.ts";
import type { Manifest, Output, Prerender } from "../model.ts";
import { pageTag } from "./prerender.ts";
import { answer, ask, openTestbed, type FakeFunction, type SiteParts, type Testbed } from "./testbed.ts";

const token = "0123456789abcdef0123456789abcdef";

/** Each of `pages` is a prerender of the Function `run`; a page's fallback is the file `<path>.fallback`. */
function site(
  run: FakeFunction,
  pages: Readonly<Record<string, Partial<Prerender>>>,
  fallbacks: Readonly<Record<string, string>> = {},
): SiteParts {
  return {
    functions: { run },
    files: Object.fromEntries(Object.entries(fallbacks).map(([path, body]) => [`${path}.fallback`, body])),
    routes: [{ handle: "filesystem" }, { src: "^/blog/(?<slug>[^/]+)$", dest: "/blog/[slug]?slug=$slug", check: true }],
    manifest: (made: Manifest) => {
      const outputs: Record<string, Output> = { ...made.outputs };
      for (const [path, page] of Object.entries(pages)) {
        const file = made.outputs[`${path}.fallback`];
        outputs[path] = {
          kind: "prerender",
          functionId: "a/run",
          prerender: {
            expirationS: 60,
            bypassToken: token,
            bypassFor: [],
            allowQuery: [],
            allowHeader: [],
            passQuery: true,
            fallback: file?.kind === "static" ? file.file : null,
            initialStatus: 200,
            initialHeaders: { "content-type": "text/html" },
            ...page,
          },
        };
      }
      return { outputs, createdAt: Date.now() };
    },
  };
}

async function seen(bed: Testbed, path: string, headers: Record<string, string> = {}, method = "GET"): Promise<string> {
  const response = await ask(bed, "a.localhost", path, { headers, method });
  return `${response.body} ${String(response.headers["x-vercel-cache"])}`;
}

async function until(check: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await check()) return;
    await sleep(10);
  }
  assert.fail("that did not happen in time");
}

function counter(headers: readonly string[] = [], more: { fails?: () => boolean; status?: () => number } = {}) {
  const state = { count: 0, last: [] as readonly string[], url: "" };
  const run: FakeFunction = ({ headers: asked, url }) => {
    state.count++;
    state.last = asked;
    state.url = url;
    if (more.fails?.() === true) throw new MayflyError("FUNCTION_INVOCATION_FAILED");
    return answer(`made ${state.count}`, {
      status: more.status?.() ?? 200,
      headers: ["content-type", "text/html", "set-cookie", "leak=1", ...headers],
    });
  };
  return Object.assign(state, { run });
}

test("the build's answer, then stale and made anew, then that; clients ask again each time", async () => {
  const f = counter(["cache-control", "s-maxage=60, stale-while-revalidate"]);
  await using bed = await openTestbed({ a: site(f.run, { page: {} }, { page: "built" }) });
  const first = await ask(bed, "a.localhost", "/page?utm=1");
  assert.deepEqual(
    [first.body, first.headers["x-vercel-cache"], first.headers["cache-control"]],
    ["built", "PRERENDER", "public, max-age=0, must-revalidate"],
  );
  assert.equal(f.count, 0);
  bed.skip(61_000);
  assert.equal(
    await seen(bed, "/page", { cookie: "session=secret", authorization: "Bearer x", "x-own": "1", "accept-language": "de" }),
    "built STALE",
  );
  await until(async () => (await seen(bed, "/page?utm=2")) === "made 1 HIT");
  const made = await ask(bed, "a.localhost", "/page");
  assert.deepEqual([made.headers["set-cookie"], made.headers["cache-control"]], [undefined, "public, max-age=0, must-revalidate"]);
  for (const name of ["cookie", "authorization", "x-own", "accept-language"]) assert(!f.last.includes(name), name);
  assert.equal(f.last[f.last.indexOf("host") + 1], "a-123456789.localhost");
  assert.equal(f.url, "/page");
  assert.equal(f.count, 1);
});

test("without a fallback the first request waits, the others with it; it outlives failures", async () => {
  let fails = false;
  const f = counter([], { fails: () => fails });
  await using bed = await openTestbed({ a: site(f.run, { page: { expirationS: 10 } }) });
  const first = await Promise.all(Array.from({ length: 50 }, () => seen(bed, "/page")));
  assert.equal(f.count, 1);
  assert.equal(first.filter((one) => one === "made 1 MISS").length, 1);
  fails = true;
  bed.skip(11_000);
  assert.equal(await seen(bed, "/page"), "made 1 STALE");
  await until(async () => f.count === 2);
  bed.skip(86_400_000);
  assert.equal(await seen(bed, "/page"), "made 1 STALE");
});

test("on demand: the token makes it anew at once, for its whole group; a guess does not", async () => {
  const f = counter();
  await using bed = await openTestbed({
    a: site(
      f.run,
      { page: { expirationS: false, group: 1 }, "page.rsc": { expirationS: false, group: 1 }, other: { expirationS: false, group: 2 } },
      { page: "built", "page.rsc": "data", other: "other" },
    ),
  });
  assert.equal(await seen(bed, "/page"), "built PRERENDER");
  for (const guess of ["", token.slice(1), `${token}0`, "f".repeat(32)])
    assert.equal(await seen(bed, "/page", { "x-prerender-revalidate": guess }), "built PRERENDER");
  bed.skip(1000);
  // As `res.revalidate()` of Next.js asks.
  const head = await ask(bed, "a.localhost", "/page", { method: "HEAD", headers: { "x-prerender-revalidate": token } });
  assert.deepEqual([head.status, head.headers["x-vercel-cache"], head.body], [200, "REVALIDATED", ""]);
  assert.equal(f.last[f.last.indexOf("x-prerender-revalidate") + 1], token);
  assert.equal(await seen(bed, "/page"), "made 1 HIT");
  assert.equal(await seen(bed, "/page.rsc"), "made 2 MISS");
  assert.equal(await seen(bed, "/other"), "other PRERENDER");
});

test("by tag: what revalidateTag purges is made anew", async () => {
  const f = counter(["x-next-cache-tags", "_N_T_/page,posts"]);
  await using bed = await openTestbed({
    a: site(f.run, { page: { expirationS: false, initialHeaders: { "x-next-cache-tags": "posts" } } }, { page: "built" }),
  });
  assert.equal(await seen(bed, "/page"), "built PRERENDER");
  bed.skip(1000);
  for (const made of ["made 1", "made 2"]) {
    await bed.purges.add([{ tag: "posts", mode: "delete" }], bed.now());
    bed.skip(1000);
    assert.equal(await seen(bed, "/page"), `${made} MISS`);
    assert.equal(await seen(bed, "/page"), `${made} HIT`);
  }
});

test("by its path: page and data are made anew, and nothing that an instance has just made is given again", async () => {
  const f = counter();
  const prerender = { expirationS: false, allowQuery: ["nxtPname"] } as const;
  await using bed = await openTestbed({ a: site(f.run, { "of/[name]": prerender, "_next/data/id/index.json": prerender }) });
  const shown = (): boolean => f.last.includes(token);
  const paths = { "/of/[name]?nxtPname=%C3%BC": "/of/%C3%BC", "/_next/data/id/index.json": "/" };
  for (const [path, page] of Object.entries(paths)) {
    await seen(bed, path);
    const kept = await seen(bed, path);
    assert.match(kept, / HIT$/);
    bed.skip(5000);
    await bed.purges.add([{ tag: pageTag("/of"), mode: "delete" }], bed.now());
    assert.equal(await seen(bed, path), kept, "not meant");
    await bed.purges.add([{ tag: pageTag(page), mode: "delete" }], bed.now());
    bed.skip(1000);
    const [, number] = kept.split(" ");
    assert.equal(await seen(bed, path), `made ${Number(number) + 1} MISS`);
    assert.ok(shown());
  }
});

test("draft mode, other methods and bypassFor go to the Function, and are kept for nobody", async () => {
  const f = counter();
  await using bed = await openTestbed({
    a: site(f.run, { page: { bypassFor: [{ type: "header", key: "next-action" }] } }, { page: "built" }),
  });
  assert.equal(await seen(bed, "/page", { cookie: `a=b; __prerender_bypass=${token}` }), "made 1 BYPASS");
  assert(f.last.includes("cookie"));
  assert.equal(await seen(bed, "/page", { cookie: "__prerender_bypass=wrong" }), "built PRERENDER");
  assert.equal(await seen(bed, "/page", { "next-action": "x" }), "made 2 BYPASS");
  assert.equal(await seen(bed, "/page", {}, "POST"), "made 3 MISS");
  assert.equal(await seen(bed, "/page"), "built PRERENDER");
});

test("parameters: those that the build allows tell answers apart; a stand-in is given while the page is made", async () => {
  const f = counter();
  await using bed = await openTestbed({ a: site(f.run, { "blog/[slug]": { allowQuery: ["slug"] } }, { "blog/[slug]": "loading" }) });
  assert.equal(await seen(bed, "/blog/a?x=1"), "loading PRERENDER");
  await until(async () => (await seen(bed, "/blog/a?x=2")) === "made 1 HIT");
  assert.equal(f.url, "/blog/a?slug=a");
  assert.equal(await seen(bed, "/blog/b"), "loading PRERENDER");
  await until(async () => (await seen(bed, "/blog/b")) === "made 2 HIT");
  assert.equal(f.count, 2);
});

test("404 and redirects are kept with their status; what is private or failed is not", async () => {
  let status = 404;
  const f = counter([], { status: () => status });
  await using bed = await openTestbed({ a: site(f.run, { page: {}, away: {} }), b: {} });
  for (const cache of ["MISS", "HIT"]) {
    const gone = await ask(bed, "a.localhost", "/page");
    assert.deepEqual([gone.status, gone.headers["x-vercel-cache"]], [404, cache]);
  }
  status = 500;
  for (let asked = 0; asked < 2; asked++) assert.equal((await ask(bed, "a.localhost", "/away")).status, 500);
  status = 307;
  assert.equal((await ask(bed, "a.localhost", "/away")).status, 307);
  assert.equal(f.count, 4);
});
