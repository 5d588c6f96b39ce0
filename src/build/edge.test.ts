/** `runtime: "edge"` and routing middleware, built from source. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { FunctionSpec, RouteRule } from "../model.ts";
import type { BuildResult } from "./build.ts";
import { openTestbed } from "./testbed.ts";
import type { Testbed } from "./testbed.ts";

let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

function functionAt(result: BuildResult, path: string): FunctionSpec {
  const output = result.outputs[path];
  assert.ok(output !== undefined && output.kind !== "static", `"${path}" is a Function`);
  return result.functions[output.functionId]!;
}

test("an Edge Function is one module with what it imports; WebAssembly and named files lie beside it", async () => {
  const result = await bed.build({
    "api/e.ts": `
      import { greet } from "../lib/greet";
      import { kind } from "pack";
      import { AsyncLocalStorage } from "async_hooks";
      import add from "../lib/add.wasm?module";
      export const config = { runtime: "edge", regions: ["fra1"] };
      export default () => new Response(greet as string + kind + typeof AsyncLocalStorage + typeof add);`,
    "lib/greet.ts": 'export const greet: string = "hello"; export const font = fetch(new URL("./font.ttf", import.meta.url));',
    "lib/font.ttf": "font",
    "lib/add.wasm": "\0asm",
    "api/p.js":
      'import sub from "pack/sub.wasm?module"; export const config = { runtime: "edge" }; export default () => new Response(typeof sub);',
    "node_modules/pack/sub.wasm": "\0asm",
    "node_modules/pack/package.json": JSON.stringify({
      name: "pack",
      exports: { ".": { "edge-light": "./edge.js", default: "./node.js" }, "./sub.wasm": "./sub.wasm" },
    }),
    "node_modules/pack/edge.js": 'export const kind = "light";',
    "node_modules/pack/node.js": 'import "node:fs"; export const kind = "heavy";',
  });
  const spec = functionAt(result, "api/e");
  const { runtime, handler, regions, web } = spec;
  assert.deepEqual({ runtime, handler, regions, web }, { runtime: "edge", handler: "api/e.js", regions: ["fra1"], web: "function" });
  const files = await bed.bundle(spec);
  assert.deepEqual(Object.keys(files).sort(), ["api/e.js", "lib/add.wasm", "lib/font.ttf"]);
  assert.deepEqual(Object.keys(await bed.bundle(functionAt(result, "api/p"))).sort(), ["api/p.js", "node_modules/pack/sub.wasm"]);
  assert.match(files["api/e.js"]!, /"light"[^]*"\.\.\/lib\/font\.ttf"|"\.\.\/lib\/font\.ttf"[^]*"light"/);
});

test("an import that the Edge runtime does not have fails the build, and says where", async () => {
  const build = bed.build({
    "api/e.js": 'import { read } from "../lib/a.js"; export const config = { runtime: "edge" }; export default read;',
    "lib/a.js": 'import fs from "node:fs"; export const read = fs.readFileSync;',
  });
  await assert.rejects(build, (error: Error & { code?: string }) => {
    assert.equal(error.code, "BUILD_FAILED");
    assert.match(error.message, /"api\/e\.js"[^]*lib\/a\.js:1: .*"fs"/);
    return true;
  });
});

test("middleware runs before the files, for the paths of its matcher, on the runtime that it asks for", async () => {
  const edge = await bed.build({
    "middleware.ts": `
      /* not: matcher: "/no" */
      export const config = { matcher: ["/about/:path*", "/((?!api|x\\\\.y).*)/(.*)/z"] };
      export default (request: Request) => {};`,
    "index.html": "<p>",
    "vercel.json": JSON.stringify({ redirects: [{ source: "/old", destination: "/" }] }),
  });
  const places = edge.routes.map((one) => ("src" in one ? (one.middlewarePath ?? one.src) : one.handle));
  assert.deepEqual(places.slice(0, 2), ["^/old$", "middleware"], "after the redirects, before every file");
  const route = edge.routes[1] as RouteRule;
  assert.match("/about/us", new RegExp(route.src));
  assert.doesNotMatch("/api/z", new RegExp(route.src));
  assert.equal(edge.outputs["middleware"]?.kind, "middleware");
  assert.equal(edge.outputs["middleware.ts"], undefined);
  assert.deepEqual([functionAt(edge, "middleware").runtime, functionAt(edge, "middleware").web], ["edge", "middleware"]);

  const computed = 'export const config = { matcher: [{ source: "/a" }] };\nexport default () => {};';
  await assert.rejects(bed.build({ "middleware.js": computed, "index.html": "" }), /"middleware\.js": its config\.matcher/);

  const node = await bed.build({
    "middleware.js": 'export const config = { runtime: "nodejs" }; export default () => {};',
    "index.html": "",
  });
  assert.deepEqual([functionAt(node, "middleware").runtime, functionAt(node, "middleware").web], ["nodejs24.x", "middleware"]);
  const all = node.routes.find((one): one is RouteRule => "middlewarePath" in one);
  assert.equal(all?.src, "^/.*$");
});
