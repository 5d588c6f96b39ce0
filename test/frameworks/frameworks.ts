/**
 * Deploys a starter of each framework through the front door and asks it for what such a site must answer. Slow (packages
 * are installed from the registry), so not part of `npm test`: `npm run test:frameworks [-- NAME…]`. A run of all that
 * passes writes docs/frameworks.md.
 *
 * Each directory beside this file is one project, exactly as a person would deploy it; what to ask it is below.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { startMayfly } from "../mayfly.ts";
import type { Mayfly, Reply } from "../server.ts";

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

const asked = process.argv.slice(2);
const names = asked.length > 0 ? asked : Object.keys(starters);
const rows: string[] = [];
let mayfly: Mayfly | undefined;

for (const name of names) {
  test(name, { timeout: 900_000 }, async () => {
    const starter = starters[name];
    assert.ok(starter !== undefined, `There is no starter "${name}": ${Object.keys(starters).join(", ")}`);
    mayfly ??= await startMayfly();
    const { code, stdout, stderr } = await mayfly.run("deploy", join(import.meta.dirname, name), "--name", name);
    assert.equal(code, 0, stderr);
    const url = stdout.trim();
    let coldMs: number | null = null;
    for (const check of starter.checks) {
      const begun = performance.now();
      const reply = await ask(mayfly, url, check);
      if (coldMs === null && reply.headers["x-mayfly-start"] === "cold") coldMs = performance.now() - begun;
    }
    const seconds = secondsOf(stderr);
    const checked = starter.checks.map(({ what, asset }) => (asset === undefined ? what : `${what}, assets`)).join(", ");
    rows.push(
      `| ${starter.title} | ${versionOf(name, starter)} | ${checked} | ${seconds} | ${coldMs === null ? "–" : Math.round(coldMs)} |`,
    );
  });
}

after(() => {
  if (asked.length > 0 || rows.length < names.length) return;
  writeFileSync(join(import.meta.dirname, "../../docs/frameworks.md"), `${head}${rows.join("\n")}\n`);
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

/** `Ready in 7.6 s`, as the command line tells it. */
function secondsOf(progress: string): string {
  const found = /Ready in ([\d.]+) (ms|s|m)/.exec(progress);
  if (found === null) return "?";
  const value = Number(found[1]) / (found[2] === "ms" ? 1000 : 1);
  return value.toFixed(1);
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
milliseconds are those of the first request that met no instance, its whole way included.

| framework | version | checked | build s | cold ms |
|---|---|---|---|---|
`;
