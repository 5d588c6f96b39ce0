/** Routing, held against route tables as builders write them: zero-config `api/`, vercel.json's own, and Next.js. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Output, Route } from "../model.ts";
import { compileRoutes, type Resolution, type RouteRequest } from "./route.ts";

const file: Output = { kind: "static", file: { digest: "d", size: 1, mode: 0o100644 } };
const code: Output = { kind: "function", functionId: "f" };

/** A path that begins with "λ" is a Function; others are files. */
function outputsOf(paths: readonly string[]): Record<string, Output> {
  return Object.fromEntries(paths.map((path) => (path.startsWith("λ") ? [path.slice(1), code] : [path, file])));
}

interface Ask {
  readonly method?: string;
  readonly host?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function asking(target: string, { method = "GET", host = "site.localhost", headers = {} }: Ask = {}): RouteRequest {
  const mark = target.indexOf("?");
  return {
    method,
    host,
    path: mark === -1 ? target : target.slice(0, mark),
    query: mark === -1 ? "" : target.slice(mark + 1),
    header: (name) => headers[name],
  };
}

function site(outputs: readonly string[], routes: readonly Route[] = [], caseSensitive = false) {
  const compiled = compileRoutes({ outputs: outputsOf(outputs), routes, caseSensitive });
  return Object.assign((target: string, ask?: Ask) => compiled.resolve(asking(target, ask)), {
    error: (target: string, status: number) => compiled.resolveError(asking(target), status),
  });
}

/** One line for a resolution: what a table can be read by. */
function line(resolution: Resolution): string {
  switch (resolution.kind) {
    case "output": {
      const status = resolution.status === undefined ? "" : ` ${resolution.status}`;
      return resolution.output.kind === "function" ? `λ${resolution.path} ${resolution.url}${status}` : `${resolution.path}${status}`;
    }
    case "redirect":
      return `${resolution.status} → ${resolution.location}`;
    case "external":
      return `⇒ ${resolution.url}`;
    case "empty":
      return `${resolution.status}`;
    case "error":
      return `error ${resolution.status}`;
  }
}

function headersOf(resolution: Resolution): Record<string, string> {
  return Object.fromEntries(resolution.headers.map(({ name, value }) => [name, value]));
}

function table(
  resolve: (target: string, ask?: Ask) => Resolution,
  rows: readonly (readonly [target: string, expected: string, ask?: Ask])[],
): void {
  for (const [target, expected, ask] of rows) assert.equal(line(resolve(target, ask)), expected, `${ask?.method ?? "GET"} ${target}`);
}

describe("files without routes", () => {
  const resolve = site([
    "index.html",
    "about.html",
    "docs/index.html",
    "docs/a b.txt",
    "data/index.json",
    "café.txt",
    "404.html",
    "λapi/index",
    "λfn/index.js",
  ]);
  test("are found by path, and directories by their index", () => {
    table(resolve, [
      ["/", "index.html"],
      ["/index.html", "index.html"],
      ["/about.html", "about.html"],
      ["/about", "404.html 404"],
      ["/docs", "docs/index.html"],
      ["/docs/", "docs/index.html"],
      ["/docs/a%20b.txt", "docs/a b.txt"],
      ["/docs/a b.txt", "docs/a b.txt"],
      ["/data", "data/index.json"],
      ["/caf%C3%A9.txt", "café.txt"],
      ["/caf%c3%a9.txt", "café.txt"],
      ["/%61bout.html", "about.html"],
      ["/api", "λapi/index /api"],
      ["/fn/?x=1", "λfn/index.js /fn/?x=1"],
      ["/missing", "404.html 404"],
      ["/About.html", "404.html 404"],
    ]);
  });
  test("an encoded slash is no separator", () => {
    table(resolve, [
      ["/docs%2Findex.html", "404.html 404"],
      ["/docs%2f", "404.html 404"],
    ]);
  });
  test("invalid percent-encoding is literal", () => {
    table(site(["100%.txt", "%zz"]), [
      ["/100%.txt", "100%.txt"],
      ["/100%25.txt", "100%.txt"],
      ["/%zz", "%zz"],
      ["/%", "error 404"],
      ["/%ff", "error 404"],
    ]);
  });
  test("doubled slashes are made one, so that no redirect leaves the site", () => {
    const cleaned = site(["index.html", "λapi/a"], [{ src: "^/(.*)/$", headers: { Location: "/$1" }, status: 308 }]);
    table(cleaned, [
      ["//evil.example/", "308 → /evil.example/"],
      ["/api//a?x=//", "308 → /api/a?x=//"],
      ["/api//a?x=1", "λapi/a /api/a?x=1", { method: "POST" }],
      ["/\\evil.example/", "308 → /%5Cevil.example"],
    ]);
  });
});

// `vercel build` of: index.html, 404.html, api/hello.js, api/sub/[id].js, rewrites, redirects and headers in vercel.json
const zeroConfig: Route[] = [
  { src: "^/r(?:/([^/]+?))$", headers: { Location: "/docs/$1" }, status: 308 },
  { src: "^(?:/(.*))$", headers: { "X-All": "1", "X-Path": "$1" }, continue: true },
  { handle: "filesystem" },
  { src: "^/old(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))?$", dest: "/docs/$1", check: true },
  { src: "^/u(?:/([^/]+?))$", dest: "/api/sub/7?from=$1", check: true },
  { src: "^/ext(?:/(.*))?$", dest: "https://example.com/$1?a=1" },
  { src: "^/api/sub/([^/]+)$", dest: "/api/sub/[id]?id=$1", check: true },
  { src: "^/api(/.*)?$", status: 404 },
  { handle: "error" },
  { status: 404, src: "^(?!/api).*$", dest: "/404.html" },
  { handle: "miss" },
  { src: "^/api/(.+)(?:\\.(?:js))$", dest: "/api/$1", check: true },
];
const zeroConfigOutputs = ["index.html", "404.html", "docs/index.html", "docs/x", "λapi/hello", "λapi/sub/[id]"];

describe("zero-config api", () => {
  const resolve = site(zeroConfigOutputs, zeroConfig, true);
  test("files, Functions, dynamic segments, rewrites, redirects, 404", () => {
    table(resolve, [
      ["/", "index.html"],
      ["/api/hello?name=A%20b", "λapi/hello /api/hello?name=A%20b"],
      ["/api/hello/", "λapi/hello /api/hello/"],
      ["/api/hello.js", "λapi/hello /api/hello.js"],
      ["/api/sub/5", "λapi/sub/[id] /api/sub/5?id=5"],
      ["/api/sub/a%26b=c?x=1", "λapi/sub/[id] /api/sub/a%26b=c?x=1&id=a%26b%3Dc"],
      ["/api/sub/5?id=9", "λapi/sub/[id] /api/sub/5?id=9"],
      ["/api/sub/5.js", "λapi/sub/[id] /api/sub/5.js?id=5.js"],
      ["/api/nothing", "error 404"],
      ["/api", "error 404"],
      ["/old/x", "docs/x"],
      ["/old", "docs/index.html"],
      ["/u/me", "λapi/sub/[id] /u/me?from=me&id=7"],
      ["/r/x?keep=1", "308 → /docs/x?keep=1"],
      ["/r/%E2%9C%93", "308 → /docs/%E2%9C%93"],
      ["/ext/a/b?q=2", "⇒ https://example.com/a/b?a=1&q=2"],
      ["/missing", "404.html 404"],
    ]);
  });
  test("x-matched-path names the output", () => {
    const resolution = resolve("/u/me");
    assert(resolution.kind === "output");
    assert.equal(resolution.matchedPath, "/api/sub/[id]");
  });
  test("headers of `continue` routes are kept, with captures as they were sent", () => {
    assert.deepEqual(headersOf(resolve("/api/hello")), { "x-all": "1", "x-path": "api/hello" });
    assert.equal(headersOf(resolve("/a%0d%0ab"))["x-path"], "a%0D%0Ab");
  });
  test("case: rules of a vercel.json match exactly, others in any case", () => {
    assert.equal(line(resolve("/OLD/x")), "404.html 404");
    assert.equal(line(site(zeroConfigOutputs, zeroConfig, false)("/OLD/x")), "docs/x");
    const one = site(["a"], [{ src: "/Only", dest: "/a", caseSensitive: true }]);
    table(one, [
      ["/Only", "a"],
      ["/only", "error 404"],
    ]);
  });
});

describe("cleanUrls and trailingSlash", () => {
  const resolve = site(
    ["index", "about", "docs/index", "404"],
    [
      { src: "^/(?:(.+)/)?index(?:\\.html)?/?$", headers: { Location: "/$1" }, status: 308 },
      { src: "^/(.*)\\.html/?$", headers: { Location: "/$1" }, status: 308 },
      { src: "^/(.*)/$", headers: { Location: "/$1" }, status: 308 },
      { handle: "filesystem" },
      { handle: "error" },
      { status: 404, src: "^(?!/api).*$", dest: "/404" },
    ],
    true,
  );
  test("redirect to the clean path and serve it", () => {
    table(resolve, [
      ["/", "index"],
      ["/index.html", "308 → /"],
      ["/about", "about"],
      ["/about.html?x=1", "308 → /about?x=1"],
      ["/about/", "308 → /about"],
      ["/docs", "docs/index"],
      ["/docs/index", "308 → /docs"],
      ["/no", "404 404"],
    ]);
  });
});

// Shortened from `vercel build` of a Next.js 15 app with dynamic pages, rewrites and a middleware-less config.
const next: Route[] = [
  { src: "^(?:/((?:[^/]+?)(?:/(?:[^/]+?))*))/$", headers: { Location: "/$1" }, status: 308, continue: true },
  { src: "^/before(?:/)?$", dest: "/p/9?b=1", continue: true, override: true },
  { src: "/404/?", status: 404, continue: true },
  { src: "/500", status: 500, continue: true },
  {
    src: "^/?",
    has: [{ type: "header", key: "rsc", value: "1" }],
    dest: "/index.rsc",
    headers: { vary: "rsc" },
    continue: true,
    override: true,
  },
  {
    src: "^/((?!.+\\.rsc).+?)(?:/)?$",
    has: [{ type: "header", key: "rsc", value: "1" }],
    dest: "/$1.rsc",
    headers: { vary: "rsc" },
    continue: true,
    override: true,
  },
  { handle: "filesystem" },
  { src: "/_next/data/(.*)", dest: "/_next/data/$1", check: true },
  { src: "/index(\\.action|\\.rsc)", dest: "/", continue: true },
  { src: "^/blog(?:/(?<slug>[^/]+?))(?:/)?$", dest: "/p/$slug?from=blog", check: true },
  { src: "/\\.rsc$", dest: "/index.rsc", check: true },
  { src: "(.+)/\\.rsc$", dest: "$1.rsc", check: true },
  { handle: "resource" },
  { src: "^/fallback$", dest: "/p/fallback", check: true },
  { src: "/.*", status: 404 },
  { handle: "miss" },
  {
    src: "/_next/static/.+",
    status: 404,
    check: true,
    dest: "/_next/static/not-found.txt",
    headers: { "content-type": "text/plain; charset=utf-8" },
  },
  { handle: "rewrite" },
  { src: "^/_next/data/build1/p/(?<nxtPid>[^/]+?)(?:/)?\\.json$", dest: "/p/[id]?nxtPid=$nxtPid", check: true },
  { src: "/_next/data/(.*)", dest: "/404", status: 404 },
  { src: "^/p/(?<nxtPid>[^/]+?)(?:\\.rsc)(?:/)?$", dest: "/p/[id].rsc?nxtPid=$nxtPid", check: true },
  { src: "^/p/(?<nxtPid>[^/]+?)(?:/)?$", dest: "/p/[id]?nxtPid=$nxtPid", check: true },
  { handle: "hit" },
  {
    src: "/_next/static/(?:[^/]+/pages|pages|chunks|runtime|css|image|media|build1)/.+",
    headers: { "cache-control": "public,max-age=31536000,immutable" },
    continue: true,
    important: true,
  },
  { src: "/index(?:/)?", headers: { "x-matched-path": "/" }, continue: true, important: true },
  { src: "/((?!index$).*?)(?:/)?", headers: { "x-matched-path": "/$1" }, continue: true, important: true },
  { handle: "error" },
  { src: "/.*", dest: "/404", status: 404, headers: { "x-next-error-status": "404" } },
  { src: "/.*", dest: "/500", status: 500, headers: { "x-next-error-status": "500" } },
];

describe("Next.js", () => {
  const resolve = site(
    [
      "λindex",
      "λindex.rsc",
      "λp/[id]",
      "λp/[id].rsc",
      "404",
      "500",
      "favicon.ico",
      "_next/static/chunks/a.js",
      "_next/static/not-found.txt",
    ],
    next,
    true,
  );
  test("phases", () => {
    table(resolve, [
      ["/", "λindex /"],
      ["/p/77", "λp/[id] /p/77?nxtPid=77"],
      ["/p/77/", "308 → /p/77"],
      ["/before", "λp/[id] /before?b=1&nxtPid=9"],
      ["/blog/hi?x=1", "λp/[id] /blog/hi?x=1&from=blog&nxtPid=hi"],
      ["/fallback", "λp/[id] /fallback?nxtPid=fallback"],
      ["/favicon.ico", "favicon.ico"],
      ["/_next/static/chunks/a.js", "_next/static/chunks/a.js"],
      ["/_next/static/chunks/gone.js", "_next/static/not-found.txt 404"],
      ["/_next/data/build1/p/5.json", "λp/[id] /_next/data/build1/p/5.json?nxtPid=5"],
      ["/_next/data/build0/p/5.json", "404 404"],
      ["/", "λindex.rsc /", { headers: { rsc: "1" } }],
      ["/p/77", "λp/[id].rsc /p/77?nxtPid=77", { headers: { rsc: "1" } }],
      ["/nowhere", "404 404"],
      ["/404", "404 404"],
      ["/500", "500 500"],
    ]);
  });
  test("the hit phase says what matched, and that chunks never change", () => {
    const page = resolve("/p/77");
    assert(page.kind === "output");
    assert.equal(page.matchedPath, "/p/[id]");
    assert.equal(headersOf(resolve("/"))["x-matched-path"], "/");
    assert.equal(headersOf(resolve("/_next/static/chunks/a.js"))["cache-control"], "public,max-age=31536000,immutable");
    assert.equal(headersOf(resolve("/_next/static/chunks/gone.js"))["content-type"], "text/plain; charset=utf-8");
    assert.equal(headersOf(resolve("/nowhere"))["x-next-error-status"], "404");
  });
  test("a crash leads to the page for its status", () => {
    assert.equal(line(resolve.error("/p/1", 500)), "500 500");
    assert.equal(line(resolve.error("/p/1", 504)), "error 504");
  });
});

describe("single rules", () => {
  test("methods, status without destination, redirect to a destination", () => {
    const resolve = site(
      ["a", "secret"],
      [
        { src: "/a", methods: ["OPTIONS"], status: 204, headers: { "access-control-allow-origin": "*" } },
        { src: "/secret", status: 403 },
        { src: "/gone", status: 410 },
        { src: "/moved/(.*)", status: 301, dest: "/a?x=$1" },
        { src: "/see", status: 303, headers: { location: "/a#part" } },
        { src: "/see2", status: 302, headers: { location: "/a?y=1" } },
      ],
    );
    table(resolve, [
      ["/a", "204", { method: "OPTIONS" }],
      ["/a", "a"],
      ["/secret", "error 403"],
      ["/%73ecret", "error 403"],
      ["/SECRET", "error 403"],
      ["/gone", "error 410"],
      ["/moved/b%26c", "301 → /a?x=b%26c"],
      ["/see?q=1", "303 → /a?q=1#part"],
      ["/see2?q=1", "302 → /a?y=1"],
    ]);
    assert.equal(headersOf(resolve("/a", { method: "OPTIONS" }))["access-control-allow-origin"], "*");
  });

  test("has and missing", () => {
    const resolve = site(
      ["λf"],
      [
        { src: "/h", has: [{ type: "header", key: "X-User", value: "(?<user>[a-z]+)\\d*" }], dest: "/f?user=$user" },
        { src: "/key", has: [{ type: "query", key: "page" }], dest: "/f?p=$page" },
        { src: "/dash", has: [{ type: "header", key: "x-user" }], dest: "/f?u=$x-user" },
        { src: "/host", has: [{ type: "host", value: "(?<sub>\\w+)\\.localhost" }], dest: "/f?sub=$sub&host=$host" },
        { src: "/cookie", has: [{ type: "cookie", key: "in", value: "yes|ja" }], missing: [{ type: "query", key: "out" }], dest: "/f" },
        { src: "/obj", has: [{ type: "query", key: "n", value: { gte: 5, lt: 10 } }], dest: "/f" },
        { src: "/inc", has: [{ type: "header", key: "x", value: { inc: ["a", "b"], neq: "a" } }], dest: "/f" },
        { src: "/to", has: [{ type: "query", key: "next", value: "(?<next>.*)" }], status: 307, headers: { Location: "/$next" } },
        { src: "/head", has: [{ type: "query", key: "v", value: "(?<v>[\\s\\S]*)" }], headers: { "x-v": "$v" }, dest: "/f" },
      ],
    );
    table(resolve, [
      ["/h", "λf /h?user=amy", { headers: { "x-user": "amy42" } }],
      ["/h", "error 404", { headers: { "x-user": "42" } }],
      ["/h", "error 404"],
      ["/key?page=2%2F3", "λf /key?page=2%2F3&p=2%2F3"],
      ["/dash", "λf /dash?u=a%26b", { headers: { "x-user": "a&b" } }],
      ["/host", "λf /host?sub=shop&host=shop.localhost", { host: "shop.localhost" }],
      ["/host", "error 404", { host: "shop.example.com" }],
      ["/cookie", "λf /cookie", { headers: { cookie: "a=b; in=ja" } }],
      ["/cookie", "error 404", { headers: { cookie: "in=jaja" } }],
      ["/cookie?out", "error 404", { headers: { cookie: "in=yes" } }],
      ["/obj?n=7", "λf /obj?n=7"],
      ["/obj?n=10", "error 404"],
      ["/inc", "λf /inc", { headers: { x: "b" } }],
      ["/inc", "error 404", { headers: { x: "a" } }],
      ["/to?next=%2Fevil.example", "307 → /evil.example?next=%2Fevil.example"],
      ["/to?next=%5Cevil.example", "307 → /%5Cevil.example?next=%5Cevil.example"],
    ]);
    assert.equal(headersOf(resolve("/head?v=a%0d%0aset-cookie:b%F0%9F%98%80"))["x-v"], "a%0D%0Aset-cookie:b%F0%9F%98%80");
  });

  test("headers: later beats earlier, in hit and miss the earlier stays unless the rule is important", () => {
    const resolve = site(
      ["a"],
      [
        { src: "/.*", headers: { x: "1", y: "1", z: "1" }, continue: true },
        { src: "/a", headers: { x: "2" }, continue: true },
        { handle: "hit" },
        { src: "/.*", headers: { x: "3", y: "3", w: "3" }, continue: true },
        { src: "/.*", headers: { z: "4" }, important: true, continue: true },
      ],
    );
    assert.deepEqual(headersOf(resolve("/a")), { x: "2", y: "1", z: "4", w: "3" });
  });

  test("a miss that finds nothing leaves no trace; its headers count at the end", () => {
    const resolve = site(
      ["b", "404.html"],
      [
        { handle: "filesystem" },
        { src: "^/b2$", dest: "/b", check: true },
        { handle: "miss" },
        { src: "/(.*)", dest: "/tried/$1", headers: { "x-miss": "1" }, check: true },
      ],
    );
    assert.deepEqual(headersOf(resolve("/b2")), {});
    assert.equal(headersOf(resolve("/zzz"))["x-miss"], "1");
    assert.equal(line(resolve("/zzz")), "404.html 404");
  });

  test("patterns in plain Unicode match what browsers encode; PCRE names work", () => {
    table(site(["λf"], [{ src: "^/café/(?P<name>.+)$", dest: "/f?n=$name" }]), [
      ["/caf%C3%A9/cr%C3%A8me", "λf /caf%C3%A9/cr%C3%A8me?n=cr%C3%A8me"],
    ]);
  });

  test("nested named groups keep their names", () => {
    table(site(["λf"], [{ src: "^/((?<a>x+)/(?<b>y+))$", dest: "/f?all=$1&a=$a&b=$b" }]), [["/xx/y", "λf /xx/y?all=xx%2Fy&a=xx&b=y"]]);
  });

  test("rewrites that grow or never end are 508", () => {
    const grow: Route[] = Array.from({ length: 60 }, () => ({ src: "/(.*)", dest: "/$1$1", continue: true }));
    assert.equal(line(site([], grow)("/aaaaaaaa")), "error 508");
    const circle: Route[] = [{ handle: "filesystem" }, ...Array.from({ length: 150 }, () => ({ src: "/(.*)", dest: "/$1", check: true }))];
    assert.equal(line(site([], circle)("/a")), "error 508");
    assert.equal(
      line(site([], [{ src: "/(.*)", headers: { x: "$1".repeat(100_000) }, continue: true }])(`/${"a".repeat(1000)}`)),
      "error 508",
    );
  });

  test("a rule that is no regular expression, or names a middleware, does not matter", () => {
    table(
      site(
        ["a"],
        [
          { src: "(((", status: 500 },
          { src: "/.*", middlewarePath: "m" },
          { src: "/b", headers: { "bad name": "x" }, dest: "/a" },
        ],
      ),
      [
        ["/a", "a"],
        ["/b", "a"],
      ],
    );
  });

  test("error routes: only those of the status; a Function sees the destination", () => {
    const resolve = site(
      ["λerr", "404.html"],
      [
        { handle: "error" },
        { src: "/.*", status: 500, dest: "/err?s=500" },
        { src: "/x/.*", dest: "/err?any=1" },
        { src: "/.*", status: 404, dest: "/404.html" },
      ],
    );
    table(resolve, [
      ["/x/1?q=2", "λerr /err?q=2&any=1 404"],
      ["/y", "404.html 404"],
    ]);
    assert.equal(line(resolve.error("/y", 500)), "λerr /err?s=500 500");
  });
});

test("thousands of random requests: never throws, and the answer is well-formed", () => {
  const random = mulberry32(20_261_122);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const pieces = [
    ..."/%?&=#.\\$+;:@[](){}*^|<>\"'` ~-_aZ09\u0000\u001f\u007fé✓\u{1f600}",
    "\ud800",
    "%2F",
    "%2e",
    "%00",
    "%ff",
    "%C3%A9",
    "%",
    "..",
    "//",
    "/api/",
    "/p/",
    "index",
    ".rsc",
    ".html",
    "__proto__",
    "constructor",
    "$1",
    "$name",
  ];
  const sites = [
    site(zeroConfigOutputs, zeroConfig, true),
    site(["λindex", "λp/[id]", "404", "500", "a.html", "__proto__"], next, false),
    site(["index.html"], []),
    site(
      ["λf"],
      [
        {
          src: "(.*)",
          has: [
            { type: "query", key: "a" },
            { type: "cookie", key: "b" },
          ],
          dest: "/f$1?x=$a&y=$b",
          headers: { h: "$a$b$1" },
          continue: true,
        },
        { src: "/(.*)/", headers: { Location: "/$1" }, status: 307 },
      ],
    ),
  ];
  for (let count = 0; count < 6000; count++) {
    let target = "/";
    for (let length = Math.floor(random() * 14); length > 0; length--) target += pick(pieces);
    const cookie = `b=${pick(pieces)}${pick(pieces)}; ${pick(pieces)}`;
    const resolve = pick(sites);
    const resolution = resolve(target, { method: pick(["GET", "POST", "HEAD", "OPTIONS"]), headers: { cookie, rsc: pick(["1", "0"]) } });
    assert(["output", "redirect", "empty", "error", "external"].includes(resolution.kind));
    for (const { name, value } of resolution.headers) {
      assert.match(name, /^[a-z0-9-]+$/);
      // eslint-disable-next-line no-control-regex
      assert.doesNotMatch(value, /[^\t\u0020-\u007e\u0080-\u00ff]/, target);
    }
    if (resolution.kind === "redirect") assert.match(resolution.location, /^\/(?![/\\])/, target);
    if (resolution.kind === "error") assert.notEqual(resolution.status, 500, target);
    if (resolution.kind === "output") assert(resolution.url.startsWith("/"));
    resolve.error(target, 500);
  }
});

/** A small generator with a seed, so that a failure can be repeated. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
