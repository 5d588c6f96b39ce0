/** The gateway through its front door: hosts, statics, Functions, the control plane, errors, limits, and its end. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { MayflyError } from "../errors.ts";
import { answer, ask, open, openTestbed, talk, type FakeFunction, type Testbed } from "./testbed.ts";

const big = Buffer.alloc(3_000_000, "0123456789");

describe("static files", () => {
  const site = {
    files: {
      "index.html": "<h1>hi</h1>",
      "404.html": "<h1>not here</h1>",
      "app.js": "alert(1)",
      "data.json": "{}",
      "blob.unknown": "x",
      about: { content: "<p>about</p>", contentType: "text/html" },
      "empty.txt": "",
      'näme "q".txt': "odd",
      "big.bin": big,
    },
    routes: [{ src: "/app\\.js", headers: { "cache-control": "public, max-age=31536000, immutable", "x-own": "1" }, continue: true }],
  };

  test("headers, types, HEAD, 304, 405", async () => {
    await using bed = await openTestbed({ a: site });
    const page = await ask(bed, "a.localhost", "/");
    assert.equal(page.status, 200);
    assert.equal(page.body, "<h1>hi</h1>");
    assert.equal(page.headers["content-type"], "text/html; charset=utf-8");
    assert.equal(page.headers["cache-control"], "public, max-age=0, must-revalidate");
    assert.equal(page.headers["content-length"], "11");
    assert.equal(page.headers["content-disposition"], 'inline; filename="index.html"');
    assert.equal(page.headers["x-vercel-cache"], "HIT");
    assert.equal(page.headers.server, "Mayfly");
    assert.match(String(page.headers["x-vercel-id"]), /^dev1::[0-9a-z]{16}$/);
    assert.match(String(page.headers["server-timing"]), /^host;dur=[\d.]+, route;dur=[\d.]+/);
    assert.match(String(page.headers.etag), /^"[0-9a-f]{64}"$/);

    const head = await ask(bed, "a.localhost", "/", { method: "HEAD" });
    assert.deepEqual([head.status, head.body, head.headers["content-length"], head.headers.etag], [200, "", "11", page.headers.etag]);
    for (const tag of [page.headers.etag!, `"other", W/${page.headers.etag}`, "*"]) {
      const same = await ask(bed, "a.localhost", "/", { headers: { "if-none-match": tag } });
      assert.deepEqual([same.status, same.body, same.headers.etag], [304, "", page.headers.etag]);
      assert.equal(same.headers["cache-control"], "public, max-age=0, must-revalidate");
    }
    assert.equal((await ask(bed, "a.localhost", "/", { headers: { "if-none-match": '"other"' } })).status, 200);

    const post = await ask(bed, "a.localhost", "/", { method: "POST", body: "x" });
    assert.deepEqual([post.status, post.headers.allow, post.headers["x-vercel-error"]], [405, "GET, HEAD", "METHOD_NOT_ALLOWED"]);

    const type = async (path: string) => (await ask(bed, "a.localhost", path)).headers["content-type"];
    assert.equal(await type("/app.js"), "text/javascript; charset=utf-8");
    assert.equal(await type("/data.json"), "application/json; charset=utf-8");
    assert.equal(await type("/blob.unknown"), "application/octet-stream");
    assert.equal(await type("/about"), "text/html; charset=utf-8");
    const own = await ask(bed, "a.localhost", "/app.js");
    assert.equal(own.headers["cache-control"], "public, max-age=31536000, immutable");
    assert.equal(own.headers["x-own"], "1");
    const odd = await ask(bed, "a.localhost", "/n%C3%A4me%20%22q%22.txt");
    assert.equal(odd.headers["content-disposition"], `inline; filename="n_me _q_.txt"; filename*=UTF-8''n%C3%A4me%20%22q%22.txt`);
    assert.equal((await ask(bed, "a.localhost", "/empty.txt")).headers["content-length"], "0");
  });

  for (const [where, settings] of [
    ["memory", {}],
    ["the blobs", { MAYFLY_STATIC_FILE_MEMORY_BYTES_MAX: "0" }],
  ] as const) {
    test(`ranges, from ${where}`, async () => {
      await using bed = await openTestbed({ a: site }, settings);
      const range = async (value: string, more: Record<string, string> = {}) =>
        ask(bed, "a.localhost", "/app.js", { headers: { range: value, ...more } });
      const whole = await ask(bed, "a.localhost", "/app.js");
      assert.equal(whole.body, "alert(1)");
      for (const [value, body, said] of [
        ["bytes=0-4", "alert", "bytes 0-4/8"],
        ["bytes=5-", "(1)", "bytes 5-7/8"],
        ["bytes=-3", "(1)", "bytes 5-7/8"],
        ["bytes=-99", "alert(1)", "bytes 0-7/8"],
        ["bytes=6-99", "1)", "bytes 6-7/8"],
      ] as const) {
        const part = await range(value);
        assert.deepEqual(
          [part.status, part.body, part.headers["content-range"], part.headers["content-length"]],
          [206, body, said, String(body.length)],
        );
      }
      for (const value of ["bytes=8-", "bytes=-0", "bytes=99-100"]) {
        const none = await range(value);
        assert.deepEqual([none.status, none.headers["content-range"]], [416, "bytes */8"]);
      }
      const overlapping = `bytes=${Array.from({ length: 1000 }, () => "0-").join()}`;
      assert.deepEqual([(await range(overlapping)).status, (await range(overlapping)).body], [200, "alert(1)"]);
      for (const value of ["bytes=0-1,3-4", "lines=1-2", "bytes=4-2", "bytes=-", "nonsense"])
        assert.equal((await range(value)).status, 200, value);
      assert.equal((await range("bytes=0-1", { "if-range": '"old"' })).status, 200);
      assert.equal((await range("bytes=0-1", { "if-range": whole.headers.etag! })).status, 206);
      assert.equal((await ask(bed, "a.localhost", "/empty.txt", { headers: { range: "bytes=0-" } })).status, 416);
    });
  }

  test("compressed variants: by weight, each with its own ETag, made once; ranges are of the file as it is", async () => {
    const page = "<p>hello</p>".repeat(2000);
    await using bed = await openTestbed({
      a: {
        files: { "index.html": page, "photo.jpg": "x".repeat(2000), "tiny.txt": "hi", "done.svgz.svg": page },
        routes: [{ src: "/done.*", headers: { "content-encoding": "gzip" }, continue: true }],
      },
    });
    const decode = { br: brotliDecompressSync, zstd: zstdDecompressSync, gzip: gunzipSync } as const;
    const tags = new Set<unknown>();
    for (const [accept, coding] of [
      ["br, gzip, zstd", "br"],
      ["gzip;q=1, br;q=0.5", "gzip"],
      ["zstd", "zstd"],
      ["*", "br"],
      ["br;q=0, *;q=0.1", "zstd"],
    ] as const) {
      const response = await open(bed, "a.localhost", "/", { headers: { "accept-encoding": accept } });
      const bytes = await buffer(response);
      assert.deepEqual([response.headers["content-encoding"], response.headers.vary], [coding, "accept-encoding"], accept);
      assert.equal(response.headers["content-length"], String(bytes.length));
      assert(bytes.length < 1000);
      assert.equal(decode[coding](bytes).toString(), page);
      tags.add(response.headers.etag);
      const same = await ask(bed, "a.localhost", "/", { headers: { "accept-encoding": accept, "if-none-match": response.headers.etag! } });
      assert.deepEqual([same.status, same.headers["content-encoding"]], [304, undefined]);
    }
    assert.equal(tags.size, 3);
    for (const accept of ["", "identity", "deflate", "br;q=0", "gzip;q=0.1, identity;q=0.5"]) {
      const plain = await ask(bed, "a.localhost", "/", { headers: { "accept-encoding": accept } });
      assert.deepEqual(
        [plain.body.length, plain.headers["content-encoding"], plain.headers.vary],
        [page.length, undefined, "accept-encoding"],
        accept,
      );
    }
    const gzip = { "accept-encoding": "gzip" };
    const part = await ask(bed, "a.localhost", "/", { headers: { ...gzip, range: "bytes=0-2" } });
    assert.deepEqual([part.status, part.body, part.headers["content-encoding"]], [206, "<p>", undefined]);
    for (const path of ["/photo.jpg", "/tiny.txt"])
      assert.equal((await ask(bed, "a.localhost", path, { headers: gzip })).headers["content-encoding"], undefined);
    assert.equal((await ask(bed, "a.localhost", "/done.svgz.svg", { headers: gzip })).body, page);
  });

  test("large files stream whole, and a client that leaves harms nothing", async () => {
    await using bed = await openTestbed({ a: site });
    const gone = await open(bed, "a.localhost", "/big.bin");
    gone.destroy();
    const response = await open(bed, "a.localhost", "/big.bin");
    assert((await buffer(response)).equals(big));
    assert.equal(response.headers["content-length"], String(big.length));
  });

  test("a directory without an index is listed when the project asks for it; Functions are files with λ", async () => {
    const parts = {
      files: { "docs/a<b>.txt": "x", "docs/deep/c.txt": "xyz", "docs/näme.txt": "", "full/index.html": "full" },
      functions: { "docs/api": () => answer("λ") },
    };
    await using bed = await openTestbed({ a: { ...parts, manifest: () => ({ directoryListing: true }) }, b: parts });
    const docs = await ask(bed, "a.localhost", "/docs/");
    assert.equal(docs.status, 200);
    assert.match(docs.body, /<h1>Index of \/docs\/<\/h1>/);
    assert.match(docs.body, /href="\/docs\/a%3Cb%3E\.txt"><span class="name">a&lt;b&gt;\.txt<\/span>/);
    assert.match(docs.body, /href="\/docs\/api".*λ/);
    assert.match(docs.body, /href="\/docs\/deep\/"/);
    assert.match(docs.body, /href="\/"><span class="name">\.\./);
    assert.match(String(docs.headers["content-security-policy"]), /default-src 'none'/);
    assert.match((await ask(bed, "a.localhost", "/")).body, /docs\//);
    assert.equal((await ask(bed, "a.localhost", "/docs/deep")).status, 200);
    assert.equal((await ask(bed, "a.localhost", "/docs/n%C3%A4me.txt")).status, 200);
    assert.equal((await ask(bed, "a.localhost", "/full")).body, "full");
    assert.equal((await ask(bed, "a.localhost", "/nothing/")).status, 404);
    assert.equal((await ask(bed, "b.localhost", "/docs/")).status, 404);
  });

  test("a missing path gets the deployment's own 404.html", async () => {
    await using bed = await openTestbed({ a: site, b: { files: { "index.html": "b" } } });
    const missing = await ask(bed, "a.localhost", "/nope");
    assert.deepEqual([missing.status, missing.body, missing.headers["x-vercel-error"]], [404, "<h1>not here</h1>", "NOT_FOUND"]);
    // Its validators are those of the page, not of what was asked for.
    const again = await ask(bed, "a.localhost", "/nope", { headers: { "if-none-match": "*", range: "bytes=0-1" } });
    assert.equal(again.status, 404);
    assert.equal((await ask(bed, "a.localhost", "/nope", { method: "POST" })).status, 404);
    const plain = await ask(bed, "b.localhost", "/nope");
    assert.match(plain.body, /^The page could not be found\n\nNOT_FOUND\n\ndev1::[0-9a-z]{16}\n$/);
  });
});

