/** The starters: each is a directory beside this file, exactly as a person would deploy it; here is what to ask it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Mayfly } from "../server.ts";
import { managerNames, Monorepo } from "./monorepo.ts";
import { localeJourneys, nextJourneys, partialJourneys, richJourneys } from "./next-journeys.ts";

export interface Check {
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

export interface Starter {
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
const picture = (url: string, quality: number, status: number): Check => ({
  what: "next/image: localPatterns, remotePatterns, qualities",
  path: `/_next/image?url=${encodeURIComponent(url)}&w=64&q=${quality}`,
  status,
});
const missing = (body: RegExp): Check => ({ what: "404", path: "/not/here", status: 404, body });

const single: Readonly<Record<string, Starter>> = {
  "astro-server": {
    title: "Astro, server",
    package: "astro",
    checks: [
      { what: "server-side rendering", path: "/?q=Ada", ...html(/rendered for Ada/) },
      { what: "dynamic route", path: "/users/7", ...html(/User 7/) },
      echo,
      { what: "prerendered page", path: "/about", ...html(/About, prerendered/) },
      { what: "island", path: "/island", ...html(/said by middleware.*Island/s), asset: /component-url="(\/_astro\/[^"]+\.js)"/ },
      { what: "middleware", path: "/island", header: ["x-from-middleware", /yes/] },
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
    also: serverIsland,
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
  "next-rich": {
    title: "Next.js, what else it has",
    package: "next",
    checks: [
      { what: "next/font/local", path: "/fonts", ...html(/Local font/), asset: /href="(\/_next\/static\/media\/[^"?]+\.woff2)/ },
      { what: "next/image of an import", path: "/pictures", ...html(/url=%2F_next%2Fstatic%2Fmedia%2Fdot/) },
      picture("/dot.png", 75, 200),
      picture("/dot.png", 90, 400),
      picture("/icon.png", 75, 400),
      // It is allowed, and there is no such host.
      picture("https://pictures.example/allowed/x.png", 75, 502),
      picture("https://pictures.example/other/x.png", 75, 400),
      { what: "rewrites of each kind", path: "/before/fonts", ...html(/Local font/) },
      { what: "rewrites of each kind", path: "/fallback-to/known", ...html(/Fallback known/) },
      // The platform reaches public addresses only.
      { what: "rewrites of each kind", path: "/elsewhere/x", status: 502, header: ["x-vercel-error", /ROUTER_EXTERNAL_TARGET/] },
      { what: "getStaticPaths fallback", path: "/fallback/known", ...html(/Fallback known/) },
      { what: "getStaticPaths fallback", path: "/fallback/new", ...html(/Loading/) },
      { what: "getStaticPaths fallback", path: "/blocking/x", ...html(/Blocking x/) },
      { what: "getStaticPaths fallback", path: "/blocking/away", status: 307, header: ["location", /\/blocking\/here$/] },
      { what: "parallel routes", path: "/feed/1", ...html(/Whole page of.*1.*no modal/s) },
      { what: "sitemap", path: "/sitemap.xml", body: /rich\.example/, header: ["content-type", /^application\/xml/] },
      { what: "robots", path: "/robots.txt", body: /Allow: \// },
      { what: "manifest", path: "/manifest.webmanifest", body: /"Rich"/ },
      { what: "icon", path: "/icon.png", header: ["content-type", /^image\/png/] },
      { what: "og image", path: "/opengraph-image", body: /^.PNG/, header: ["content-type", /^image\/png/] },
      { what: "ImageResponse on Node.js", path: "/og", body: /^.PNG/, header: ["content-type", /^image\/png/] },
      { what: "ImageResponse on Edge", path: "/og-edge", body: /^.PNG/, header: ["content-type", /^image\/png/] },
      { what: "middleware on Edge", path: "/after", ...html(/by.*string/s) },
      { what: "not-found", path: "/nothing", status: 404, body: /Rich has no such page/ },
      { what: "global-error", path: "/broken", status: 500, header: ["content-type", /^text\/html/] },
      { what: "500 page", path: "/failing", status: 500, body: /Rich went wrong/ },
    ],
    also: richJourneys,
  },
  "next-i18n": {
    title: "Next.js with i18n",
    package: "next",
    checks: [
      { what: "default locale", path: "/", ...html(/locale.*en/s) },
      { what: "locale", path: "/de", ...html(/locale.*de/s) },
      { what: "prerendered locale", path: "/de/posts/first", ...html(/Post first in de/) },
      { what: "made on demand", path: "/posts/first", ...html(/Post first in en/) },
      { what: "404", path: "/de/not/here", status: 404, body: /No such page in any language/ },
    ],
    also: localeJourneys,
  },
  "next-export": {
    title: 'Next.js, output: "export"',
    package: "next",
    checks: [
      { what: "static page", path: "/", ...html(/Exported/), asset: /"(\/_next\/static\/[^"]+\.js)"/ },
      { what: "dynamic route", path: "/posts/first/", body: /Post.*first/s, header: ["x-vercel-cache", /HIT/] },
      { ...missing(/The export has no such page/), path: "/not/here/" },
    ],
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
      { what: "routeRules redirect", path: "/old", status: 307, header: ["location", /\/about$/] },
      { what: "prerendered page", path: "/about", ...html(/About, prerendered/) },
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
    also: keeps("routeRules isr and swr", "/kept", "/soon"),
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
    also: keeps("ISR", "/kept"),
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
  "vue-vite": {
    title: "Vue + Vite",
    package: "vue",
    checks: [
      { what: "static page", path: "/", ...html(/id="app"/), asset: /"(\/assets\/[^"]+\.js)"/ },
      publicFile,
      { what: "rewrite to the application", path: "/any/where", ...html(/id="app"/) },
    ],
  },
  vitepress: {
    title: "VitePress",
    package: "vitepress",
    checks: [
      { what: "static page", path: "/", ...html(/VitePress/), asset: /"(\/assets\/[^"]+\.js)"/ },
      { what: "clean URL", path: "/guide/first", ...html(/First guide/) },
      missing(/404/),
    ],
  },
  hexo: {
    title: "Hexo",
    package: "hexo",
    checks: [
      { what: "static page", path: "/", ...html(/Hexo starter/) },
      { what: "page of a collection", path: "/posts/first/", ...html(/Post first/) },
      { what: "404", path: "/not/here", status: 404 },
    ],
  },
  nitro: {
    title: "Nitro",
    package: "nitropack",
    checks: [
      { what: "JSON", path: "/", ...json(/"hello":\s*"nitro"/) },
      { what: "dynamic route", path: "/users/7?q=1", ...json(/"id":\s*"7".*"q":\s*"1"/s) },
      { ...echo, body: /"a":\s*\[\s*1\s*\]/ },
      { what: "routeRules redirect", path: "/old", status: 307 },
      publicFile,
      { what: "404", path: "/not/here", status: 404 },
    ],
    also: keeps("routeRules isr", "/kept"),
  },
  h3: {
    title: "h3",
    package: "h3",
    checks: [
      { what: "JSON", path: "/", ...json(/"hello":\s*"h3"/) },
      { ...user, body: /"id":\s*"7".*"q":\s*"1"/s },
      { ...echo, body: /"a":\s*\[\s*1\s*\]/ },
      missing(/not\/here/),
    ],
  },
  elysia: {
    title: "Elysia (TypeScript)",
    package: "elysia",
    checks: [{ what: "JSON", path: "/", ...json(/"hello":"elysia"/) }, user, echo, missing(/NOT_FOUND/)],
  },
  turborepo: {
    title: "Turborepo, Next.js in a workspace",
    package: "turbo",
    make: async () => ({
      directory: join(import.meta.dirname, "turborepo"),
      rootDirectory: "apps/web",
      version: versionOf("turborepo", "turbo"),
    }),
    checks: [
      {
        what: "static page of a package that is built first",
        path: "/",
        ...html(/from a package that was built first/),
        asset: /"(\/_next\/static\/[^"]+\.js)"/,
      },
      { what: "route handler", path: "/api/now", ...json(/from a package that was built first/) },
      { what: "404", path: "/not/here", status: 404 },
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
export const starters: Readonly<Record<string, Starter>> = { ...single, ...Object.fromEntries(workspaces) };

/** Pages that the edge keeps: the second who asks has what the first one got. */
function keeps(what: string, ...paths: readonly string[]): NonNullable<Starter["also"]> {
  return async (server, url) => {
    for (const path of paths) {
      const first = await server.fetch(url + path);
      assert.equal(first.status, 200, first.text);
      assert.match(first.text, /\d{13}/, path);
      const second = await server.fetch(url + path);
      assert.deepEqual([second.headers["x-vercel-cache"], second.text], ["HIT", first.text], path);
    }
    return [what];
  };
}

/** The part of a page of Astro's that the browser asks for by itself. */
async function serverIsland(server: Mayfly, url: string): Promise<readonly string[]> {
  const page = await server.fetch(`${url}/island`);
  const island = /["'`](\/_server-islands\/[^"'`]+)["'`]/.exec(page.text)?.[1]?.replaceAll("&amp;", "&");
  assert.ok(island !== undefined, page.text);
  const reply = await server.fetch(url + island);
  assert.equal(reply.status, 200, reply.text);
  assert.match(reply.text, /<time>\d+/);
  return ["server island"];
}

/** Of the package, as the starter asks for it. */
export function versionOf(name: string, dependency: string): string {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(import.meta.dirname, name, "package.json"), "utf8")) as Record<
    string,
    Record<string, string> | undefined
  >;
  return dependencies?.[dependency] ?? devDependencies?.[dependency] ?? "";
}
