/** Routing, held against route tables as builders write them: zero-config `api/`, vercel.json's own, and Next.js. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Output, Route, RouteTransform } from "../model.ts";
import { changeHeaders } from "./header-change.ts";
import { compileRoutes, type Resolution, type RouteRequest } from "./route.ts";
import { literalSegment } from "./rule.ts";

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
    case "picture":
      return `picture ${resolution.path} ${resolution.query}`;
    case "middleware":
      return `middleware ${resolution.path} ${resolution.url}`;
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

describe("transforms", () => {
  const run = (transforms: readonly RouteTransform[], target = "/x?a=1&b=2", headers: Record<string, string> = {}) => {
    const routes = [{ src: "^/(x|y)$", transforms, continue: true }];
    const compiled = compileRoutes({ outputs: { x: code, y: code, index: code }, routes, caseSensitive: true }, () => ({
      REGION: "fra",
      SECRET: "s",
    }));
    return compiled.resolve({ ...asking(target, { headers }), headerNames: () => Object.keys(headers) });
  };
  const url = (transforms: readonly RouteTransform[], target?: string) => {
    const resolution = run(transforms, target);
    assert(resolution.kind === "output");
    return resolution.url;
  };

  test("of the query", () => {
    const query = (op: RouteTransform["op"], key: string | Record<string, unknown>, args?: string | string[]) =>
      url([{ type: "request.query", op, target: { key }, ...(args === undefined ? {} : { args }) }]);
    assert.equal(query("set", "a", "$1"), "/x?b=2&a=x");
    assert.equal(query("append", "a", ["3", "4"]), "/x?a=1&b=2&a=3&a=4");
    assert.equal(query("delete", "a"), "/x?b=2");
    assert.equal(query("delete", { inc: ["a", "b"] }), "/x");
  });

  test("of the path, which a Function sees", () => {
    assert.equal(url([{ type: "request.path", op: "set", args: "/y" }]), "/y?a=1&b=2");
    assert.equal(url([{ type: "request.path", op: "delete", args: "/x" }], "/x"), "/");
  });

  test("of request headers, with the environment that is allowed, and no other", () => {
    const { requestHeaders } = run(
      [
        { type: "request.headers", op: "set", target: { key: "X-Region" }, args: "$REGION-$SECRET-$1", env: ["REGION"] },
        { type: "request.headers", op: "append", target: { key: "x-own" }, args: ["2"] },
        { type: "request.headers", op: "delete", target: { key: { pre: "x-drop" } } },
        { type: "request.headers", op: "set", target: { key: "transfer-encoding" }, args: "chunked" },
        { type: "request.headers", op: "set", target: { key: "bad name" }, args: "1" },
      ],
      "/x",
      { "x-own": "1", "x-drop-1": "a", "x-drop-2": "b" },
    );
    assert.deepEqual(Object.fromEntries(requestHeaders!), { "x-region": "fra--x", "x-own": "1, 2", "x-drop-1": null, "x-drop-2": null });
  });

  test("of response headers", () => {
    const { responseChanges } = run([
      { type: "response.headers", op: "set", target: { key: "X-A" }, args: "$1\r\nx: y" },
      { type: "response.headers", op: "append", target: { key: "set-cookie" }, args: ["a=1", "b=2"] },
      { type: "response.headers", op: "delete", target: { key: { pre: "x-drop" } } },
      { type: "response.headers", op: "delete", target: { key: "content-length" } },
    ]);
    assert.deepEqual(changeHeaders(["x-a", "old", "x-drop-1", "1", "x-keep", "2", "content-length", "1"], responseChanges!), [
      "x-keep",
      "2",
      "content-length",
      "1",
      "x-a",
      "x%0D%0Ax: y",
      "set-cookie",
      "a=1",
      "set-cookie",
      "b=2",
    ]);
  });
});

test("locale: the start page in the visitor's language, by cookie, then by preference", () => {
  const ask = site(
    ["index.html", "fr/index.html", "de/index.html"],
    [{ src: "/", locale: { redirect: { en: "/", fr: "/fr", "de-CH": "/de" }, cookie: "LANG" }, continue: true }],
  );
  const from = (language: string, cookie = "") => line(ask("/", { headers: { "accept-language": language, cookie } }));
  assert.equal(from("fr-CA, en;q=0.5"), "index.html");
  assert.equal(from("fr-CA"), "307 → /fr");
  assert.equal(from("en;q=0.4, fr;q=0.8"), "307 → /fr");
  assert.equal(from("de-ch;q=0.9, en;q=0.8"), "307 → /de");
  assert.equal(from("en", "LANG=fr"), "307 → /fr");
  assert.equal(from("fr", "LANG=en"), "index.html");
  assert.equal(from(""), "index.html");
  assert.equal(line(ask("/fr", { headers: { "accept-language": "de" } })), "fr/index.html");
});

test("wildcard: what the host stands for", () => {
  const compiled = compileRoutes({
    outputs: outputsOf(["λde"]),
    routes: [{ src: "^/$", dest: "/$wildcard", check: true }],
    caseSensitive: true,
    wildcard: [{ domain: "example.de", value: "de" }],
  });
  assert.equal(line(compiled.resolve(asking("/", { host: "example.de" }))), "λde /");
  assert.equal(line(compiled.resolve(asking("/", { host: "www.example.de" }))), "λde /");
  assert.equal(line(compiled.resolve(asking("/", { host: "badexample.de" }))), "error 404");
});

describe("middleware", () => {
  const compiled = compileRoutes({
    outputs: { ...outputsOf(["a.html", "λb", "index.html"]), _middleware: { kind: "middleware", functionId: "m" } },
    routes: [
      { src: "^/old$", status: 308, headers: { location: "/a.html" } },
      { src: "^/(?!static).*$", middlewarePath: "_middleware", continue: true },
      { src: "^/none$", middlewarePath: "missing", continue: true },
      { src: "^/secret$", has: [{ type: "header", key: "x-user" }], dest: "/a.html" },
      { handle: "filesystem" },
      { src: "^/rest/(.*)$", dest: "/b?rest=$1" },
    ],
    caseSensitive: true,
  });
  const effect = { requestHeaders: new Map<string, string | null>(), responseHeaders: [], rewrite: null };

  test("halts the walk, which goes on with what it said", () => {
    const halt = compiled.resolve(asking("/rest/1?q=1"));
    assert.equal(line(halt), "middleware _middleware /rest/1?q=1");
    assert(halt.kind === "middleware");
    assert.equal(line(halt.resume(effect)), "λb /rest/1?q=1&rest=1");
    const rewritten = halt.resume({ ...effect, rewrite: { path: "//a%2ehtml", query: "z=1" } });
    assert(rewritten.kind === "output");
    assert.deepEqual([rewritten.path, rewritten.url], ["a.html", "/a.html?z=1"]);
  });

  test("changes headers that later rules read", () => {
    const halt = compiled.resolve(asking("/secret"));
    assert(halt.kind === "middleware");
    assert.equal(line(halt.resume(effect)), "error 404");
    const again = compiled.resolve(asking("/secret"));
    assert(again.kind === "middleware");
    const responseHeaders = [1, 2].map((n) => ({ name: "set-cookie", value: `c=${n}`, important: false }));
    const resolution = again.resume({ ...effect, requestHeaders: new Map([["x-user", "1"]]), responseHeaders });
    assert.equal(line(resolution), "a.html");
    assert.deepEqual(resolution.headers, responseHeaders);
    assert.deepEqual(resolution.requestHeaders, new Map([["x-user", "1"]]));
  });

  test("answers at no path of its own, and is passed by where its routes do not lead", () => {
    assert.equal(line(compiled.resolve(asking("/old"))), "308 → /a.html");
    assert.equal(line(compiled.resolve(asking("/static"))), "error 404");
    const own = compiled.resolve(asking("/_middleware"));
    assert(own.kind === "middleware");
    assert.equal(line(own.resume(effect)), "error 404");
  });
});

test("rules are found by their first segment, in their order", () => {
  const numbered = Array.from({ length: 1000 }, (_, n): Route => ({
    src: `^/old-${n}(?:/)?$`,
    status: 308,
    headers: { location: `/new-${n}` },
  }));
  const ask = site(
    ["index.html", "λapi/x"],
    [
      ...numbered.slice(0, 500),
      { src: "/(old-600|both)", status: 410 },
      { src: "^/OLD-700$", caseSensitive: true, status: 410 },
      ...numbered.slice(500),
      { src: "/api/(?:a|b)", dest: "/old-3", continue: true },
      { src: "^/old-3$", dest: "/api/x" },
    ],
  );
  assert.equal(line(ask("/old-3/")), "308 → /new-3");
  assert.equal(line(ask("/OLD-999")), "308 → /new-999");
  assert.equal(line(ask("/old-600")), "error 410");
  assert.equal(line(ask("/old-700")), "308 → /new-700");
  assert.equal(line(ask("/OLD-700")), "error 410");
  assert.equal(line(ask("/old-1000")), "error 404");
  // The rules for the rewritten path that come later count, those before it do not.
  assert.equal(line(ask("/api/a")), "λapi/x /api/a");
  for (const [source, segment] of [
    ["^/blog/(.*)$", "blog"],
    ["/Blog\\.html", "blog.html"],
    ["^\\/a-b(?:\\/(.*))$", null],
    ["^/a/?$", "a"],
    ["/ab?", null],
    ["/ab/?c", null],
    ["^/a$|^/b$", null],
    ["/(a)", null],
    ["/a/*", null],
    ["/", null],
    ["^.*$", null],
  ] as const) {
    assert.equal(literalSegment(source), segment, source);
  }
});

test("a pattern that takes too long is an error, not a stand-still", () => {
  const ask = site(["index.html"], [{ src: "^/((?!x)(a+)+)+$", status: 410 }]);
  const resolution = ask(`/${"a".repeat(60)}!`);
  assert(resolution.kind === "error" && resolution.status === 500 && resolution.timedOut === true);
  assert.equal(line(ask("/aaa")), "error 410");
});

test("random rules: never throws, whatever they say", () => {
  const random = mulberry32(7);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const texts = [
    "/",
    "/a",
    "/$1",
    "$name",
    "/b?x=$1&y=$x",
    "https://other.example/$1",
    "",
    "//x",
    "/%",
    "/λ",
    "a b\n",
    "/api/x",
    "$wildcard",
  ];
  const sources = ["(.*)", "^/a/(.*)$", "/([^/]+)/?", "/(?<name>.*)", "(", "/a|/b", "^/(?!x)(.*)", "/", "^/a$", "\\", "/λ(.*)"];
  const transforms: RouteTransform[] = (["request.headers", "request.query", "request.path", "response.headers"] as const).flatMap((type) =>
    (["append", "set", "delete"] as const).flatMap((op) =>
      ["x", "cookie", { re: ".*" }, { nonsense: 1 }].map((key): RouteTransform => ({
        type,
        op,
        target: { key },
        args: pick(texts),
        env: ["name"],
      })),
    ),
  );
  for (let count = 0; count < 400; count++) {
    const routes = Array.from({ length: 8 }, (): Route => {
      if (random() < 0.25) return { handle: pick(["filesystem", "rewrite", "resource", "miss", "hit", "error"]) };
      return {
        src: pick(sources),
        ...(random() < 0.6 ? { dest: pick(texts) } : {}),
        ...(random() < 0.3 ? { status: pick([200, 204, 301, 308, 404, 418, 500, 999]) } : {}),
        ...(random() < 0.3 ? { headers: { [pick(["location", "x-a", "bad name", "set-cookie"])]: pick(texts) } } : {}),
        ...(random() < 0.3 ? { has: [{ type: pick(["host", "header", "cookie", "query"]), key: "x", value: pick(sources) }] } : {}),
        ...(random() < 0.3 ? { transforms: [pick(transforms), pick(transforms)] } : {}),
        ...(random() < 0.2 ? { locale: { redirect: { fr: pick(texts) }, cookie: "x" } } : {}),
        ...(random() < 0.2 ? { middlewarePath: pick(["m", "a", "none"]) } : {}),
        check: random() < 0.3,
        continue: random() < 0.5,
      };
    });
    const compiled = compileRoutes({
      outputs: { ...outputsOf(["a", "λapi/x", "404"]), m: { kind: "middleware", functionId: "m" } },
      routes,
      caseSensitive: random() < 0.5,
      wildcard: [{ domain: "site.localhost", value: pick(texts) }],
    });
    for (const target of ["/", "/a/b?x=1&x=2", "/%e2%82", "/λ/%2f//x", `/${"a/".repeat(100)}?${"&=".repeat(50)}`]) {
      const headers = { cookie: "x=fr; y=%", "accept-language": "fr;q=x, *" };
      let resolution = compiled.resolve({ ...asking(target, { headers }), headerNames: () => Object.keys(headers) });
      for (let step = 0; resolution.kind === "middleware" && step < 20; step++) {
        resolution = resolution.resume({
          requestHeaders: new Map([["x", pick(texts)]]),
          responseHeaders: [],
          rewrite: { path: pick(texts), query: "x=1" },
        });
      }
      assert.notEqual(resolution.kind, "middleware");
      assert(
        !(resolution.kind === "error" && resolution.status === 500 && !routes.some((route) => "status" in route && route.status === 500)),
        target,
      );
      compiled.resolveError(asking(target, { headers }), 500);
    }
  }
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
