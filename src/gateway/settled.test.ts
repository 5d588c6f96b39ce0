/** Settled answers: the same bytes as a journey's, for exactly the requests whose journey would have given them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { createServer, type AddressInfo } from "node:net";
import { suite, test } from "node:test";
import { promisify } from "node:util";
import { answer, ask, openTestbed, talk, type SiteParts, type TestRequest, type TestResponse, type Testbed } from "./testbed.ts";

const page = "<p>page</p>".repeat(200);

const isSettled = ({ headers }: TestResponse): boolean => headers["server-timing"] === "settled";

/** What may differ between two answers to one question. */
function steady({ status, headers, body }: TestResponse): unknown {
  const { date, "x-vercel-id": _id, "server-timing": _timing, ...rest } = headers;
  assert.ok(date);
  return { status, headers: rest, body };
}

async function askTwice(bed: Testbed, path: string, request?: TestRequest): Promise<[TestResponse, TestResponse]> {
  return [await ask(bed, "a.localhost", path, request), await ask(bed, "a.localhost", path, request)];
}

const site: SiteParts = {
  files: { "index.html": page, "plain.txt": "as it is", "404.html": "nothing here", "large.bin": Buffer.alloc(300_000, 7) },
  routes: [
    { src: "/plain.txt", headers: { "x-route": "$0" }, continue: true },
    { src: "/personal", has: [{ type: "cookie", key: "name" }], dest: "/plain.txt" },
    { src: "/greets-nobody", missing: [{ type: "header", key: "x-name" }], dest: "/plain.txt" },
    { handle: "filesystem" },
  ],
};

