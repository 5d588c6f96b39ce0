/** The edge cache through the front door: what is kept, for whom, how long, and what a flood of requests costs. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../errors.ts";
import { DiskTier } from "./disk-tier.ts";
import { answer, ask, open, openTestbed, type FakeFunction, type Testbed } from "./testbed.ts";

/** A Function that counts: its answers are "1", "2", … */
function counting(headers: readonly string[], more: { status?: () => number } = {}) {
  let count = 0;
  const run: FakeFunction = () =>
    answer(String(++count), { headers: ["content-type", "text/plain", ...headers], status: more.status?.() ?? 200 });
  return Object.assign(run, { count: () => count });
}

/** Body and `x-vercel-cache`. */
async function seen(bed: Testbed, path: string, headers: Record<string, string> = {}, method = "GET"): Promise<string> {
  const response = await ask(bed, "a.localhost", path, { headers, method });
  return `${response.body} ${String(response.headers["x-vercel-cache"])}`;
}

/** Waits for what happens behind a client's back. */
async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await check()) return;
    await sleep(10);
  }
  assert.fail("that did not happen in time");
}

const sMaxAge = (value: string) => ["cache-control", value];

describe("what is kept", () => {
  test("MISS, HIT with its age, anew when it is too old; HEAD and 304 from what is kept", async () => {
    const f = counting([...sMaxAge("s-maxage=60"), "etag", '"x"', "x-next-cache-tags", "t", "vercel-cdn-cache-control", "max-age=60"]);
    await using bed = await openTestbed({ a: { functions: { f } } });
    const first = await ask(bed, "a.localhost", "/f");
    assert.deepEqual([first.body, first.headers["x-vercel-cache"], first.headers.age], ["1", "MISS", undefined]);
    bed.skip(30_000);
    const second = await ask(bed, "a.localhost", "/f");
    assert.deepEqual([second.body, second.headers["x-vercel-cache"], second.headers.age], ["1", "HIT", "30"]);
    for (const { headers } of [first, second]) {
      assert.equal(headers["cache-control"], "public, max-age=0, must-revalidate");
      for (const name of ["x-next-cache-tags", "vercel-cdn-cache-control"]) assert.equal(headers[name], undefined);
    }
    assert.match(String(second.headers["x-vercel-id"]), /^dev1::/);
    assert.notEqual(second.headers["x-vercel-id"], first.headers["x-vercel-id"]);
    const head = await ask(bed, "a.localhost", "/f", { method: "HEAD" });
    assert.deepEqual([head.status, head.body, head.headers["content-length"]], [200, "", "1"]);
    const same = await ask(bed, "a.localhost", "/f", { headers: { "if-none-match": 'W/"x"' } });
    assert.deepEqual([same.status, same.body], [304, ""]);
    bed.skip(30_000);
    assert.equal(await seen(bed, "/f"), "2 MISS");
  });

  test("nothing that is one client's, no part, no failure, nothing that varies on all", async () => {
    const public60 = sMaxAge("s-maxage=60");
    const functions: Record<string, FakeFunction> = {
      cookie: counting([...public60, "set-cookie", "id=1"]),
      private: counting(sMaxAge("private, s-maxage=60")),
      plain: counting(sMaxAge("max-age=60")),
      none: counting([]),
      star: counting([...public60, "vary", "*"]),
      created: counting(public60, { status: () => 201 }),
      failed: counting(public60, { status: () => 500 }),
      part: counting([...public60, "content-range", "bytes 0-1/9"], { status: () => 206 }),
      broken: () => answer(Readable.from(broken()), { headers: public60 }),
    };
    async function* broken() {
      yield Buffer.from("half");
      throw new MayflyError("FUNCTION_INVOCATION_FAILED");
    }
    await using bed = await openTestbed({ a: { functions } });
    for (const path of Object.keys(functions).filter((name) => name !== "broken")) {
      assert.equal(await seen(bed, `/${path}`), "1 MISS", path);
      assert.equal(await seen(bed, `/${path}`), "2 MISS", path);
    }
    for (let count = 0; count < 2; count++) await assert.rejects(ask(bed, "a.localhost", "/broken"), /aborted/);
  });

  test("neither kept for, nor given to, requests with Authorization, a body, a range or another method", async () => {
    const f = counting(sMaxAge("s-maxage=60"));
    await using bed = await openTestbed({ a: { functions: { f } } });
    assert.equal(await seen(bed, "/f", { authorization: "Bearer x" }), "1 MISS");
    assert.equal(await seen(bed, "/f"), "2 MISS");
    assert.equal(await seen(bed, "/f", { authorization: "Bearer x" }), "3 MISS");
    assert.equal(await seen(bed, "/f", { range: "bytes=0-0" }), "4 MISS");
    assert.equal(await seen(bed, "/f", {}, "POST"), "5 MISS");
    assert.equal((await ask(bed, "a.localhost", "/f", { body: "x", headers: { "content-length": "1" } })).body, "6");
    assert.equal(await seen(bed, "/f", { cookie: "a=b", "cache-control": "no-cache" }), "2 HIT");
  });

  test("by address, spelling, port and deployment: what a Function can see tells answers apart", async () => {
    const site = () => ({
      functions: { "f/[x]": echo },
      routes: [{ handle: "filesystem" as const }, { src: "^/f/(.*)$", dest: "/f/[x]?x=$1", check: true }],
    });
    const echo: FakeFunction = ({ url, headers }) =>
      answer(`${url} ${headers[headers.indexOf("x-forwarded-host") + 1]}`, { headers: sMaxAge("s-maxage=60") });
    await using bed = await openTestbed({ a: site(), b: site() });
    for (const [host, path] of [
      ["a.localhost", "/f/a"],
      ["a.localhost", "/f/%61"],
      ["a.localhost", "/f/a?q=1"],
      ["a.localhost", "/f/a?q=2"],
      ["a.localhost:81", "/f/a"],
      ["b.localhost", "/f/a"],
      ["A.LOCALHOST", "/f/b"],
    ] as const) {
      const miss = await ask(bed, host, path);
      assert.equal(miss.headers["x-vercel-cache"], "MISS", `${host}${path}`);
      const hit = await ask(bed, host, path);
      assert.deepEqual([hit.headers["x-vercel-cache"], hit.body], ["HIT", miss.body]);
      assert(miss.body.startsWith(path) && miss.body.endsWith(host.toLowerCase()), miss.body);
    }
  });

  test("headers that no key knows cannot poison an answer: the platform's are its own", async () => {
    const f: FakeFunction = ({ headers }) =>
      answer(headers.filter((_, index) => index % 2 === 0 && headers[index]!.startsWith("x-")).join(), { headers: sMaxAge("s-maxage=60") });
    await using bed = await openTestbed({ a: { functions: { f } } });
    const evil = {
      "x-forwarded-host": "evil",
      "x-forwarded-proto": "evil",
      "x-original-url": "/admin",
      "x-matched-path": "/admin",
      "x-middleware-subrequest": "1",
      x_forwarded_host: "evil",
    };
    const poisoned = await ask(bed, "a.localhost", "/f", { headers: evil });
    assert.doesNotMatch(poisoned.body, /original-url|middleware/);
    assert.equal((await ask(bed, "a.localhost", "/f")).body, poisoned.body);
  });

  test("Vary: an answer for each value, encodings by what they mean", async () => {
    let count = 0;
    const f: FakeFunction = ({ headers }) =>
      answer(`${++count}:${headers[headers.indexOf("x-lang") + 1]}`, {
        headers: [...sMaxAge("s-maxage=60"), "vary", "X-Lang, Accept-Encoding"],
      });
    await using bed = await openTestbed({ a: { functions: { f } } });
    assert.equal(await seen(bed, "/f", { "x-lang": "en", "accept-encoding": "gzip, br" }), "1:en MISS");
    assert.equal(await seen(bed, "/f", { "x-lang": "fr", "accept-encoding": "gzip, br" }), "2:fr MISS");
    assert.equal(await seen(bed, "/f", { "x-lang": "en", "accept-encoding": "BR,gzip;q=0.5" }), "1:en HIT");
    assert.equal(await seen(bed, "/f", { "x-lang": "fr", "accept-encoding": "br, gzip" }), "2:fr HIT");
    assert.equal(await seen(bed, "/f", { "x-lang": "en" }), "3:en MISS");
  });

  test("redirects and 404 keep their status; routes' headers are those of the request", async () => {
    const functions = {
      gone: counting(sMaxAge("s-maxage=60"), { status: () => 404 }),
      moved: counting([...sMaxAge("s-maxage=60"), "location", "/x"], { status: () => 308 }),
    };
    const routes = [
      {
        src: "/.*",
        has: [{ type: "header" as const, key: "x-user", value: "(?<user>.*)" }],
        headers: { "x-hello": "$user" },
        continue: true,
      },
    ];
    await using bed = await openTestbed({ a: { functions, routes } });
    for (const cache of ["MISS", "HIT"]) {
      const gone = await ask(bed, "a.localhost", "/gone");
      assert.deepEqual([gone.status, gone.body, gone.headers["x-vercel-cache"]], [404, "1", cache]);
      const moved = await ask(bed, "a.localhost", "/moved", { headers: { "x-user": cache } });
      assert.deepEqual([moved.status, moved.headers.location, moved.headers["x-hello"]], [308, "/x", cache]);
    }
    assert.equal((await ask(bed, "a.localhost", "/moved")).headers["x-hello"], undefined);
  });
});