describe("hosts", () => {
  test("spelling, unknown, malformed, absolute form", async () => {
    await using bed = await openTestbed({ a: { files: { "index.html": "A" } }, b: { files: { "index.html": "B" } } });
    for (const host of ["a.localhost", "A.LocalHost", "a.localhost:80", `a.localhost:${bed.port}`, "a.localhost.", "a.localhost.:1"]) {
      assert.equal((await ask(bed, host, "/")).body, "A", host);
    }
    const unknown = await ask(bed, "c.localhost", "/");
    assert.deepEqual([unknown.status, unknown.headers["x-vercel-error"]], [404, "DEPLOYMENT_NOT_FOUND"]);
    assert.match(unknown.body, /^There is no deployment at this address\n\nDEPLOYMENT_NOT_FOUND\n/);

    const raw = (head: string) => talk(bed, `${head}\r\nConnection: close\r\n\r\n`);
    for (const host of [
      "user@a.localhost",
      "a.localhost/x",
      "a..localhost",
      "a.localhost:99999",
      "a b",
      "",
      "a.localhost,b.localhost",
      "[::1",
      "ä.localhost",
      "x".repeat(64),
    ]) {
      assert.match(await raw(`GET / HTTP/1.1\r\nHost: ${host}`), /^HTTP\/1\.1 400 /, host);
    }
    assert.match(await raw("GET / HTTP/1.1\r\nHost: a.localhost\r\nHost: b.localhost"), /^HTTP\/1\.1 400 /);
    assert.match(await raw("GET / HTTP/1.1"), /^HTTP\/1\.1 400 /);
    assert.match(await raw("GET / HTTP/1.0"), /^HTTP\/1\.1 400 [^]*BAD_REQUEST/);
    assert.match(await raw("OPTIONS * HTTP/1.1\r\nHost: a.localhost"), /^HTTP\/1\.1 400 /);
    assert.match(await raw("GET / HTTP/1.0\r\nHost: b.localhost"), /^HTTP\/1\.1 200 [^]*\r\n\r\nB$/);

    assert.match(await raw("GET http://b.localhost/ HTTP/1.1\r\nHost: a.localhost"), /\r\n\r\nB$/);
    assert.match(await raw("GET http://b.localhost HTTP/1.1\r\nHost: a.localhost"), /\r\n\r\nB$/);
    assert.match(await raw("GET HTTP://B.localhost:99/?x HTTP/1.1\r\nHost: whatever"), /\r\n\r\nB$/);
    assert.match(await raw("GET http://user@b.localhost/ HTTP/1.1\r\nHost: a.localhost"), /^HTTP\/1\.1 400 /);
    assert.match(await raw("GET http:///etc HTTP/1.1\r\nHost: a.localhost"), /^HTTP\/1\.1 400 /);
    assert.match(await raw("GET ftp://b.localhost/ HTTP/1.1\r\nHost: a.localhost"), /^HTTP\/1\.1 400 /);
  });

  test("health on every host", async () => {
    await using bed = await openTestbed({});
    for (const host of ["nowhere.localhost", "localhost", "127.0.0.1"]) {
      const health = await ask(bed, host, "/_mayfly/health?x");
      assert.deepEqual([health.status, JSON.parse(health.body)], [200, { status: "ok", region: "dev1" }]);
    }
  });
});

