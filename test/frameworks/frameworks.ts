/**
 * Deploys a starter of each framework through the front door and asks it for what such a site must answer. Slow (packages
 * are installed from the registry), so not part of `npm test`: `npm run test:frameworks [-- NAME…]`. What passes gets its
 * row in docs/frameworks.md.
 *
 * Each directory beside this file is one project, exactly as a person would deploy it; what to ask it is below.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { callApi } from "../git/journey.ts";
import { startMayfly } from "../mayfly.ts";
import type { Mayfly, Reply } from "../server.ts";
import { managerNames, Monorepo } from "./monorepo.ts";
import { nextJourneys, partialJourneys } from "./next-journeys.ts";

interface Check {
  /** Column of the table: `API route`. */
  readonly what: string;
  readonly path: string;
  /** Sent as JSON by POST. */
  readonly json?: unknown;
  /** 200 by default. */
  readonly status?: number;
  /** In the body. */
  readonly body?: RegExp;
  /** Value of a response header. */
  readonly header?: readonly [name: string, value: RegExp];
  /** A file that the page names is there, with a type of this kind. */
  readonly asset?: RegExp;
}

interface Starter {
  readonly title: string;
  /** Package whose version the table shows. */
  readonly package: string;
  readonly checks: readonly Check[];
  /** What takes more than one request. @returns what was checked */
  readonly also?: (mayfly: Mayfly, url: string, log: string) => Promise<readonly string[]>;
  /** Absent: the directory of its name. */
  readonly make?: () => Promise<{ readonly directory: string; readonly rootDirectory: string; readonly version: string }>;
}

const html = (body: RegExp): Pick<Check, "body" | "header"> => ({ body, header: ["content-type", /^text\/html/] });
const json = (body: RegExp): Pick<Check, "body" | "header"> => ({ body, header: ["content-type", /^application\/json/] });
const publicFile: Check = { what: "public file", path: "/hello.txt", body: /^hello from public$/m, header: ["x-vercel-cache", /HIT/] };
const echo: Check = { what: "API route with body", path: "/api/echo", json: { a: [1] }, status: 201, ...json(/^\{"a":\[1\]\}$/) };
const user: Check = { what: "dynamic route", path: "/users/7?q=1", ...json(/"id":"7".*"q":"1"/) };
const missing = (body: RegExp): Check => ({ what: "404", path: "/not/here", status: 404, body });