describe("stale answers", () => {
  test("are given while one invocation makes them anew", async () => {
    let count = 0;
    let release: (() => void) | undefined;
    const f: FakeFunction = async () => {
      const mine = ++count;
      if (mine > 1) await new Promise<void>((resolve) => (release = resolve));
      return answer(String(mine), { headers: sMaxAge("s-maxage=10, stale-while-revalidate=60") });
    };
    await using bed = await openTestbed({ a: { functions: { f } } });
    assert.equal(await seen(bed, "/f"), "1 MISS");
    bed.skip(11_000);
    for (let asked = 0; asked < 5; asked++) assert.equal(await seen(bed, "/f"), "1 STALE");
    await until(() => release !== undefined);
    assert.equal(count, 2);
    release!();
    await until(async () => (await seen(bed, "/f")) === "2 HIT");
    assert.equal(count, 2);
  });

  test("stay when making them anew fails, but not for ever", async () => {
    let fails = false;
    let count = 0;
    const f: FakeFunction = () => {
      count++;
      if (fails) throw new MayflyError("FUNCTION_INVOCATION_FAILED");
      return answer(String(count), { headers: sMaxAge("s-maxage=10, stale-while-revalidate=10, stale-if-error=100") });
    };
    await using bed = await openTestbed({ a: { functions: { f } } });
    assert.equal(await seen(bed, "/f"), "1 MISS");
    fails = true;
    bed.skip(11_000);
    assert.equal(await seen(bed, "/f"), "1 STALE");
    await until(() => count === 2);
    // Not asked again at once.
    assert.equal(await seen(bed, "/f"), "1 STALE");
    assert.equal(count, 2);
    bed.skip(20_000);
    assert.equal(await seen(bed, "/f"), "1 STALE");
    assert.equal(count, 3);
    bed.skip(100_000);
    assert.equal((await ask(bed, "a.localhost", "/f")).status, 500);
    fails = false;
    assert.equal(await seen(bed, "/f"), "5 MISS");
  });
});