describe("Functions", () => {
  test("what goes in: headers of the platform only from the platform, nothing hop-by-hop", async () => {
    const seen: Parameters<FakeFunction>[0][] = [];
    await using bed = await openTestbed({
      a: {
        functions: {
          "api/[id]": (invocation) => {
            seen.push(invocation);
            return answer("ok");
          },
        },
        routes: [
          { src: "/stolen", has: [{ type: "header", key: "x-vercel-ip-country", value: "XX" }], status: 403 },
          { handle: "filesystem" },
          { src: "^/(?:api|stolen)/?(.*)$", dest: "/api/[id]?id=$1", check: true },
        ],
      },
    });
    const response = await ask(bed, "A.localhost:8080", "/api/7?q=1&q=2", {
      headers: {
        "X-Vercel-Id": "forged",
        "x-vercel-ip-country": "XX",
        x_vercel_id: "forged",
        "x-now-thing": "forged",
        "x-matched-path": "/admin",
        "x-invocation-id": "forged",
        "x-middleware-subrequest": "middleware",
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-host": "evil.example",
        forwarded: "for=6.6.6.6",
        "x-real-ip": "6.6.6.6",
        "x-mayfly-start": "hot",
        connection: "close, x-private",
        "x-private": "hop",
        te: "trailers",
        cookie: "_mayfly_view=v1.sealed; a=b; _mayfly_view =; not_mayfly_view=c",
        "x-own": "kept",
      },
    });
    assert.equal(response.status, 200);
    const [invocation] = seen;
    assert(invocation !== undefined);
    assert.equal(invocation.url, "/api/7?q=1&q=2&id=7");
    assert.equal(invocation.body, null);
    const pairs: [string, string][] = [];
    for (let index = 0; index < invocation.headers.length; index += 2)
      pairs.push([invocation.headers[index]!, invocation.headers[index + 1]!]);
    const headers = Object.fromEntries(pairs);
    assert.equal(pairs.length, Object.keys(headers).length, "no header twice");
    assert.deepEqual(headers, {
      cookie: "a=b; not_mayfly_view=c",
      "x-own": "kept",
      host: "a.localhost:8080",
      "x-forwarded-host": "a.localhost:8080",
      "x-forwarded-proto": "http",
      "x-forwarded-port": "8080",
      "x-forwarded-for": "127.0.0.1",
      "x-vercel-forwarded-for": "127.0.0.1",
      "x-real-ip": "127.0.0.1",
      "x-vercel-id": `dev1::${invocation.id}`,
      "x-invocation-id": `dev1::${invocation.id}`,
      "x-vercel-deployment-url": "a-123456789.localhost",
      "x-matched-path": "/api/[id]",
    });
    assert.equal(response.headers["x-vercel-id"], `dev1::dev1::${invocation.id}`);
    assert.equal((await ask(bed, "a.localhost", "/stolen", { headers: { "x-vercel-ip-country": "XX" } })).status, 200);
  });

  test("what comes out: its headers, not the platform's; routes add, and override when important", async () => {
    await using bed = await openTestbed({
      a: {
        functions: {
          f: () =>
            answer("body", {
              status: 201,
              headers: ["Content-Type", "text/x", "set-cookie", "a=1", "set-cookie", "b=2", "server", "evil", "x-vercel-id", "forged"]
                .concat([
                  "x-vercel-cache",
                  "HIT",
                  "x-mayfly-start",
                  "hot",
                  "connection",
                  "x-hop",
                  "x-hop",
                  "1",
                  "keep-alive",
                  "9",
                  "x-own",
                  "f",
                ])
                .concat(["x-both", "f", "server-timing", "db;dur=5"]),
            }),
        },
        routes: [
          { src: "/.*", headers: { "x-own": "route", "x-new": "route" }, continue: true },
          { src: "/.*", headers: { "x-both": "route" }, important: true, continue: true },
        ],
      },
    });
    const { status, headers, rawHeaders, body } = await ask(bed, "a.localhost", "/f");
    assert.deepEqual([status, body], [201, "body"]);
    assert.deepEqual(headers["set-cookie"], ["a=1", "b=2"]);
    assert.equal(headers.server, "Mayfly");
    assert.match(String(headers["x-vercel-id"]), /^dev1::/);
    assert.deepEqual([headers["x-vercel-cache"], headers["x-mayfly-start"]], ["MISS", "hot"]);
    assert.deepEqual([headers["x-own"], headers["x-new"], headers["x-both"]], ["f", "route", "route"]);
    assert.equal(headers["x-hop"], undefined);
    assert.match(String(headers["server-timing"]), /queue;dur=0\.10/);
    assert.match(String(headers["server-timing"]), /db;dur=5/);
    assert.equal(rawHeaders.filter((name) => name.toLowerCase() === "x-vercel-id").length, 1);
  });

  test("both ways at once, as streams", async () => {
    await using bed = await openTestbed({
      a: { functions: { echo: ({ body }) => answer(body!.map((chunk: Buffer) => Buffer.from(chunk.toString().toUpperCase()))) } },
    });
    const up = new PassThrough();
    up.write("one");
    const response = await open(bed, "a.localhost", "/echo", { method: "POST", body: up });
    const chunks = response[Symbol.asyncIterator]();
    assert.equal(String((await chunks.next()).value), "ONE");
    up.write("two");
    assert.equal(String((await chunks.next()).value), "TWO");
    up.end();
    assert.equal((await chunks.next()).done, true);
  });

  test("the head does not wait for the body, and a slow client slows the Function down", async () => {
    let made = 0;
    let finish = (): void => {};
    await using bed = await openTestbed({
      a: {
        functions: {
          slow: () =>
            answer(
              new Readable({
                read() {
                  finish = () => this.push(null);
                },
              }),
            ),
          endless: () =>
            answer(
              new Readable({
                read() {
                  made += 65_536;
                  this.push(Buffer.alloc(65_536));
                },
              }),
            ),
        },
      },
    });
    const slow = await open(bed, "a.localhost", "/slow");
    assert.equal(slow.statusCode, 200);
    finish();
    assert.equal(await text(slow), "");
    const endless = await open(bed, "a.localhost", "/endless");
    await sleep(100);
    const first = made;
    await sleep(100);
    assert.equal(made, first, "production stops while nobody reads");
    assert(made < 32 * 1024 * 1024, `${made} bytes are buffered`);
    endless.destroy();
  });

  test("HEAD, 204 and bodies of a status without one", async () => {
    await using bed = await openTestbed({
      a: {
        functions: { f: () => answer("body", { headers: ["content-length", "4"] }), none: () => answer("", { status: 204, headers: [] }) },
      },
    });
    const head = await ask(bed, "a.localhost", "/f", { method: "HEAD" });
    assert.deepEqual([head.status, head.body, head.headers["content-length"]], [200, "", "4"]);
    assert.equal((await ask(bed, "a.localhost", "/none")).status, 204);
  });

  test("a body beyond the limit: 413 at once when announced, cut off when not, and a log line", async () => {
    const got: string[] = [];
    await using bed = await openTestbed(
      {
        a: {
          functions: {
            async f({ body, signal }) {
              let size = 0;
              try {
                for await (const chunk of body!) size += (chunk as Buffer).length;
              } catch {
                got.push(`cut at ${size}, aborted: ${signal.aborted}`);
                throw new MayflyError("NO_RESPONSE_FROM_FUNCTION");
              }
              return answer(String(size));
            },
          },
        },
      },
      { MAYFLY_FUNCTION_BODY_BYTES_MAX: "100000" },
    );
    const post = (body: Buffer | Readable, headers: Record<string, string> = {}) =>
      ask(bed, "a.localhost", "/f", { method: "POST", body, headers: { accept: "application/json", ...headers } });
    assert.equal((await post(Buffer.alloc(100_000))).body, "100000");
    assert.equal((await post(Readable.from([Buffer.alloc(60_000), Buffer.alloc(40_000)]))).body, "100000");

    const announced = await post(Buffer.alloc(100_001));
    assert.deepEqual([announced.status, announced.headers["x-vercel-error"]], [413, "FUNCTION_PAYLOAD_TOO_LARGE"]);
    assert.match(JSON.parse(announced.body).error.message, /100001 bytes; a Function accepts 100000/);
    assert.deepEqual(got, []);

    const streamed = await post(
      Readable.from(
        (function* () {
          for (let count = 0; count < 50; count++) yield Buffer.alloc(10_000);
        })(),
      ),
    );
    assert.equal(streamed.status, 413);
    assert.equal(got.length, 1);
    assert.match(got[0]!, /^cut at \d{1,6}, aborted: true$/);

    assert.equal(bed.logged.length, 2);
    const [line] = bed.logged;
    assert.deepEqual([line?.deploymentId, line?.functionName, line?.stream, line?.source], ["dpl_a", "f", "system", "function"]);
    assert.match(line!.text, /^413 FUNCTION_PAYLOAD_TOO_LARGE: POST \/f has a body of 100001 bytes/);
    assert.equal(`dev1::${line!.invocationId}`, announced.headers["x-vercel-id"]);

    // Nobody is asked to send a body that is refused.
    const expecting = await talk(bed, "POST /f HTTP/1.1\r\nHost: a.localhost\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n");
    assert.match(expecting, /^HTTP\/1\.1 413 /);
    assert.match(
      await talk(bed, "POST /f HTTP/1.1\r\nHost: a.localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"),
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 [^]*\r\n3\r\n/,
    );
  });

  test("a client that leaves aborts the invocation", async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    await using bed = await openTestbed({
      a: {
        functions: {
          waits: ({ signal }) =>
            new Promise((_, reject) => {
              signal.addEventListener("abort", () => {
                resolve("before the head");
                reject(new MayflyError("FUNCTION_INVOCATION_FAILED"));
              });
            }),
          streams: ({ signal }) => {
            signal.addEventListener("abort", () => resolve2("after it"));
            return answer(new PassThrough());
          },
        },
      },
    });
    const { promise: promise2, resolve: resolve2 } = Promise.withResolvers<string>();
    const socket = connect(bed.port, "127.0.0.1", () => socket.write("GET /waits HTTP/1.1\r\nHost: a.localhost\r\n\r\n"));
    await sleep(50);
    socket.destroy();
    assert.equal(await promise, "before the head");
    const response = await open(bed, "a.localhost", "/streams");
    response.destroy();
    assert.equal(await promise2, "after it");
  });

  test("failing before the head: its page or ours; after it: the connection breaks", async () => {
    const fails = (code: ConstructorParameters<typeof MayflyError>[0]) => () => {
      throw new MayflyError(code);
    };
    const functions = {
      crash: fails("FUNCTION_INVOCATION_FAILED"),
      late: fails("FUNCTION_INVOCATION_TIMEOUT"),
      odd: () => answer("", { headers: ["bad header", "x"] }),
      half: () => {
        const body = new PassThrough();
        body.write("half");
        setTimeout(() => body.destroy(new Error("died")), 20);
        return answer(body);
      },
    };
    await using bed = await openTestbed({
      a: { functions },
      b: {
        functions: { ...functions, error: ({ body, url }) => answer(`own page ${url} ${body === null}`, { status: 200, headers: [] }) },
        routes: [{ handle: "error" }, { src: "/late", status: 504, dest: "/nothing" }, { src: "/.*", status: 500, dest: "/error?x=1" }],
      },
    });
    const crash = await ask(bed, "a.localhost", "/crash", { headers: { accept: "text/html" } });
    assert.deepEqual([crash.status, crash.headers["x-vercel-error"]], [500, "FUNCTION_INVOCATION_FAILED"]);
    assert.match(crash.body, /^<!doctype html>/);
    assert.equal((await ask(bed, "a.localhost", "/late")).status, 504);
    assert.deepEqual(
      [(await ask(bed, "a.localhost", "/odd")).status, (await ask(bed, "a.localhost", "/odd")).headers["x-vercel-error"]],
      [502, "FUNCTION_RESPONSE_INVALID"],
    );

    const own = await ask(bed, "b.localhost", "/crash", { method: "POST", body: "spent" });
    assert.deepEqual(
      [own.status, own.body, own.headers["x-vercel-error"]],
      [500, "own page /error?x=1 true", "FUNCTION_INVOCATION_FAILED"],
    );
    assert.equal((await ask(bed, "b.localhost", "/late")).headers["x-vercel-error"], "FUNCTION_INVOCATION_TIMEOUT");

    const half = await open(bed, "a.localhost", "/half");
    await assert.rejects(text(half), /aborted/);
  });

  test("redirects, empty answers, other origins", async () => {
    await using bed = await openTestbed({
      a: {
        routes: [
          { src: "/old", status: 308, headers: { Location: "/new" } },
          { src: "/ping", status: 204, headers: { "x-pong": "1" } },
          { src: "/out", dest: "https://127.0.0.1/" },
        ],
      },
    });
    const old = await ask(bed, "a.localhost", "/old?x=1");
    assert.deepEqual(
      [old.status, old.headers.location, old.headers.refresh, old.body],
      [308, "/new?x=1", "0;url=/new?x=1", "Redirecting...\n"],
    );
    const ping = await ask(bed, "a.localhost", "/ping");
    assert.deepEqual([ping.status, ping.headers["x-pong"], ping.body], [204, "1", ""]);
    assert.equal((await ask(bed, "a.localhost", "/out")).headers["x-vercel-error"], "DNS_HOSTNAME_RESOLVED_PRIVATE");
  });
});

