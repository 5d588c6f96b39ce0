/** What may be kept, how long, and what clients see of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ageOf, isCacheableRequest, storable, tagsOf, varyOf, varyValue, clientCacheControl, isEdgeHeader } from "./freshness.ts";

const kept = (headers: readonly string[], status = 200) => {
  const found = storable(status, headers);
  return found === null ? null : [found.freshMs / 1000, found.staleMs / 1000, found.errorMs / 1000];
};
const control = (value: string) => kept(["cache-control", value]);

test("lifetimes", () => {
  assert.deepEqual(control("s-maxage=60"), [60, 0, 0]);
  assert.deepEqual(control('public, S-MaxAge="60", stale-while-revalidate=30, stale-if-error=90'), [60, 30, 90]);
  assert.deepEqual(control("s-maxage=10, stale-while-revalidate"), [10, 31_536_000, 0]);
  assert.deepEqual(control("s-maxage=99999999999"), [31_536_000, 0, 0]);
  assert.deepEqual(control("s-maxage=10, stale-while-revalidate=5, proxy-revalidate"), [10, 0, 0]);
  assert.deepEqual(control("max-age=0, must-revalidate, s-maxage=10, stale-while-revalidate=5"), [10, 5, 0]);
  assert.deepEqual(control("s-maxage=10, s-maxage=500"), [10, 0, 0]);
  for (const value of [
    "",
    "max-age=60",
    "public",
    "s-maxage=0",
    "s-maxage=-1",
    "s-maxage=1e3",
    "s-maxage=x",
    "s-maxage",
    "private, s-maxage=60",
    "no-store, s-maxage=60",
    "no-cache, s-maxage=60",
    'private="x-own", s-maxage=60',
  ]) {
    assert.equal(control(value), null, value);
  }
  assert.equal(kept([]), null);
  assert.deepEqual(kept(["cache-control", "s-maxage=60", "age", "20"]), [40, 0, 0]);
  assert.equal(kept(["cache-control", "s-maxage=60", "age", "60"]), null);
});

test("targeted fields beat cache-control, the more specific one first", () => {
  assert.deepEqual(kept(["cache-control", "no-store", "cdn-cache-control", "max-age=60"]), [60, 0, 0]);
  assert.deepEqual(kept(["cdn-cache-control", "max-age=60", "vercel-cdn-cache-control", "max-age=9, s-maxage=8"]), [8, 0, 0]);
  assert.equal(kept(["cache-control", "s-maxage=60", "vercel-cdn-cache-control", "no-store"]), null);
  assert.deepEqual(kept(["cdn-cache-control", "max-age=60, stale-while-revalidate=9, must-revalidate"]), [60, 0, 0]);
});

test("what is one client's is never kept, nor what is no whole answer", () => {
  const public60 = ["cache-control", "s-maxage=60"];
  assert.equal(kept([...public60, "set-cookie", "a=1"]), null);
  assert.equal(kept([...public60, "vary", "accept, *"]), null);
  assert.equal(kept([...public60, "content-range", "bytes 0-1/2"]), null);
  for (const status of [201, 204, 206, 303, 304, 400, 401, 403, 405, 416, 500, 502, 503])
    assert.equal(kept(public60, status), null, String(status));
  for (const status of [200, 301, 302, 307, 308, 404, 410]) assert.deepEqual(kept(public60, status), [60, 0, 0], String(status));
  const ask = (method: string, headers: Record<string, string> = {}) => isCacheableRequest({ method, header: (name) => headers[name] });
  assert(ask("GET") && ask("HEAD") && ask("GET", { cookie: "a=b" }));
  assert(!ask("POST") && !ask("GET", { authorization: "Bearer x" }) && !ask("GET", { range: "bytes=0-1" }));
});

test("vary and tags", () => {
  assert.deepEqual(varyOf(["vary", "RSC, Accept", "vary", "accept,,"]), ["accept", "rsc"]);
  assert.deepEqual(varyOf(["content-encoding", "gzip"]), ["accept-encoding"]);
  assert.equal(varyOf(["vary", Array.from({ length: 17 }, (_, n) => `x-${n}`).join()]), null);
  assert.equal(varyValue("accept-encoding", "GZIP, br;q=0.5, zstd;q=0, x"), "br,gzip");
  assert.equal(varyValue("accept", " A "), " A ");
  assert.equal(varyValue("accept", undefined), "");
  assert.deepEqual(tagsOf(["x-next-cache-tags", "_N_T_/a,b", "vercel-cache-tag", " b , c", "x-tags", "d"]), ["_N_T_/a", "b", "c"]);
  assert.equal(tagsOf(["vercel-cache-tag", Array.from({ length: 500 }, (_, n) => n).join()]).length, 128);
});

test("what clients see", () => {
  const seen = clientCacheControl;
  assert.equal(seen("s-maxage=60, stale-while-revalidate=30"), "public, max-age=0, must-revalidate");
  assert.equal(seen("public, s-maxage=60"), "public, max-age=0, must-revalidate");
  assert.equal(seen("public, max-age=10, s-maxage=60"), "public, max-age=10");
  assert.equal(seen("private, no-store"), "private, no-store");
  assert.equal(seen("s-maxage=1, no-cache"), "no-cache");
  const edge = ["x-next-cache-tags", "vercel-cache-tag", "vercel-cdn-cache-control", "age"];
  assert.deepEqual([...edge, "cdn-cache-control", "etag"].filter(isEdgeHeader), edge);
});

test("ages", () => {
  const lifetime = { freshMs: 10, staleMs: 5, errorMs: 20 };
  assert.deepEqual(
    [0, 9, 10, 14, 15, 29, 30].map((ms) => ageOf(lifetime, ms)),
    ["fresh", "fresh", "stale", "stale", "failing", "failing", "gone"],
  );
  assert.equal(ageOf({ freshMs: 10, staleMs: 0, errorMs: 0 }, 10), "gone");
});