describe("many at once", () => {
  test("1,000 concurrent misses are one invocation", async () => {
    let count = 0;
    const f: FakeFunction = async () => {
      count++;
      await sleep(50);
      return answer(Buffer.alloc(10_000, "x"), { headers: sMaxAge("s-maxage=60") });
    };
    await using bed = await openTestbed({ a: { functions: { f } } }, { MAYFLY_CACHE_PROBE_MS_MAX: "10000" });
    const replies = await Promise.all(Array.from({ length: 1000 }, () => ask(bed, "a.localhost", "/f")));
    assert(replies.every(({ status, body }) => status === 200 && body.length === 10_000));
    assert.equal(count, 1);
  });

  test("an answer that is not to be kept releases those who wait; they do not wait a second time", async () => {
    let running = 0;
    let most = 0;
    const f: FakeFunction = async () => {
      most = Math.max(most, ++running);
      await sleep(100);
      running--;
      return answer("own");
    };
    await using bed = await openTestbed({ a: { functions: { f } } }, { MAYFLY_CACHE_PROBE_MS_MAX: "10000" });
    const ten = () => Promise.all(Array.from({ length: 10 }, () => ask(bed, "a.localhost", "/f")));
    await ten();
    assert.equal(most, 9);
    most = 0;
    await ten();
    assert.equal(most, 10);
  });

  test("nobody waits long for an answer of which it is not known that it will be kept", async () => {
    let begun = 0;
    const f: FakeFunction = async () => {
      begun++;
      await until(() => begun === 3);
      return answer("met");
    };
    await using bed = await openTestbed({ a: { functions: { f } } }, { MAYFLY_CACHE_PROBE_MS_MAX: "50" });
    const replies = await Promise.all(Array.from({ length: 3 }, () => ask(bed, "a.localhost", "/f")));
    assert.deepEqual(
      replies.map(({ body }) => body),
      ["met", "met", "met"],
    );
  });

  test("neither a client that leaves nor one that reads slowly holds back the others", async () => {
    let count = 0;
    const f: FakeFunction = async () => {
      count++;
      await sleep(50);
      return answer(Readable.from([Buffer.alloc(4_000_000, "x"), Buffer.alloc(1_000_000, "y")]), { headers: sMaxAge("s-maxage=60") });
    };
    await using bed = await openTestbed({ a: { functions: { f } } }, { MAYFLY_CACHE_PROBE_MS_MAX: "10000" });
    const slow = open(bed, "a.localhost", "/f");
    await until(() => count === 1);
    const other = ask(bed, "a.localhost", "/f");
    (await slow).pause();
    assert.equal((await other).body.length, 5_000_000);
    (await slow).destroy();
    const gone = open(bed, "a.localhost", "/f?2");
    await until(() => count === 2);
    (await gone).destroy();
    await until(async () => (await ask(bed, "a.localhost", "/f?2")).headers["x-vercel-cache"] === "HIT");
    assert.equal(count, 2);
  });

  test("an answer that grows too large is passed on whole, and not kept", async () => {
    let count = 0;
    const f: FakeFunction = () => {
      count++;
      return answer(Readable.from(Array.from({ length: 20 }, () => Buffer.alloc(1000, "x"))), { headers: sMaxAge("s-maxage=60") });
    };
    await using bed = await openTestbed({ a: { functions: { f } } }, { MAYFLY_CACHE_ANSWER_BYTES_MAX: "10000" });
    for (let asked = 1; asked <= 2; asked++) {
      assert.equal((await ask(bed, "a.localhost", "/f")).body.length, 20_000);
      assert.equal(count, asked);
    }
  });
});