describe("the control plane", () => {
  async function listen(bed: Testbed, handler: Parameters<typeof createServer>[1]) {
    const server = createServer(handler!);
    const path = join(bed.directory, "control.sock");
    await new Promise<void>((resolve) => {
      server.listen(path, resolve);
    });
    bed.controlSocket = path;
    bed.atEnd(() => {
      server.closeAllConnections();
      server.close();
    });
  }

  test("503 as JSON while it is away", async () => {
    await using bed = await openTestbed({});
    for (const path of [null, join(bed.directory, "nobody.sock")]) {
      bed.controlSocket = path;
      const away = await ask(bed, "localhost", "/v2/user", { method: "POST", body: "{}" });
      assert.deepEqual([away.status, JSON.parse(away.body).error.code], [503, "CONTROL_PLANE_UNAVAILABLE"]);
      assert.equal(away.headers["x-vercel-error"], "CONTROL_PLANE_UNAVAILABLE");
    }
  });

  test("streams both ways, keeps the API's headers and tells where the request came from", async () => {
    await using bed = await openTestbed({});
    await listen(bed, async (request, response) => {
      if (request.url === "/slow") {
        response.write("first");
        return;
      }
      let size = 0;
      for await (const chunk of request) size += (chunk as Buffer).length;
      response.setHeader("x-ratelimit-limit", "9").setHeader("x-vercel-thing", "1");
      response.statusCode = 201;
      const { "x-now-digest": digest, "x-forwarded-for": from, host } = request.headers;
      response.end(JSON.stringify({ size, url: request.url, method: request.method, digest, from, host }));
    });
    const headers = { "x-now-digest": "abc", "x-forwarded-for": "6.6.6.6" };
    const up = await ask(bed, `localhost:${bed.port}`, "/v2/files?x=1", { method: "PUT", body: big, headers });
    assert.equal(up.status, 201);
    const said = { size: big.length, url: "/v2/files?x=1", method: "PUT", digest: "abc", from: "127.0.0.1", host: `localhost:${bed.port}` };
    assert.deepEqual(JSON.parse(up.body), said);
    assert.deepEqual([up.headers["x-ratelimit-limit"], up.headers["x-vercel-thing"], up.headers.server], ["9", "1", "Mayfly"]);
    const chunked = await ask(bed, "127.0.0.1", "/", { method: "POST", body: Readable.from(["a", "b"]) });
    assert.equal(JSON.parse(chunked.body).size, 2);
    assert.equal((await ask(bed, "[::1]", "/")).status, 201);
    const slow = await open(bed, "localhost", "/slow");
    assert.equal(String((await slow[Symbol.asyncIterator]().next()).value), "first");
  });

  test("connections are kept; one that was closed meanwhile is no error, and a client that leaves ends its call", async () => {
    await using bed = await openTestbed({});
    let connections = 0;
    const { promise: gone, resolve: leave } = Promise.withResolvers<void>();
    const sockets = new Set<Socket>();
    await listen(bed, (request, response) => {
      sockets.add(request.socket);
      connections = sockets.size;
      if (request.url === "/events") {
        response.write("{}\n");
        response.once("close", leave);
      } else response.end(request.url);
    });
    for (let round = 0; round < 5; round++) assert.equal((await ask(bed, "localhost", `/${round}`)).body, `/${round}`);
    assert.equal(connections, 1);
    for (let round = 0; round < 20; round++) {
      for (const socket of sockets) socket.destroy();
      assert.equal((await ask(bed, "localhost", "/again")).body, "/again");
    }
    const events = await open(bed, "localhost", "/events");
    assert.equal(String((await events[Symbol.asyncIterator]().next()).value), "{}\n");
    events.destroy();
    await gone;
  });

  test("an answer before the body's end arrives; a broken answer is seen as broken", async () => {
    await using bed = await openTestbed({});
    await listen(bed, (request, response) => {
      if (request.url === "/breaks") {
        response.writeHead(200, { "content-length": "100" });
        response.write("part");
        setTimeout(() => response.destroy(), 20);
      } else {
        response.writeHead(401);
        response.end("no");
      }
    });
    const early = await ask(bed, "localhost", "/", { method: "POST", body: big });
    assert.deepEqual([early.status, early.body], [401, "no"]);
    await assert.rejects(ask(bed, "localhost", "/breaks"), /aborted/);
  });
});