suite("settled answers", { concurrency: true }, () => {
  test("over TLS only to who has shaken hands for this host", async () => {
    const free = createServer().listen(0, "127.0.0.1");
    await once(free, "listening");
    const { port } = free.address() as AddressInfo;
    await promisify(free.close.bind(free))();
    await using bed = await openTestbed({ a: site, b: site }, { MAYFLY_HTTPS_PORT: String(port) });
    const ca = readFileSync(bed.authorityPath!);
    const get = async (servername: string, host: string) => {
      const asked = request({ host: "127.0.0.1", port, ca, servername, headers: { host }, path: "/plain.txt", agent: false }).end();
      const [response] = (await once(asked, "response")) as [IncomingMessage];
      response.resume();
      return [response.statusCode, response.headers["server-timing"] === "settled"];
    };
    assert.deepEqual(await get("b.localhost", "b.localhost"), [200, false]);
    assert.deepEqual(await get("b.localhost", "b.localhost"), [200, true]);
    assert.deepEqual(await get("a.localhost", "b.localhost"), [421, false]);
  });

  test("a file is answered as before, for each coding, for what the client has, and in each protocol's way", async () => {
    await using bed = await openTestbed({ a: site });
    const requests: TestRequest[] = [
      {},
      { headers: { connection: "keep-alive" } },
      { headers: { "accept-encoding": "gzip", connection: "keep-alive" } },
      { headers: { "accept-encoding": "br, gzip;q=0.5", cookie: "any=thing", "user-agent": "x" } },
      { headers: { "accept-encoding": "identity" } },
    ];
    for (const request of requests) {
      const [first, second] = await askTwice(bed, "/", request);
      assert.deepEqual(steady(second), steady(first));
      assert.ok(isSettled(await ask(bed, "a.localhost", "/", request)), JSON.stringify(request));
      const headers = { ...request.headers, "if-none-match": `W/${first.headers.etag}` };
      const unchanged = await ask(bed, "a.localhost", "/", { headers });
      assert.deepEqual([unchanged.status, unchanged.body, unchanged.headers.etag], [304, "", first.headers.etag]);
      assert.equal(unchanged.headers["content-length"], undefined);
      assert.equal(unchanged.headers["content-type"], undefined);
    }
    const [, again] = await askTwice(bed, "/plain.txt");
    assert.deepEqual([again.headers["x-route"], again.body, isSettled(again)], ["/plain.txt", "as it is", true]);
    assert.match(
      await talk(bed, "GET /plain.txt HTTP/1.0\r\nHost: a.localhost\r\n\r\n"),
      /settled\r\n[^]*connection: close\r\n\r\nas it is$/,
    );
    const two = "GET /plain.txt HTTP/1.1\r\nHost: a.localhost\r\n\r\n".repeat(2);
    const answers = await talk(bed, `${two}GET /plain.txt HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n`);
    assert.equal(answers.match(/settled\r\n/g)?.length, 3);
    const [, large] = await askTwice(bed, "/large.bin", { headers: { connection: "keep-alive" } });
    assert.deepEqual([large.body.length, isSettled(large), large.headers["content-length"]], [300_000, true, "300000"]);
  });

  test("each answer has an id of its own, and the last one of a connection says so", async () => {
    await using bed = await openTestbed({ a: site });
    const answers = [...(await askTwice(bed, "/plain.txt")), ...(await askTwice(bed, "/plain.txt"))];
    assert.equal(new Set(answers.map(({ headers }) => headers["x-vercel-id"])).size, 4);
    for (const { headers } of answers) assert.equal(headers.connection, "close");
    const kept = await ask(bed, "a.localhost", "/plain.txt", { headers: { connection: "keep-alive" } });
    assert.deepEqual([isSettled(kept), kept.headers.connection], [true, undefined]);
  });

  test("other methods, ranges, bodies and unknown paths make their journey", async () => {
    await using bed = await openTestbed({ a: site });
    await askTwice(bed, "/plain.txt");
    const part = await ask(bed, "a.localhost", "/plain.txt", { headers: { range: "bytes=0-1" } });
    assert.deepEqual([part.status, part.body], [206, "as"]);
    const head = await ask(bed, "a.localhost", "/plain.txt", { method: "HEAD" });
    assert.deepEqual([head.status, head.body, head.headers["content-length"]], [200, "", "8"]);
    assert.equal((await ask(bed, "a.localhost", "/plain.txt", { method: "POST", body: "x" })).status, 405);
    assert.equal((await ask(bed, "a.localhost", "/plain.txt", { method: "DELETE" })).status, 405);
    const [missing, missingStill] = await askTwice(bed, "/missing");
    assert.deepEqual([missing.status, missingStill.status, isSettled(missingStill)], [404, 404, false]);
    assert.equal((await ask(bed, "b.localhost", "/plain.txt")).status, 404);
    assert.equal((await ask(bed, "a.localhost", "/plain.txt?a=1")).headers["x-route"], "/plain.txt");
  });

  test("what routing decided by a header is never settled", async () => {
    await using bed = await openTestbed({ a: site });
    for (let round = 0; round < 2; round++) {
      const named = await ask(bed, "a.localhost", "/personal", { headers: { cookie: "name=me" } });
      assert.deepEqual([named.status, isSettled(named)], [200, false]);
      assert.equal((await ask(bed, "a.localhost", "/personal")).status, 404);
      assert.equal((await ask(bed, "a.localhost", "/greets-nobody")).status, 200);
      assert.equal((await ask(bed, "a.localhost", "/greets-nobody", { headers: { "x-name": "me" } })).status, 404);
    }
  });

  test("a kept answer of a Function, while it is fresh and not purged; never to those who may not be given it", async () => {
    let runs = 0;
    const dated = "Thu, 01 Jan 2026 00:00:00 GMT";
    const kept = {
      headers: ["date", dated, "content-type", "text/plain", "cache-control", "s-maxage=10", "vary", "x-language", "etag", '"e"'],
    };
    await using bed = await openTestbed({
      a: { functions: { "api/kept": ({ url, headers }) => answer(`${++runs} ${url} ${headers.includes("de") ? "de" : "en"}`, kept) } },
    });
    const of = async (headers: Record<string, string> = {}, path = "/api/kept") => {
      const asked = await ask(bed, "a.localhost", path, { headers: { connection: "keep-alive", ...headers } });
      assert.equal(asked.headers.date, dated);
      return [asked.body, asked.headers["x-vercel-cache"], asked.headers.age, isSettled(asked)];
    };
    assert.deepEqual(await of(), ["1 /api/kept en", "MISS", undefined, false]);
    assert.deepEqual((await of()).slice(0, 2), ["1 /api/kept en", "HIT"]);
    bed.skip(3000);
    assert.deepEqual(await of(), ["1 /api/kept en", "HIT", "3", true]);
    assert.deepEqual((await of({ "x-language": "de" })).slice(0, 2), ["2 /api/kept de", "MISS"]);
    assert.deepEqual(await of({ "x-language": "de" }), ["2 /api/kept de", "HIT", "0", true]);
    assert.deepEqual((await of()).slice(0, 1), ["1 /api/kept en"]);
    assert.equal((await ask(bed, "a.localhost", "/api/kept", { headers: { "if-none-match": '"e"' } })).status, 304);
    assert.deepEqual((await of({ authorization: "Basic eA==" })).slice(0, 2), ["3 /api/kept en", "MISS"]);
    assert.deepEqual((await of({}, "/api/kept?q")).slice(0, 2), ["4 /api/kept?q en", "MISS"]);
    bed.skip(8000);
    assert.deepEqual((await of()).slice(0, 2), ["5 /api/kept en", "MISS"]);
    assert.deepEqual((await of()).slice(1), ["HIT", "0", true]);
    await bed.purges.add([{ tag: null, mode: "delete" }], bed.now());
    bed.skip(1);
    assert.deepEqual((await of()).slice(0, 2), ["6 /api/kept en", "MISS"]);
  });

  test("a host that names another deployment is answered by that one from the next request on", async () => {
    let current = "a.localhost";
    await using bed = await openTestbed({ a: { files: { "index.html": "one" } }, b: { files: { "index.html": "two" } } }, {}, undefined, {
      index: (index) => ({ resolve: () => index.resolve(current), recall: () => index.recall(current) }),
    });
    const [, first] = await askTwice(bed, "/");
    assert.deepEqual([first.body, isSettled(first)], ["one", true]);
    current = "b.localhost";
    assert.equal((await ask(bed, "a.localhost", "/")).body, "two");
    current = "a.localhost";
    assert.equal((await ask(bed, "a.localhost", "/")).body, "one");
  });

  test("no more addresses are remembered than the setting says", async () => {
    await using bed = await openTestbed({ a: site }, { MAYFLY_SETTLED_ANSWERS_MAX: "2" });
    for (const query of ["?1", "?2", "?3"]) await askTwice(bed, `/plain.txt${query}`);
    assert.ok(!isSettled(await ask(bed, "a.localhost", "/plain.txt?1")));
    assert.ok(isSettled(await ask(bed, "a.localhost", "/plain.txt?3")));
  });
});
