/** Pictures through the front door: made in a real sandbox, kept, negotiated, and what must not be had by way of them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { after, describe, test } from "node:test";
import sharp from "sharp";
import { scratchDirectory } from "../../test/scratch.ts";
import { MayflyError } from "../errors.ts";
import { pictureTag } from "../store/purges.ts";
import { bomb, movingGif, openDriver, openTestOptimiser, photo } from "../images/testbed.ts";
import { answer, openTestbed, type SiteParts, type Testbed } from "./testbed.ts";

const optimiser = openTestOptimiser(await openDriver());
after(() => optimiser.close());

const jpeg = await photo(400, 300).jpeg().toBuffer();
const svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>';
const images = { sizes: [64, 640], formats: ["image/avif", "image/webp"], minimumCacheTTL: 60, domains: [] as string[] };

function site(parts: SiteParts, more: object = {}): SiteParts {
  return { ...parts, manifest: () => ({ images: { ...images, ...more } }) };
}

interface PictureResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Short: `200 HIT webp 64`. */
  readonly says: string;
}

async function picture(
  bed: Testbed,
  url: string,
  { host = "a.localhost", query = "&w=64", accept = "image/webp,*/*", headers = {}, method = "GET" } = {},
): Promise<PictureResponse> {
  const path = `/_next/image?url=${encodeURIComponent(url)}${query}`;
  const request = httpRequest({ host: "127.0.0.1", port: bed.port, method, path, agent: false, headers: { host, accept, ...headers } });
  request.end();
  const [response] = await once(request, "response");
  const body = await buffer(response);
  const status = response.statusCode;
  const found =
    status === 200 && body.length > 0
      ? await sharp(body)
          .metadata()
          .catch(() => null)
      : null;
  const cache = response.headers["x-vercel-cache"] ?? response.headers["x-vercel-error"];
  return {
    status,
    headers: response.headers,
    body,
    says: [status, cache, ...(found === null ? [] : [found.format, found.width])].join(" "),
  };
}

