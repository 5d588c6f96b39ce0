/** What a build may have written, hostile or not, read from a directory and from an uploaded tree. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { loadConfig } from "../config.ts";
import type { RouteRule } from "../model.ts";
import { openDirectory } from "./output-files.ts";
import { readOutput } from "./output.ts";
import type { OutputParts } from "./output.ts";
import { openTestbed } from "./testbed.ts";
import type { Files, Testbed } from "./testbed.ts";

let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

const json = (value: unknown): string => JSON.stringify(value);
const config3 = json({ version: 3 });
const node = json({ runtime: "nodejs24.x", handler: "index.js", launcherType: "Nodejs", shouldAddHelpers: true });

const at = (files: Files): Files =>
  Object.fromEntries(Object.entries({ "config.json": config3, ...files }).map(([path, content]) => [`.vercel/output/${path}`, content]));

/** Reads the same output both ways, and finds the same in it. */
async function read(files: Files, edit?: (directory: string) => Promise<void>): Promise<OutputParts> {
  const directory = await mkdtemp(join(tmpdir(), "mayfly-output-"));
  try {
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      if (typeof content === "object" && "link" in content) await symlink(content.link, join(directory, path));
      else await writeFile(join(directory, path), content);
    }
    await edit?.(directory);
    const parts = await readOutput({
      place: openDirectory(directory, bed.blobs),
      rootDirectory: "",
      blobs: bed.blobs,
      config: loadConfig({}, {}),
    });
    if (edit === undefined) {
      const { outputs, functions, routes } = await bed.build(files, { prebuilt: true });
      assert.deepEqual({ outputs, functions, routes }, { outputs: parts.outputs, functions: parts.functions, routes: parts.routes });
    }
    return parts;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function refused(files: Files, code: string, message: RegExp, edit?: (directory: string) => Promise<void>): Promise<void> {
  const check = (error: Error & { code?: string }): true => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
  await assert.rejects(read(files, edit ?? (async () => {})), check);
  if (edit === undefined) await assert.rejects(bed.build(files, { prebuilt: true }), check);
}

test("static files, Functions, overrides and routes", async () => {
  const parts = await read(
    at({
      "config.json": json({
        version: 3,
        routes: [{ handle: "filesystem" }, { src: "/x", dest: "/y" }],
        overrides: { "a.html": { path: "a" } },
        crons: [],
      }),
      "static/a.html": "a",
      "static/b.txt": "b",
      "functions/api/f.func/.vc-config.json": node,
      "functions/api/f.func/index.js": "module.exports = 1",
    }),
  );
  assert.deepEqual(Object.keys(parts.outputs).sort(), ["a", "api/f", "b.txt"]);
  const { a } = parts.outputs;
  assert.equal(a?.kind === "static" ? a.contentType : "", "text/html; charset=utf-8", "what its own name says");
  assert.equal(Object.values(parts.functions)[0]?.helpers, true);
  assert.equal(parts.routes.length, 2);
});

test("filePathMap brings files of the project, links and directories included", async () => {
  const parts = await read({
    ...at({
      "functions/f.func/.vc-config.json": json({
        runtime: "nodejs24.x",
        handler: "src/h.js",
        filePathMap: { "src/h.js": "src/h.js", "node_modules/m": "node_modules/m", "lib/l.js": "node_modules/m/l.js", all: "data" },
      }),
    }),
    "src/h.js": "1",
    "packages/m/l.js": "2",
    "node_modules/m": { link: "../packages/m" },
    "data/x/y": "3",
  });
  const bundle = await bed.bundle(Object.values(parts.functions)[0]);
  assert.deepEqual(bundle, { "all/x/y": "3", "lib/l.js": "2", "node_modules/m": "../packages/m", "src/h.js": "1" });
});

test("a link to a Function is the same Function; equal files are stored once", async () => {
  const parts = await read(
    at({
      "functions/a.func/.vc-config.json": node,
      "functions/a.func/index.js": "same",
      "functions/deep/b.func": { link: "../a.func" },
      "functions/c.func/.vc-config.json": node,
      "functions/c.func/index.js": "same",
    }),
  );
  assert.deepEqual(parts.outputs["a"], parts.outputs["deep/b"]);
  assert.deepEqual(parts.outputs["a"], parts.outputs["c"]);
  assert.equal(Object.keys(parts.functions).length, 1);
});

test("a Function of several paths is called by the shortest", async () => {
  const parts = await read(
    at({
      "functions/_next/data/1/isr.json.func/.vc-config.json": node,
      "functions/_next/data/1/isr.json.func/index.js": "",
      "functions/isr.func": { link: "./_next/data/1/isr.json.func" },
      "functions/isr.rsc.func": { link: "./_next/data/1/isr.json.func" },
    }),
  );
  assert.deepEqual(
    Object.values(parts.functions).map(({ name }) => name),
    ["isr"],
  );
});

const page = (name: string, more: object): Files => ({
  [`functions/${name}.func/.vc-config.json`]: node,
  [`functions/${name}.func/index.js`]: "",
  [`functions/${name}.prerender-config.json`]: json({
    type: "Prerender",
    expiration: false,
    fallback: { type: "FileFsRef", mode: 33188, fsPath: `${name}.prerender-fallback.html` },
    ...more,
  }),
  [`functions/${name}.prerender-fallback.html`]: "<p>",
});

test("a prerender keeps what its configuration says; an error page that never expires is its file", async () => {
  const conditions = [{ type: "header", key: "next-action" }];
  const parts = await read(
    at({
      ...page("forever", {}),
      ...page("isr", {
        ...{ expiration: 10, staleExpiration: 60, group: 3, bypassToken: "secret", experimentalBypassFor: conditions },
        ...{ allowQuery: ["slug"], allowHeader: ["host"], passQuery: true, initialStatus: 201, initialHeaders: { "X-A": "1" } },
      }),
      ...page("no-fallback", { fallback: null, allowQuery: [] }),
      ...page("partial", { chain: { outputPath: "isr", headers: { "Next-Resume": "1" } } }),
      ...page("404", { initialStatus: 404 }),
    }),
  );
  const kinds = Object.fromEntries(Object.entries(parts.outputs).map(([path, output]) => [path, output.kind]));
  assert.deepEqual(kinds, { "404": "static", forever: "prerender", isr: "prerender", "no-fallback": "prerender", partial: "prerender" });
  const of = (path: string): unknown => {
    const output = parts.outputs[path];
    return output?.kind === "prerender" ? { ...output.prerender, fallback: output.prerender.fallback?.size ?? null } : null;
  };
  const nothing = { bypassToken: null, bypassFor: [], allowQuery: null, allowHeader: null, passQuery: false, initialStatus: 200 };
  const html = { "content-type": "text/html; charset=utf-8" };
  assert.deepEqual(of("forever"), { ...nothing, expirationS: false, initialHeaders: html, fallback: 3 });
  assert.deepEqual(of("no-fallback"), { ...nothing, expirationS: false, allowQuery: [], initialHeaders: {}, fallback: null });
  assert.deepEqual(of("isr"), {
    ...{ expirationS: 10, staleExpirationS: 60, group: 3, bypassToken: "secret", bypassFor: conditions },
    ...{ allowQuery: ["slug"], allowHeader: ["host"], passQuery: true, initialStatus: 201 },
    ...{ initialHeaders: { "x-a": "1", ...html }, fallback: 3 },
  });
  const chain = { outputPath: "isr", headers: { "next-resume": "1" } };
  assert.deepEqual(of("partial"), { ...nothing, expirationS: false, initialHeaders: html, fallback: 3, chain });
  await assert.rejects(read(at(page("partial", { chain: { outputPath: "x", headers: {} } }))), /names "x", which is no Function/);
  await assert.rejects(read(at(page("partial", { chain: { outputPath: "partial", headers: { "a b": "" } } }))), /chain\.headers/);
});

test("Edge Functions and middleware are Functions of their own kinds", async () => {
  const edge = { runtime: "edge", deploymentTarget: "v8-worker", entrypoint: "index.js", regions: "all" };
  const parts = await read(
    at({
      "config.json": json({
        version: 3,
        routes: [
          { src: "/(.*)", middlewarePath: "/mw", continue: true },
          { src: "/n", middlewarePath: "n" },
        ],
      }),
      "functions/e.func/.vc-config.json": json({ ...edge, assets: [{ name: "font", path: "assets/font" }], environment: { A: "1" } }),
      "functions/e.func/index.js": "",
      "functions/mw.func/.vc-config.json": json(edge),
      "functions/mw.func/index.js": "",
      "functions/n.func/.vc-config.json": json({ runtime: "nodejs22.x", handler: "index.js", useWebApi: true }),
      "functions/n.func/index.js": "",
    }),
  );
  const spec = (path: string) => {
    const output = parts.outputs[path];
    return output === undefined || output.kind === "static" ? undefined : parts.functions[output.functionId];
  };
  assert.deepEqual(
    Object.values(parts.outputs).map(({ kind }) => kind),
    ["function", "middleware", "middleware"],
  );
  const { runtime, handler, web, assets, environment } = spec("e")!;
  assert.deepEqual(
    { runtime, handler, web, assets, environment },
    {
      ...{ runtime: "edge", handler: "index.js", web: "function" },
      ...{ assets: { font: "assets/font" }, environment: { A: "1" } },
    },
  );
  assert.deepEqual([spec("mw")!.web, spec("n")!.web, spec("n")!.runtime], ["middleware", "middleware", "nodejs22.x"]);
  assert.equal((parts.routes[0] as RouteRule).middlewarePath, "mw");
});

test("wildcards, images, schedules and the framework are kept", async () => {
  const site = {
    wildcard: [{ domain: "example.fr", value: "fr-FR" }],
    images: { sizes: [640], formats: ["image/webp"], domains: [] },
    crons: [{ path: "/api/cron", schedule: "0 5 * * *" }],
  };
  const { site: kept, framework } = await read(
    at({ "config.json": json({ version: 3, ...site, framework: { slug: "astro", version: "5.0.0" } }) }),
  );
  assert.deepEqual([kept, framework], [site, "astro"]);
});

const f = { "functions/f.func/index.js": "" };
const withConfig = (config: object): Files =>
  at({ ...f, "functions/f.func/.vc-config.json": json({ runtime: "nodejs24.x", handler: "index.js", ...config }) });

const refusals: readonly (readonly [name: string, files: Files, code: string, message: RegExp])[] = [
  ["no config.json", { ".vercel/output/static/a": "" }, "BUILD_OUTPUT_INVALID", /config\.json/],
  ["config.json that is no JSON", at({ "config.json": "{" }), "BUILD_OUTPUT_INVALID", /config\.json is not valid JSON/],
  ["config.json that is no object", at({ "config.json": "[]" }), "BUILD_OUTPUT_INVALID", /must hold an object/],
  ["another version", at({ "config.json": json({ version: 2 }) }), "BUILD_OUTPUT_INVALID", /version 2/],
  [
    "routes that are no array",
    at({ "config.json": json({ version: 3, routes: {} }) }),
    "BUILD_OUTPUT_INVALID",
    /"routes" must be an array/,
  ],
  ["a route without src", at({ "config.json": json({ version: 3, routes: [{ dest: "/" }] }) }), "BUILD_OUTPUT_INVALID", /routes\[0\]/],
  [
    "a route that is no pattern",
    at({ "config.json": json({ version: 3, routes: [{ src: "(" }] }) }),
    "BUILD_OUTPUT_INVALID",
    /regular expression/,
  ],
  [
    "a header that is no string",
    at({ "config.json": json({ version: 3, routes: [{ src: "/", headers: { a: 1 } }] }) }),
    "BUILD_OUTPUT_INVALID",
    /"headers"/,
  ],
  [
    "too many routes",
    at({ "config.json": json({ version: 3, routes: Array.from({ length: 5000 }, () => ({ src: "/" })) }) }),
    "BUILD_OUTPUT_INVALID",
    /5000 routes/,
  ],
  [
    "middleware that is not there",
    at({ "config.json": json({ version: 3, routes: [{ src: "/", middlewarePath: "mw" }] }) }),
    "BUILD_OUTPUT_INVALID",
    /middleware "mw"/,
  ],
  [
    "a transform of an unknown kind",
    at({ "config.json": json({ version: 3, routes: [{ src: "/", transforms: [{ type: "body", op: "set" }] }] }) }),
    "BUILD_OUTPUT_INVALID",
    /"transforms"/,
  ],
  [
    "a schedule without a path",
    at({ "config.json": json({ version: 3, crons: [{ schedule: "* * * * *" }] }) }),
    "BUILD_OUTPUT_INVALID",
    /crons\[0\]/,
  ],
  ["images without sizes", at({ "config.json": json({ version: 3, images: {} }) }), "BUILD_OUTPUT_INVALID", /images\.sizes/],
  ["a prerender's time of a wrong type", at(page("p", { expiration: "1" })), "BUILD_OUTPUT_INVALID", /"expiration"/],
  [
    "an override that leads out",
    at({ "config.json": json({ version: 3, overrides: { a: { path: "../b" } } }), "static/a": "" }),
    "BUILD_OUTPUT_INVALID",
    /"\.\."/,
  ],
  [
    "a content type with a line end",
    at({ "config.json": json({ version: 3, overrides: { a: { contentType: "a\r\nb: c" } } }), "static/a": "" }),
    "BUILD_OUTPUT_INVALID",
    /contentType/,
  ],
  ["an Edge Function without entrypoint", withConfig({ runtime: "edge" }), "BUILD_OUTPUT_INVALID", /"entrypoint"/],
  ["assets of a wrong type", withConfig({ runtime: "edge", entrypoint: "index.js", assets: [1] }), "BUILD_OUTPUT_INVALID", /"assets"/],
  ["another runtime", withConfig({ runtime: "python3.12" }), "BUILD_OUTPUT_UNSUPPORTED", /python3\.12/],
  ["no handler", withConfig({ handler: 3 }), "BUILD_OUTPUT_INVALID", /"handler"/],
  ["a handler that is not there", withConfig({ handler: "x.js" }), "BUILD_OUTPUT_INVALID", /"x\.js" is not among/],
  ["a handler that leads out", withConfig({ handler: "../x.js" }), "BUILD_OUTPUT_INVALID", /"\.\."/],
  ["memory of a wrong type", withConfig({ memory: "1" }), "BUILD_OUTPUT_INVALID", /"memory"/],
  ["an environment of a wrong type", withConfig({ environment: { A: 1 } }), "BUILD_OUTPUT_INVALID", /"environment"/],
  ["a Function without configuration", at(f), "BUILD_OUTPUT_INVALID", /\.vc-config\.json/],
  [
    "filePathMap out of the repository",
    withConfig({ filePathMap: { "p.txt": "../../../etc/passwd" } }),
    "BUILD_OUTPUT_INVALID",
    /no file of the project/,
  ],
  [
    "filePathMap to an absolute path",
    withConfig({ filePathMap: { "p.txt": "/etc/passwd" } }),
    "BUILD_OUTPUT_INVALID",
    /no file of the project/,
  ],
  [
    "filePathMap through a link",
    { ...withConfig({ filePathMap: { "p.txt": "etc/passwd" } }), etc: { link: "/etc" } },
    "BUILD_OUTPUT_INVALID",
    /no file of the project/,
  ],
  ["filePathMap to a path out of the bundle", withConfig({ filePathMap: { "../p.txt": "package.json" } }), "BUILD_OUTPUT_INVALID", /./],
  [
    "a file below a file",
    withConfig({ filePathMap: { "index.js/x": ".vercel/output/config.json" } }),
    "BUILD_OUTPUT_INVALID",
    /a file and a directory/,
  ],
  [
    "a Function that is a link out",
    at({ "functions/f.func": { link: "../../../x.func" } }),
    "BUILD_OUTPUT_INVALID",
    /leads to no Function/,
  ],
  [
    "a fallback out of the output",
    at({
      ...f,
      "functions/f.func/.vc-config.json": node,
      "functions/f.prerender-config.json": json({ expiration: false, fallback: { fsPath: "../../../secret" } }),
    }),
    "BUILD_OUTPUT_INVALID",
    /fallback/,
  ],
];
for (const [name, files, code, message] of refusals) test(`refuses ${name}`, () => refused(files, code, message));

test("links: inside a bundle they are kept, out of it and out of static/ left out", async () => {
  const parts = await read({
    ...at({
      ...f,
      "functions/f.func/.vc-config.json": node,
      "functions/f.func/in": { link: "index.js" },
      "functions/f.func/out": { link: "../../../../../../etc/passwd" },
      "functions/f.func/absolute": { link: "/etc/passwd" },
      "static/passwd": { link: "/etc/passwd" },
      "static/up": { link: "../../../../etc/passwd" },
      "static/loop": { link: "loop" },
      "static/page": { link: "../../../page.html" },
    }),
    "page.html": "page",
  });
  assert.deepEqual(Object.keys(await bed.bundle(Object.values(parts.functions)[0])), ["in", "index.js"]);
  assert.deepEqual(Object.keys(parts.outputs).sort(), ["f", "page"]);
  assert.equal(parts.warnings.length, 5);
});

test("static/ that is a link elsewhere, pipes and devices are refused", async () => {
  await refused(at({}), "BUILD_OUTPUT_INVALID", /not a directory/, async (directory) =>
    symlink("/etc", join(directory, ".vercel/output/static")),
  );
  await refused(at({ "static/a": "" }), "BUILD_OUTPUT_INVALID", /neither file nor directory/, async (directory) => {
    execFileSync("mkfifo", [join(directory, ".vercel/output/static/pipe")]);
  });
});

test("names that JavaScript knows are names like any other", async () => {
  const parts = await read(
    at({
      "static/__proto__": "p",
      "static/constructor": "c",
      "functions/toString.func/.vc-config.json": node,
      "functions/toString.func/index.js": "",
    }),
  );
  assert.deepEqual(Object.keys(parts.outputs).sort(), ["__proto__", "constructor", "toString"]);
});

test("a prebuilt deployment without output says what to do", async () => {
  await assert.rejects(bed.build({ "index.html": "" }, { prebuilt: true }), {
    code: "BUILD_OUTPUT_INVALID",
    message: /run the build before/,
  });
});

test("what is a link or a pipe by the time it is opened is neither followed nor waited for", async () => {
  const directory = await mkdtemp(join(tmpdir(), "mayfly-output-"));
  try {
    await writeFile(join(directory, "secret"), "secret");
    await symlink("secret", join(directory, "link"));
    await mkdir(join(directory, "directory"));
    execFileSync("mkfifo", [join(directory, "pipe")]);
    const place = openDirectory(directory, bed.blobs);
    for (const path of ["link", "directory", "pipe"]) {
      await assert.rejects(place.store(path), { code: /^(ELOOP|BUILD_OUTPUT_INVALID)$/ }, path);
      await assert.rejects(place.read(path, 100), { code: /^(ELOOP|BUILD_OUTPUT_INVALID)$/ }, path);
    }
    assert.equal((await place.read("secret", 100)).toString(), "secret");
  } finally {
    await rm(directory, { recursive: true });
  }
});