const starters: Readonly<Record<string, Starter>> = {
  "astro-server": {
    title: "Astro, server",
    package: "astro",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada/) },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      echo,
      { what: "prerendered page", path: "/about", ...html(/About, prerendered/) },
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
  },
  "astro-static": {
    title: "Astro, static",
    package: "astro",
    checks: [
      { what: "static page", path: "/", ...html(/Astro, static/) },
      { what: "page of a collection", path: "/posts/second/", ...html(/Post second/) },
      missing(/Astro has no such page/),
    ],
  },
  eleventy: {
    title: "Eleventy",
    package: "@11ty/eleventy",
    checks: [
      { what: "static page", path: "/", ...html(/<h1>Eleventy<\/h1>/) },
      { what: "page of a collection", path: "/posts/second/", ...html(/Post second/) },
      missing(/Eleventy has no such page/),
    ],
  },
  express: {
    title: "Express",
    package: "express",
    checks: [{ what: "page", path: "/", ...html(/Express/) }, user, echo, publicFile, missing(/Express has no such page/)],
  },
  fastify: {
    title: "Fastify (TypeScript)",
    package: "fastify",
    checks: [{ what: "JSON", path: "/", ...json(/"hello":"fastify"/) }, user, echo, missing(/Route GET:\/not\/here not found/)],
  },
  hono: {
    title: "Hono (TypeScript)",
    package: "hono",
    checks: [
      { what: "page", path: "/", ...html(/Hono/) },
      user,
      echo,
      { what: "streaming", path: "/stream", body: /^one two three$/ },
      publicFile,
      missing(/404 Not Found/),
    ],
  },
  koa: {
    title: "Koa",
    package: "koa",
    checks: [{ what: "JSON", path: "/", ...json(/"hello":"koa"/) }, user, missing(/Not Found/)],
  },
  nest: {
    title: "Nest",
    package: "@nestjs/core",
    checks: [{ what: "JSON", path: "/", ...json(/"hello":"nest"/) }, user, echo, missing(/Cannot GET \/not\/here/)],
  },
  "node-server": {
    title: "http.createServer().listen()",
    package: "",
    checks: [{ what: "JSON", path: "/", ...json(/"id":""/) }, user, publicFile, missing(/no such page/)],
  },
  next: {
    title: "Next.js (both routers)",
    package: "next",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for.*Ada/s), asset: /"(\/_next\/static\/[^"]+\.js)"/ },
      { what: "pages router", path: "/legacy?q=Ada", ...html(/Pages router for.*Ada/s) },
      { what: "dynamic route", path: "/users/7", ...html(/User.*7/s) },
      { what: "route handler with body", path: "/api/echo", json: { a: [1] }, status: 201, ...json(/^\{"a":\[1\]\}$/) },
      { what: "API route", path: "/api/users/7", ...json(/"id":"7"/) },
      { what: "Edge route", path: "/api/edge?q=1", ...json(/"edge":"string","q":"1"/) },
      { what: "static page", path: "/about", ...html(/About, static/) },
      { what: "middleware's header", path: "/about", header: ["x-from-middleware", /yes/] },
      { what: "middleware's redirect", path: "/guarded/x", status: 307, header: ["location", /\/about$/] },
      { what: "redirects", path: "/old", status: 308, header: ["location", /\/about$/] },
      { what: "rewrites", path: "/rewritten/9", ...html(/User.*9/s) },
      { what: "headers", path: "/about", header: ["x-from-config", /yes/] },
      { what: "notFound()", path: "/users/none", status: 404, body: /Next\.js has no such page/ },
      { what: "next/image", path: "/_next/image?url=%2Fdot.png&w=64&q=75", header: ["content-type", /^image\//] },
      publicFile,
      missing(/Next\.js has no such page/),
    ],
    also: nextJourneys,
  },
  "next-cache": {
    title: "Next.js with Cache Components",
    package: "next",
    checks: [
      {
        what: "shell from the edge",
        path: "/",
        header: ["x-vercel-cache", /PRERENDER/],
        ...{ body: /Static shell.*Late part for.*nobody/s },
      },
      { what: "page of unknown parameters", path: "/blog/other", ...html(/Blog shell.*other/s) },
      { what: "static page", path: "/cached", ...html(/<time>\d+/) },
      { what: "proxy on Node.js", path: "/", header: ["x-from-proxy", /^d799bae6$/] },
      { what: "proxy's redirect", path: "/moved", status: 307, header: ["location", /\/$/] },
      { what: "instrumentation", path: "/api/seen", ...json(/"registered":"nodejs"/) },
      { what: "404", path: "/not/here", status: 404 },
    ],
    also: partialJourneys,
  },
  "next-base-path": {
    title: "Next.js below a basePath",
    package: "next",
    checks: [
      { what: "static page", path: "/docs/", ...html(/href="\/docs\/users\/7\/"/), asset: /"(\/docs\/_next\/static\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/docs/users/7/", ...html(/User.*7/s) },
      { what: "API route", path: "/docs/api/hello/", ...json(/"url":"\/api\/hello/) },
      { what: "trailing slash", path: "/docs/users/7", status: 308, header: ["location", /\/docs\/users\/7\/$/] },
      { what: "404", path: "/users/7/", status: 404 },
    ],
  },
  nuxt: {
    title: "Nuxt",
    package: "nuxt",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada.*user 7/s), asset: /"(\/_nuxt\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      { what: "API route", path: "/api/users/7", ...json(/"id":\s*"7"/) },
      { ...echo, body: /"a":\s*\[\s*1\s*\]/ },
      { what: "prerendered page", path: "/about", ...html(/About, prerendered/) },
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
  },
  "react-router": {
    title: "React Router (framework mode)",
    package: "react-router",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for.*Ada/s), asset: /"(\/assets\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/users/7", ...html(/User.*7/s) },
      echo,
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
  },
  remix: {
    title: "Remix (Vite)",
    package: "@remix-run/dev",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada/), asset: /"(\/assets\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      echo,
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
  },
  "solid-start": {
    title: "SolidStart",
    package: "@solidjs/start",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada/), asset: /"(\/_build\/assets\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      echo,
      publicFile,
    ],
  },
  sveltekit: {
    title: "SvelteKit (adapter-auto)",
    package: "@sveltejs/kit",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada/), asset: /"\.?(\/_app\/immutable\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      echo,
      { what: "prerendered page", path: "/about", ...html(/About, prerendered/) },
      publicFile,
      { what: "404", path: "/users/none", status: 404, body: /no such user/ },
    ],
  },
  "tanstack-start": {
    title: "TanStack Start",
    package: "@tanstack/react-start",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada/), asset: /"(\/assets\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      echo,
      publicFile,
      missing(/TanStack Start has no such page/),
    ],
  },
  "vite-react": {
    title: "Vite + React, with api/",
    package: "vite",
    checks: [
      { what: "static page", path: "/", ...html(/id="root"/), asset: /"(\/assets\/[^"]+\.js)"/ },
      { what: "API route", path: "/api/users/7", ...json(/"id":"7"/) },
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
  },
};

/** By name: `pnpm-workspace`. */
const workspaces = managerNames.map((manager): [string, Starter] => {
  const name = `${manager}-workspace`;
  let made: Monorepo | undefined;
  return [
    name,
    {
      title: `Monorepo, ${manager.replace("-", " ")} workspace`,
      package: "",
      make: async () => {
        made = await Monorepo.make(manager);
        return { directory: made.directory, rootDirectory: "apps/web", version: made.version };
      },
      checks: [
        { what: "build with a package of the workspace and devDependencies", path: "/", ...html(/<h1>a &amp; b<\/h1>/) },
        { what: "Function", path: "/api/time", ...json(/"title":"a & b","minute":"1m","version":"2\.1\.2"/) },
        { what: "Edge Function", path: "/api/edge", body: /^a & b$/ },
        { what: "404", path: "/not/here", status: 404 },
      ],
      also: (mayfly, _url, log) => made!.work(mayfly, name, log),
    },
  ];
});
const all: Readonly<Record<string, Starter>> = { ...starters, ...Object.fromEntries(workspaces) };