describe("purges", () => {
  test("by tag: deleted ones are made anew, invalid ones are given once more meanwhile", async () => {
    const a = counting([...sMaxAge("s-maxage=600"), "vercel-cache-tag", "one, two"]);
    const b = counting([...sMaxAge("s-maxage=600"), "vercel-cache-tag", "three"]);
    await using bed = await openTestbed({ a: { functions: { a, b } } });
    for (const path of ["/a", "/b"]) assert.equal(await seen(bed, path), "1 MISS");
    bed.skip(1000);
    await bed.purges.add([{ tag: "two", mode: "delete" }], bed.now());
    bed.skip(1000);
    assert.equal(await seen(bed, "/a"), "2 MISS");
    assert.equal(await seen(bed, "/a"), "2 HIT");
    assert.equal(await seen(bed, "/b"), "1 HIT");
    await bed.purges.add([{ tag: "three", mode: "invalidate" }], bed.now());
    bed.skip(1000);
    assert.equal(await seen(bed, "/b"), "1 STALE");
    await until(async () => (await seen(bed, "/b")) === "2 HIT");
    bed.skip(1000);
    await bed.purges.add([{ tag: null, mode: "delete" }], bed.now());
    bed.skip(1000);
    assert.equal(await seen(bed, "/a"), "3 MISS");
    assert.equal(await seen(bed, "/b"), "3 MISS");
  });
});

describe("the disk tier", () => {
  test("a gateway that starts takes away drafts of those that were killed, and none of one that still writes", async () => {
    const directory = mkdtempSync(join(tmpdir(), "mayfly-cache-"));
    try {
      const { pid: dead } = spawnSync(process.execPath, ["-e", ""]);
      const kept = `draft-${process.pid}-0011223344556677`;
      for (const name of [kept, `draft-${dead}-0011223344556677`, "draft-0011223344556677", "nonsense"])
        writeFileSync(join(directory, name), "x");
      await new DiskTier(directory, 1_000_000).close();
      assert.deepEqual(readdirSync(directory), [kept]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("answers outlive a restart, varying ones too, and stay within its bytes", async () => {
    const directory = mkdtempSync(join(tmpdir(), "mayfly-cache-"));
    try {
      const f = counting(sMaxAge("s-maxage=600"));
      const vary = counting([...sMaxAge("s-maxage=600"), "vary", "x-lang"]);
      const large: FakeFunction = ({ url }) => answer(Buffer.alloc(50_000, url), { headers: sMaxAge("s-maxage=600") });
      const sites = { a: { functions: { f, vary, large } } };
      const settings = { MAYFLY_CACHE_DISK_BYTES_MAX: "200000" };
      {
        await using bed = await openTestbed(sites, settings, undefined, { directory });
        assert.equal(await seen(bed, "/vary", { "x-lang": "en" }), "1 MISS");
        assert.equal(await seen(bed, "/vary", { "x-lang": "fr" }), "2 MISS");
        assert.equal(await seen(bed, "/f"), "1 MISS");
      }
      {
        await using bed = await openTestbed(sites, settings, undefined, { directory });
        assert.equal(await seen(bed, "/f"), "1 HIT");
        assert.equal(await seen(bed, "/vary", { "x-lang": "fr" }), "2 HIT");
        assert.equal(await seen(bed, "/vary", { "x-lang": "en" }), "1 HIT");
        for (let n = 0; n < 6; n++) await ask(bed, "a.localhost", `/large?${n}`);
      }
      await using bed = await openTestbed(sites, settings, undefined, { directory });
      const states = await Promise.all(
        Array.from({ length: 6 }, async (_, n) => (await ask(bed, "a.localhost", `/large?${n}`)).headers["x-vercel-cache"]),
      );
      assert(states.filter((state) => state === "HIT").length <= 3);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
