/** Compression of Functions' answers on their way: by what the client wishes, without holding a stream up, and never of what must not be touched. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { suite, test } from "node:test";
import {
  brotliDecompressSync,
  createBrotliDecompress,
  createGunzip,
  createZstdDecompress,
  gunzipSync,
  zstdDecompressSync,
} from "node:zlib";
import { answer, open, openTestbed, type FakeFunction, type Testbed } from "./testbed.ts";

const page = "<p>A paragraph that repeats itself.</p>\n".repeat(500);
const decompressed: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  br: brotliDecompressSync,
  gzip: gunzipSync,
  zstd: zstdDecompressSync,
};

function said(...headers: string[]): FakeFunction {
  return () => answer(page, { headers: ["content-type", "text/html", ...headers] });
}

async function fetched(bed: Testbed, path: string, acceptEncoding: string, more: Record<string, string> = {}, method = "GET") {
  const response = await open(bed, "a.localhost", path, { method, headers: { "accept-encoding": acceptEncoding, ...more } });
  const bytes = await buffer(response);
  const coding = response.headers["content-encoding"];
  const decode = coding === undefined || method === "HEAD" || response.statusCode === 304 ? undefined : decompressed[coding];
  return {
    status: response.statusCode,
    headers: response.headers,
    coding,
    size: bytes.length,
    text: (decode?.(bytes) ?? bytes).toString(),
  };
}

suite("compression of Functions' answers", { concurrency: true }, () => {
  test("each coding gives the Function's bytes; the head says what it is", async () => {
    const headers = ["content-length", String(page.length), "etag", '"a"', "accept-ranges", "bytes", "vary", "cookie"];
    await using bed = await openTestbed({ a: { functions: { page: said(...headers) } } });
    for (const coding of ["br", "gzip", "zstd"]) {
      const got = await fetched(bed, "/page", coding);
      assert.deepEqual([got.status, got.coding, got.text === page], [200, coding, true]);
      assert.ok(got.size < page.length / 4, `${coding}: ${got.size}`);
      const { etag, vary, "content-length": length, "accept-ranges": ranges } = got.headers;
      assert.deepEqual([etag, vary, length, ranges], ['W/"a"', "cookie, accept-encoding", undefined, undefined]);
      const head = await fetched(bed, "/page", coding, {}, "HEAD");
      assert.deepEqual([head.status, head.coding, head.size, head.headers.etag], [200, coding, 0, 'W/"a"']);
    }
    const plain = await fetched(bed, "/page", "identity");
    const { etag, vary, "content-length": length } = plain.headers;
    assert.deepEqual(
      [plain.coding, etag, vary, length, plain.text === page],
      [undefined, '"a"', "cookie, accept-encoding", String(page.length), true],
    );
    assert.equal((await fetched(bed, "/page", "br;q=0, gzip;q=0.2")).coding, "gzip");
  });

  test("what is coded, a part, small, no text, an event stream or not to be touched stays as it is", async () => {
    const small: FakeFunction = () => answer("small", { headers: ["content-type", "text/html", "content-length", "5"] });
    const typed =
      (type: string): FakeFunction =>
      () =>
        answer(page, { headers: ["content-type", type] });
    const functions: Record<string, FakeFunction> = {
      part: () => answer(page, { status: 206, headers: ["content-type", "text/html", "content-range", `bytes 0-9/${page.length}`] }),
      coded: said("content-encoding", "identity"),
      digest: said("content-digest", "sha-256=:AAAA:"),
      untouchable: said("cache-control", "public, No-Transform"),
      small,
      picture: typed("image/png"),
      events: typed("text/event-stream"),
      untyped: () => answer(page, { headers: [] }),
      empty: () => answer("", { status: 204, headers: ["content-type", "text/html"] }),
    };
    const routes = [{ src: "/by-route", headers: { "cache-control": "no-transform" }, dest: "/free" }];
    await using bed = await openTestbed({ a: { functions: { ...functions, free: said() }, routes } });
    for (const name of [...Object.keys(functions), "by-route"]) {
      const got = await fetched(bed, `/${name}`, "br, gzip, zstd");
      assert.ok(got.coding === undefined || got.coding === "identity", `${name}: ${got.coding}`);
      assert.equal(got.headers.vary, undefined, name);
    }
    assert.equal((await fetched(bed, "/free", "br, gzip, zstd")).coding, "br");
  });

  test("a stream is not held up: each chunk can be read before the next is made", async () => {
    let source = new PassThrough();
    await using bed = await openTestbed({ a: { functions: { live: () => answer(source, { headers: ["content-type", "text/plain"] }) } } });
    const decoders = { br: createBrotliDecompress, gzip: createGunzip, zstd: createZstdDecompress };
    for (const [coding, decoder] of Object.entries(decoders)) {
      source = new PassThrough();
      const response = await open(bed, "a.localhost", "/live", { headers: { "accept-encoding": coding } });
      assert.equal(response.headers["content-encoding"], coding);
      const text = response.pipe(decoder());
      text.setEncoding("utf8");
      for (const word of ["one", "two", "three"]) {
        source.write(word);
        assert.deepEqual(await once(text, "data"), [word]);
      }
      source.end("last");
      assert.deepEqual(await once(text, "data"), ["last"]);
    }
  });

  test("a large answer comes whole at the client's pace", async () => {
    const megabytes = 24;
    const chunk = Buffer.from(Array.from({ length: 65_536 }, (_, index) => 32 + ((index * 7919) % 90)));
    async function* chunks() {
      for (let sent = 0; sent < megabytes * 16; sent++) yield chunk;
    }
    const functions = { large: () => answer(Readable.from(chunks()), { headers: ["content-type", "text/plain"] }) };
    await using bed = await openTestbed({ a: { functions } });
    for (const [coding, decoder] of [
      ["gzip", createGunzip()],
      ["zstd", createZstdDecompress()],
    ] as const) {
      const response = await open(bed, "a.localhost", "/large", { headers: { "accept-encoding": coding } });
      assert.equal(response.headers["content-encoding"], coding);
      let bytes = 0;
      const decoded: Readable = response.pipe(decoder);
      for await (const part of decoded) bytes += (part as Buffer).length;
      assert.equal(bytes, megabytes * 1024 * 1024);
    }
  });

  test("an answer that breaks off does not look whole, and a client that goes frees its compressor", async () => {
    let isGone = false;
    const functions: Record<string, FakeFunction> = {
      breaks: () => {
        const body = new PassThrough();
        body.write(page);
        setTimeout(() => body.destroy(new Error("broken")), 20);
        return answer(body, { headers: ["content-type", "text/html"] });
      },
      endless: ({ signal }) => {
        signal.addEventListener("abort", () => (isGone = true));
        const body = new PassThrough();
        body.write(page);
        return answer(body, { headers: ["content-type", "text/html"] });
      },
      page: said(),
    };
    await using bed = await openTestbed({ a: { functions } }, { MAYFLY_COMPRESSIONS_MAX: "1" });
    await assert.rejects(fetched(bed, "/breaks", "gzip"), /aborted/);
    const endless = await open(bed, "a.localhost", "/endless", { headers: { "accept-encoding": "gzip" } });
    assert.equal(endless.headers["content-encoding"], "gzip");
    // There may be one; more go out as they are.
    assert.deepEqual(
      [(await fetched(bed, "/page", "gzip")).coding, (await fetched(bed, "/page", "gzip")).text === page],
      [undefined, true],
    );
    endless.destroy();
    let coding: string | undefined;
    const deadline = Date.now() + 20_000;
    while (coding === undefined && Date.now() < deadline) ({ coding } = await fetched(bed, "/page", "gzip"));
    assert.deepEqual([coding, isGone], ["gzip", true]);
  });

  test("kept answers are compressed once, and given so to those who wish it", async () => {
    let runs = 0;
    const kept: FakeFunction = () => {
      runs++;
      return answer(page, { headers: ["content-type", "text/html", "cache-control", "s-maxage=60", "etag", '"e"'] });
    };
    await using bed = await openTestbed({ a: { functions: { kept } } });
    assert.equal((await fetched(bed, "/kept", "identity")).headers["x-vercel-cache"], "MISS");
    for (let round = 0; round < 3; round++) {
      for (const coding of ["br", "gzip", "zstd"]) {
        const got = await fetched(bed, "/kept", coding);
        const { etag, vary, "content-length": length, "x-vercel-cache": cache } = got.headers;
        assert.deepEqual([got.coding, etag, vary, cache, got.text === page], [coding, 'W/"e"', "accept-encoding", "HIT", true]);
        assert.equal(length, String(got.size));
        if (round === 2) assert.equal(got.headers["server-timing"], "settled");
      }
      const plain = await fetched(bed, "/kept", "");
      assert.deepEqual(
        [plain.coding, plain.headers.vary, plain.headers.etag, plain.text === page],
        [undefined, "accept-encoding", '"e"', true],
      );
      const unchanged = await fetched(bed, "/kept", "br", { "if-none-match": 'W/"e"' });
      assert.deepEqual([unchanged.status, unchanged.coding, unchanged.size], [304, undefined, 0]);
    }
    assert.equal(runs, 1);
  });

  test("the settings turn it off", async () => {
    const settings = { MAYFLY_COMPRESSIONS_MAX: "0", MAYFLY_CACHE_VARIANTS_BYTES_MAX: "0" };
    await using bed = await openTestbed({ a: { functions: { free: said(), kept: said("cache-control", "s-maxage=60") } } }, settings);
    for (const path of ["/free", "/kept", "/kept", "/kept"]) {
      const got = await fetched(bed, path, "br");
      assert.deepEqual([got.coding, got.headers.vary, got.text === page], [undefined, undefined, true]);
    }
  });
});