const asked = process.argv.slice(2);
const names = asked.length > 0 ? asked : Object.keys(all);
/** Title → row of the table. */
const rows = new Map<string, string>();
let mayfly: Mayfly | undefined;

for (const name of names) {
  test(name, { timeout: 900_000 }, async () => {
    const starter = all[name];
    assert.ok(starter !== undefined, `There is no starter "${name}": ${Object.keys(all).join(", ")}`);
    mayfly ??= await startMayfly();
    const load = (loadavg()[0]! / availableParallelism()).toFixed(1);
    const made = await starter.make?.();
    const directory = made?.directory ?? join(import.meta.dirname, name);
    if (made !== undefined) await callApi(mayfly, "POST", "/v9/projects", { name, rootDirectory: made.rootDirectory });
    const { code, stdout, stderr } = await mayfly.run("deploy", directory, "--name", name);
    assert.equal(code, 0, stderr);
    const url = stdout.trim();
    let coldMs: number | null = null;
    for (const check of starter.checks) {
      const begun = performance.now();
      const reply = await ask(mayfly, url, check);
      if (coldMs === null && reply.headers["x-mayfly-start"] === "cold") coldMs = performance.now() - begun;
    }
    const seconds = secondsOf(stderr);
    const checked = starter.checks.map(({ what, asset }) => (asset === undefined ? what : `${what}, assets`));
    if (starter.also !== undefined) checked.push(...(await starter.also(mayfly, url, stderr)));
    rows.set(
      starter.title,
      `| ${starter.title} | ${made?.version ?? versionOf(name, starter)} | ${[...new Set(checked)].join(", ")} | ${seconds} | ${coldMs === null ? "–" : Math.round(coldMs)} | ${load} |`,
    );
  });
}

/** Rows of what was not run stay as they are. */
after(() => {
  const page = join(import.meta.dirname, "../../docs/frameworks.md");
  const kept = existsSync(page) ? readFileSync(page, "utf8").split("\n") : [];
  for (const { title } of Object.values(all)) {
    const old = kept.find((line) => line.startsWith(`| ${title} |`));
    if (!rows.has(title) && old !== undefined) rows.set(title, old);
  }
  const sorted = [...rows].sort(([a], [b]) => a.localeCompare(b, "en")).map(([, row]) => row);
  if (sorted.length > 0) writeFileSync(page, `${head}${sorted.join("\n")}\n`);
});

async function ask(server: Mayfly, url: string, check: Check): Promise<Reply> {
  const body = check.json === undefined ? {} : { method: "POST" as const, body: JSON.stringify(check.json) };
  const headers = { accept: "text/html,*/*", ...(check.json === undefined ? {} : { "content-type": "application/json" }) };
  const reply = await server.fetch(url + check.path, { ...body, headers });
  const said = `${check.what} (${check.path}): ${reply.status}\n${reply.text.slice(0, 2000)}`;
  assert.equal(reply.status, check.status ?? 200, said);
  if (check.body !== undefined) assert.match(reply.text, check.body, said);
  if (check.header !== undefined) assert.match(String(reply.headers[check.header[0]]), check.header[1], said);
  if (check.asset !== undefined) {
    const asset = check.asset.exec(reply.text)?.[1];
    assert.ok(asset !== undefined, `${said}\nnames no asset`);
    const file = await server.fetch(url + asset);
    assert.deepEqual([file.status, file.headers["x-vercel-cache"]], [200, "HIT"], asset);
  }
  return reply;
}

/** `Ready in 7.6 s`, `Ready in 1 min 59 s`, as the command line tells it. */
function secondsOf(progress: string): string {
  const found = /Ready in (?:(\d+) min\s*)?(?:([\d.]+) (ms|s))?/.exec(progress);
  if (found === null) return "?";
  const [, minutes = "0", value = "0", unit] = found;
  return (Number(minutes) * 60 + Number(value) / (unit === "ms" ? 1000 : 1)).toFixed(1);
}

function versionOf(name: string, starter: Starter): string {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(import.meta.dirname, name, "package.json"), "utf8")) as Record<
    string,
    Record<string, string> | undefined
  >;
  return dependencies?.[starter.package] ?? devDependencies?.[starter.package] ?? "";
}

const head = `# Frameworks

Each starter in \`test/frameworks/\` is deployed as it is and asked for what the table says; \`npm run test:frameworks\` does
it again and writes this page. Build seconds are from the create call to ready, installs from the registry included; cold
milliseconds are those of the first request that met no instance, its whole way included. *Load* is how many processes wanted
each core before the build began: at 0 the machine was the build's own, at 3 it had a quarter of it.

| framework | version | checked | build s | cold ms | load |
|---|---|---|---|---|---|
`;