async function openOrigin(listener: RequestListener) {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.dispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

describe("pictures", () => {
  test("of files are made once for each format, width and quality, and kept over a restart", async () => {
    const files = { "photos/sea side.jpg": jpeg, "same.jpg": jpeg };
    const directory = scratchDirectory();
    {
      await using bed = await openTestbed({ a: site({ files }), b: site({ files }) }, {}, undefined, { optimiser, directory });
      const made = await picture(bed, "/photos/sea%20side.jpg");
      assert.equal(made.says, "200 MISS webp 64");
      assert.equal(made.headers["content-type"], "image/webp");
      assert.equal(made.headers["vary"], "Accept");
      assert.equal(made.headers["cache-control"], "public, max-age=0, must-revalidate");
      assert.equal(made.headers["content-disposition"], 'inline; filename="sea side.webp"');
      assert.equal(made.headers["content-security-policy"], "script-src 'none'; frame-src 'none'; sandbox;");
      assert.equal((await picture(bed, "/photos/sea%20side.jpg")).says, "200 HIT webp 64");
      assert.equal((await picture(bed, "/photos/sea%20side.jpg", { query: "&w=64&q=30" })).says, "200 MISS webp 64");
      assert.equal((await picture(bed, "/photos/sea%20side.jpg", { accept: "image/avif,image/webp" })).says, "200 MISS heif 64");
      assert.equal((await picture(bed, "/photos/sea%20side.jpg", { accept: "*/*", query: "&w=640" })).says, "200 MISS jpeg 400");
      // The same file under another name, and in another deployment of the project.
      assert.equal((await picture(bed, "/same.jpg")).says, "200 HIT webp 64");
      assert.equal((await picture(bed, "/same.jpg", { host: "b.localhost" })).says, "200 HIT webp 64");
      const { etag = "" } = made.headers;
      assert.equal((await picture(bed, "/same.jpg", { headers: { "if-none-match": etag } })).status, 304);
      const head = await picture(bed, "/same.jpg", { method: "HEAD" });
      assert.deepEqual([head.status, head.body.length, head.headers["content-length"]], [200, 0, String(made.body.length)]);
      assert.equal((await picture(bed, "/same.jpg", { method: "POST" })).says, "405 METHOD_NOT_ALLOWED");
      assert.equal((await picture(bed, "/none.jpg")).says, "404 NOT_FOUND");
      assert.equal((await picture(bed, "/same.jpg", { query: "&w=65" })).says, "400 INVALID_IMAGE_OPTIMIZE_REQUEST");
    }
    await using bed = await openTestbed({ a: site({ files }) }, {}, undefined, { optimiser, directory });
    assert.equal((await picture(bed, "/same.jpg")).says, "200 HIT webp 64");
  });

  test("many at once for one picture have it fetched and made once", async () => {
    let calls = 0;
    const functions = {
      "api/photo": async () => {
        calls++;
        return answer(jpeg, { headers: ["content-type", "image/jpeg", "cache-control", "max-age=1000"] });
      },
    };
    await using bed = await openTestbed({ a: site({ functions }) }, {}, undefined, { optimiser });
    const all = await Promise.all(Array.from({ length: 20 }, () => picture(bed, "/api/photo?id=1")));
    // Who comes when it is made already has a hit.
    for (const { says } of all) assert.match(says, /^200 (?:MISS|HIT) webp 64$/);
    assert.equal(calls, 1);
    bed.skip(900_000);
    assert.equal((await picture(bed, "/api/photo?id=1")).says, "200 HIT webp 64");
    bed.skip(101_000);
    assert.equal((await picture(bed, "/api/photo?id=1")).says, "200 STALE webp 64");
    while ((await picture(bed, "/api/photo?id=1")).says !== "200 HIT webp 64") await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(calls, 2);
    await bed.purges.add([{ tag: null, mode: "delete" }], bed.now() + 1);
    assert.equal((await picture(bed, "/api/photo?id=1")).says, "200 MISS webp 64");
  });

  test("are purged by what they were made of: at once, or when they were given once more", async () => {
    let calls = 0;
    const photo = async () => {
      calls++;
      return answer(jpeg, { headers: ["content-type", "image/jpeg", "cache-control", "max-age=100"] });
    };
    await using bed = await openTestbed({ a: site({ functions: { "api/photo": photo } }) }, {}, undefined, { optimiser });
    const says = async (path: string, query = "&w=64") => (await picture(bed, path, { query })).says;
    for (const id of [1, 2]) assert.equal(await says(`/api/photo?id=${id}`), "200 MISS webp 64");
    assert.equal(await says("/api/photo?id=1", "&w=640"), "200 MISS webp 400");
    await bed.purges.add([{ tag: pictureTag("/api/photo?id=1"), mode: "delete" }], bed.now() + 1);
    bed.skip(10);
    assert.equal(await says("/api/photo?id=2"), "200 HIT webp 64");
    for (const query of ["&w=64", "&w=640"]) assert.match(await says("/api/photo?id=1", query), /^200 MISS/);
    await bed.purges.add([{ tag: pictureTag("/api/photo?id=2"), mode: "invalidate" }], bed.now() + 1);
    bed.skip(10);
    assert.equal(await says("/api/photo?id=2"), "200 STALE webp 64");
    while ((await says("/api/photo?id=2")) !== "200 HIT webp 64") await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(calls, 6);
  });

  test("behind a sign-in are asked for as by a stranger, and the answer says so", async () => {
    const seen: string[] = [];
    const middleware = async ({ url, headers }: { url: string; headers: readonly string[] }) => {
      seen.push(url);
      return headers.includes("cookie")
        ? answer("", { headers: ["x-middleware-next", "1"] })
        : answer("who are you?", { status: 401, headers: ["content-type", "text/plain"] });
    };
    const parts = { files: { "private/a.jpg": jpeg, "open/a.jpg": jpeg }, functions: { _middleware: middleware } };
    const matcher = [{ src: "/private/.*", middlewarePath: "_middleware", continue: true }];
    await using bed = await openTestbed({ a: { ...site(parts), routes: matcher } }, {}, undefined, { optimiser });
    const refused = await picture(bed, "/private/a.jpg", { headers: { cookie: "session=1", accept: "application/json" } });
    assert.equal(refused.says, "502 INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED");
    assert.match(refused.body.toString(), /answered with 401, since pictures are asked for without the visitor's cookies/);
    assert.deepEqual(seen, ["/private/a.jpg"]);
    assert.equal((await picture(bed, "/open/a.jpg")).says, "200 MISS webp 64");
  });

  test("are what middleware lets them be: it is asked about the address of the picture, too", async () => {
    const middleware = async ({ url, headers }: { url: string; headers: readonly string[] }) =>
      !url.startsWith("/_next/image") || headers.includes("cookie")
        ? answer("", { headers: ["x-middleware-next", "1", "x-seen", "1"] })
        : answer("no", { status: 403, headers: ["content-type", "text/plain"] });
    const routes = [
      { src: "/.*", headers: { "x-every": "1" }, continue: true },
      { src: "/.*", middlewarePath: "_middleware", continue: true },
      { handle: "filesystem" as const },
      // A page for all that is nothing else must not take their place.
      { src: "/.*", dest: "/index.html", check: true },
    ];
    const parts = { files: { "a.jpg": jpeg, "index.html": "page" }, functions: { _middleware: middleware } };
    await using bed = await openTestbed({ a: { ...site(parts), routes } }, {}, undefined, { optimiser });
    assert.equal((await picture(bed, "/a.jpg")).status, 403);
    const made = await picture(bed, "/a.jpg", { headers: { cookie: "session=1" } });
    assert.equal(made.says, "200 MISS webp 64");
    assert.deepEqual([made.headers["x-every"], made.headers["x-seen"]], ["1", "1"]);
    assert.equal((await picture(bed, "/a.jpg")).status, 403);
  });

  test("of Functions are asked for as by nobody: no cookie or token of a client shapes what all are given", async () => {
    const seen: string[] = [];
    const functions = {
      "api/me": async ({ headers }: { headers: readonly string[] }) => {
        seen.push(...headers.filter((_, index) => index % 2 === 0));
        return answer(jpeg, { headers: ["content-type", "image/jpeg", "set-cookie", "a=1"] });
      },
    };
    await using bed = await openTestbed({ a: site({ functions }) }, {}, undefined, { optimiser });
    const got = await picture(bed, "/api/me", { headers: { cookie: "session=1", authorization: "Bearer x", "x-own": "1" } });
    assert.equal(got.says, "200 MISS webp 64");
    assert.equal(got.headers["set-cookie"], undefined);
    for (const name of ["cookie", "authorization", "x-own"]) assert.ok(!seen.includes(name), name);
  });

  test("that move, and SVGs where they are allowed, are given as they are, and can run nothing", async () => {
    const gif = await movingGif();
    const files = { "a.gif": gif, "a.svg": svg, "a.ico": Buffer.from("00000100010001010000010018003000000016000000", "hex") };
    await using bed = await openTestbed({ a: site({ files }), b: site({ files }, { dangerouslyAllowSVG: true }) }, {}, undefined, {
      optimiser,
    });
    assert.deepEqual((await picture(bed, "/a.gif")).body, gif);
    assert.equal((await picture(bed, "/a.ico")).headers["content-type"], "image/x-icon");
    assert.equal((await picture(bed, "/a.svg")).says, "400 INVALID_IMAGE_OPTIMIZE_REQUEST");
    const allowed = await picture(bed, "/a.svg", { host: "b.localhost" });
    assert.equal(allowed.headers["content-type"], "image/svg+xml");
    assert.match(allowed.headers["content-security-policy"] as string, /script-src 'none'.*sandbox/);
    assert.equal(allowed.headers["x-content-type-options"], "nosniff");
    // What was kept for one whose configuration allows it is not given where it does not.
    assert.equal((await picture(bed, "/a.svg")).says, "400 INVALID_IMAGE_OPTIMIZE_REQUEST");
  });

  test("that are none, or bombs, are refused; a page stays a page", async () => {
    const files = {
      "bomb.png": await bomb(),
      "cut.png": (await photo(9, 9).png().toBuffer()).subarray(0, 50),
      "index.html": "<h1>page</h1>",
    };
    await using bed = await openTestbed({ a: site({ files }) }, {}, undefined, { optimiser });
    for (const path of ["/bomb.png", "/cut.png", "/", "/index.html"]) {
      assert.equal((await picture(bed, path)).says, "400 INVALID_IMAGE_OPTIMIZE_REQUEST", path);
    }
  });

  test("whose worker fails are given as they are, for a while", async () => {
    let asked = 0;
    const failing = {
      optimise: () => {
        asked++;
        return Promise.reject(new MayflyError("INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED"));
      },
      close: async () => {},
    };
    await using bed = await openTestbed({ a: site({ files: { "a.jpg": jpeg } }) }, {}, undefined, { optimiser: failing });
    assert.equal((await picture(bed, "/a.jpg")).says, "200 MISS jpeg 400");
    assert.equal((await picture(bed, "/a.jpg")).says, "200 HIT jpeg 400");
    assert.equal(asked, 1);
    const [line] = bed.logged;
    assert.deepEqual([bed.logged.length, line?.deploymentId, line?.stream], [1, "dpl_a", "system"]);
    assert.match(line!.text, /It is given as it is: \/a\.jpg$/);
    bed.skip(60_001);
    assert.equal((await picture(bed, "/a.jpg")).says, "200 MISS jpeg 400");
    assert.equal(asked, 2);
  });

  test("are given as they are where there is no optimiser", async () => {
    await using bed = await openTestbed({ a: site({ files: { "a.jpg": jpeg } }) });
    assert.equal((await picture(bed, "/a.jpg")).says, "200 MISS jpeg 400");
  });
});

describe("pictures of other hosts", () => {
  const allow = { MAYFLY_ORIGIN_ALLOW: "127.0.0.0/8", MAYFLY_IMAGE_SOURCE_MS_MAX: "1500", MAYFLY_IMAGE_SOURCE_BYTES_MAX: "1000000" };

  test("are fetched, within limits, when the deployment allows the host", async () => {
    using origin = await openOrigin((request, response) => {
      const path = request.url ?? "";
      if (path.startsWith("/moved")) return void response.writeHead(302, { location: path === "/moved1" ? "/a.jpg" : `${path}x` }).end();
      if (path === "/inside") return void response.writeHead(302, { location: "http://10.0.0.1/a.jpg" }).end();
      if (path === "/private") return void response.writeHead(403).end();
      if (path === "/broken") return void response.writeHead(500).end();
      if (path === "/silent") return undefined;
      if (path === "/page") return void response.setHeader("content-type", "image/jpeg").end("<h1>no picture</h1>");
      if (path === "/large") return void response.setHeader("content-type", "image/jpeg").end(Buffer.alloc(2_000_000, 1));
      return void response.setHeader("cache-control", "max-age=5").end(jpeg);
    });
    await using bed = await openTestbed({ a: site({}, { domains: ["127.0.0.1"] }), b: site({}) }, allow, undefined, { optimiser });
    const says = async (path: string, host?: string) => (await picture(bed, origin.url + path, host === undefined ? {} : { host })).says;
    assert.equal(await says("/a.jpg"), "200 MISS webp 64");
    assert.equal(await says("/a.jpg"), "200 HIT webp 64");
    assert.equal(await says("/moved1"), "200 MISS webp 64");
    assert.equal(await says("/moved2"), "502 OPTIMIZED_EXTERNAL_IMAGE_TOO_MANY_REDIRECTS");
    assert.equal(await says("/inside"), "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED");
    assert.equal(await says("/private"), "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_UNAUTHORIZED");
    assert.equal(await says("/broken"), "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED");
    assert.equal(await says("/silent"), "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED");
    assert.equal(await says("/page"), "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_INVALID");
    assert.equal(await says("/large"), "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED");
    assert.equal(await says("/a.jpg", "b.localhost"), "400 INVALID_IMAGE_OPTIMIZE_REQUEST");
  });

  test("at private addresses are out of reach, whatever the deployment allows", async () => {
    using origin = await openOrigin((_, response) => void response.end(jpeg));
    const domains = ["127.0.0.1", "localhost", "169.254.169.254", "[::1]"];
    await using bed = await openTestbed({ a: site({}, { domains, remotePatterns: [{ hostname: ".*" }] }) }, {}, undefined, { optimiser });
    const port = new URL(origin.url).port;
    for (const url of [
      origin.url,
      `http://localhost:${port}/`,
      "http://169.254.169.254/latest/meta-data/",
      `http://[::1]:${port}/`,
      `http://[::ffff:127.0.0.1]:${port}/`,
      `http://2130706433:${port}/`,
      "http://127.0.0.1:22/",
    ]) {
      assert.equal((await picture(bed, url)).says, "502 OPTIMIZED_EXTERNAL_IMAGE_REQUEST_FAILED", url);
    }
  });

  test("which are this deployment's own optimiser lead in no circle", async () => {
    await using bed = await openTestbed({ a: site({}, { domains: ["127.0.0.1", "a.localhost"] }) }, allow, undefined, { optimiser });
    let url = `http://a.localhost:${bed.port}/x.jpg`;
    for (let depth = 0; depth < 3; depth++) url = `http://a.localhost:${bed.port}/_next/image?w=64&url=${encodeURIComponent(url)}`;
    assert.match((await picture(bed, url)).says, /^(?:502|508|400) /);
  });
});