describe("limits and the end", () => {
  test("malformed, too long, too large, too slow", async () => {
    await using bed = await openTestbed({ a: { files: { "index.html": "A" } } }, { MAYFLY_HEADERS_MS_MAX: "1000" });
    for (const bytes of [
      "nonsense\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nbad header: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]) {
      assert.match(await talk(bed, bytes), /^HTTP\/1\.1 400 Bad Request\r\n[^]*x-vercel-error: BAD_REQUEST\r\n[^]*BAD_REQUEST\n/, bytes);
    }
    const long = await ask(bed, "a.localhost", `/${"a".repeat(14_400)}`);
    assert.deepEqual([long.status, long.headers["x-vercel-error"]], [414, "URI_TOO_LONG"]);
    const fat = await talk(bed, `GET / HTTP/1.1\r\nHost: a.localhost\r\nx: ${"a".repeat(40_000)}\r\n\r\n`);
    assert.match(fat, /^HTTP\/1\.1 431 [^]*REQUEST_HEADER_TOO_LARGE/);
    assert.match(await talk(bed, "GET / HTTP/1.1\r\nHost: a.localhost\r\n"), /^HTTP\/1\.1 408 [^]*REQUEST_TIMEOUT/);
    assert.equal((await ask(bed, "a.localhost", "/")).body, "A");
  });

  test("an unread body does not hold its connection", async () => {
    await using bed = await openTestbed({ a: { files: { "index.html": "A" } } });
    const begin = Date.now();
    const reply = await talk(bed, "POST / HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 1000\r\n\r\nonly this");
    assert.match(reply, /^HTTP\/1\.1 405 /);
    assert(Date.now() - begin < 4000);
  });

  test("drain: requests in flight finish, new connections are refused, the rest is cut off", async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    await using bed = await openTestbed({
      a: {
        functions: {
          async slow() {
            await released;
            return answer("done");
          },
          endless: () => answer(new PassThrough()),
        },
      },
    });
    const inFlight = ask(bed, "a.localhost", "/slow", { headers: { connection: "keep-alive" } });
    const endless = await open(bed, "a.localhost", "/endless");
    const idle = connect(bed.port, "127.0.0.1");
    await sleep(50);
    const closing = bed.gateway.close(500);
    await sleep(50);
    await assert.rejects(ask(bed, "a.localhost", "/slow"), /ECONNREFUSED|ECONNRESET/);
    release();
    const done = await inFlight;
    assert.deepEqual([done.status, done.body, done.headers.connection], [200, "done", "close"]);
    const broken = assert.rejects(text(endless), /aborted/);
    await closing;
    await broken;
    idle.destroy();
  });
});

test("what breaks inside is a 500 with an id, and says nothing of itself", async (t) => {
  t.mock.method(console, "error", () => {});
  await using bed = await openTestbed({}, {}, { resolve: () => Promise.reject(new Error("secret detail")), recall: () => null });
  const broken = await ask(bed, "a.localhost", "/", { headers: { accept: "application/json" } });
  assert.equal(broken.status, 500);
  assert.deepEqual(Object.keys(JSON.parse(broken.body).error), ["code", "message", "id"]);
  assert.doesNotMatch(broken.body, /secret/);
});
