/** Edge Functions: what their code finds, imports and may export; in real sandboxes, through the pools. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { FunctionSpec } from "../model.ts";
import { openTestDrivers, Stage, type CallOptions } from "./testbed.ts";

const [driver] = await openTestDrivers();
const stage = await Stage.open(driver!);
after(() => stage[Symbol.asyncDispose]());

type Files = Readonly<Record<string, string>>;

const call = async (files: Files, options: CallOptions = {}, settings: Partial<FunctionSpec> & { env?: Record<string, string> } = {}) =>
  await stage.call(await stage.deploy(files, { runtime: "edge", helpers: false, ...settings }), options);

/** Answers what an expression is there. */
const asks = async (expression: string, settings: Partial<FunctionSpec> & { env?: Record<string, string> } = {}): Promise<unknown> => {
  const answer = await call({ "index.js": `export default async (request, context) => Response.json(${expression});` }, {}, settings);
  assert.equal(answer.status, 200, answer.text);
  return JSON.parse(answer.text);
};

/** `(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))` */
const wasm = Buffer.from("0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b", "hex").toString("latin1");

describe("what an Edge Function may export", { timeout: 60_000 }, () => {
  const kinds: readonly (readonly [string, Files])[] = [
    ["a default function", { "index.js": "export default (request) => new Response(request instanceof Request ? 'ok' : 'no');" }],
    ["GET", { "index.js": "export const GET = async () => new Response('ok');" }],
    ["an object with fetch", { "index.js": "export default { fetch: () => new Response('ok') };" }],
    ["CommonJS with a default", { "index.js": "exports.__esModule = true; exports.default = () => new Response('ok');" }],
    ["a listener", { "index.js": "addEventListener('fetch', (event) => event.respondWith(new Response('ok')));" }],
    [
      "modules as a bundler's user writes them",
      {
        "api/index.js":
          "import { text } from '../lib/text'; import data from './data.json'; export default () => new Response(text + data.k);",
        "lib/text.js": "export const text = 'o';",
        "api/data.json": '{"k":"k"}',
        "package.json": '{"type":"commonjs"}',
      },
    ],
    [
      "Next.js's wrapper",
      {
        "index.js": `globalThis._ENTRIES = {};
          self.webpackChunk = 1;
          _ENTRIES["middleware_m"] = { default: async ({ request }) => ({ response: new Response(new URL(request.url).pathname === "/" ? "ok" : "no"), waitUntil: Promise.resolve() }) };
          export default (function () { const module = { exports: {} }; (function (module) { const a = require("async_hooks");
            const storage = new a.AsyncLocalStorage();
            module.exports.default = () => async (request, context) => { const u = await storage.run({}, () => _ENTRIES["middleware_m"].default.call({}, { request: { url: request.url } })); context.waitUntil(u.waitUntil); return u.response; };
          })(module); return module.exports; }).call({}).default({});`,
      },
    ],
  ];
  for (const [name, files] of kinds) {
    it(name, async () => {
      assert.deepEqual(await call(files).then(({ status, text }) => [status, text]), [200, "ok"]);
    });
  }

  it("and nothing: that is said", async () => {
    const { runtime, ...target } = { runtime: "edge", ...(await stage.deploy({ "index.js": "export const a = 1;" }, { runtime: "edge" })) };
    await assert.rejects(stage.call(target), /exports no handler/, runtime);
  });

  it("a method that it does not have is 405", async () => {
    const answer = await call({ "index.js": "export const GET = () => new Response('ok');" }, { method: "DELETE" });
    assert.equal(answer.status, 405);
  });
});

describe("what Edge code finds", { timeout: 60_000 }, () => {
  it("the Web's classes, with the identity that instanceof asks for", async () => {
    const names =
      "fetch Request Response Headers URL URLPattern URLSearchParams FormData Blob File WebSocket TransformStream TextDecoderStream";
    const more =
      "AbortController structuredClone queueMicrotask atob TextEncoder crypto CryptoKey performance AsyncLocalStorage Buffer self";
    const missing = `"${names} ${more}".split(" ").filter((name) => globalThis[name] === undefined)`;
    assert.deepEqual(await asks(missing), []);
    assert.equal(
      await asks(
        `new Uint8Array(await new Response("a").arrayBuffer()) instanceof Uint8Array && (await new Response("{}").json()).constructor === Object`,
      ),
      true,
    );
    assert.equal(
      await asks(`Buffer.from(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("a"))).toString("hex").slice(0, 8)`),
      "ca978112",
    );
  });

  it("nothing that is Node's alone", async () => {
    assert.deepEqual(
      await asks(
        `["global", "require", "module", "setImmediate", "navigator", "localStorage", "MessageChannel"].filter((name) => name in globalThis)`,
      ),
      [],
    );
    assert.deepEqual(await asks("Object.keys(process)"), ["env"]);
    assert.equal(await asks("typeof EdgeRuntime"), "string");
  });

  it("its environment", async () => {
    assert.equal(await asks("process.env.GREETING", { env: { GREETING: "hello" } }), "hello");
  });

  it("no code from strings", async () => {
    const tries = [
      "eval('1')",
      "Function('return 1')()",
      "(() => {}).constructor('return 1')()",
      "(async () => {}).constructor('return 1')()",
    ];
    for (const code of tries) {
      assert.equal(await asks(`(() => { try { return String(${code}); } catch (error) { return error.name; } })()`), "EvalError", code);
    }
    assert.equal(await asks("(() => {}) instanceof Function && (() => {}).constructor === Function"), true);
  });

  it("a few of Node's modules, and says which it has not", async () => {
    const allowed =
      "import { AsyncLocalStorage } from 'async_hooks'; import { Buffer } from 'node:buffer'; import { EventEmitter } from 'events'; import assert from 'assert'; import { format } from 'node:util';";
    const answer = await call({ "index.js": `${allowed} export default () => new Response(format("%s", typeof EventEmitter));` });
    assert.equal(answer.text, "function");
    const target = await stage.deploy(
      { "index.js": "import fs from 'node:fs'; export default () => new Response('');" },
      { runtime: "edge" },
    );
    await assert.rejects(stage.call(target), /does not have the Node\.js module "fs"/);
  });

  it("WebAssembly modules, imported and required", async () => {
    const answers = "export default () => new Response(String(new WebAssembly.Instance(module).exports.add(1, 2)));";
    for (const takes of ["import module from './add.wasm?module';", "const module = require('/api/add.wasm');"]) {
      assert.equal((await call({ "api/index.js": `${takes} ${answers}`, "api/add.wasm": wasm })).text, "3", takes);
    }
  });

  it("the files of its bundle, by address and by name", async () => {
    const files = {
      "api/index.js":
        "export default async () => new Response(await (await fetch(new URL('./a.txt', import.meta.url))).text() + await (await fetch(new URL('blob:b'))).text());",
      "api/a.txt": "o",
      "assets/b-1.txt": "k",
    };
    assert.equal((await call(files, {}, { assets: { b: "assets/b-1.txt" } })).text, "ok");
    const outside = await stage.deploy(
      { "index.js": "export default () => fetch('file:///etc/passwd').catch((error) => new Response(error.message));" },
      { runtime: "edge" },
    );
    assert.match((await stage.call(outside)).text, /has no file/);
  });
});

describe("requests of an Edge Function", { timeout: 60_000 }, () => {
  it("streams both ways", async () => {
    const code =
      "export default (request) => new Response(request.body.pipeThrough(new TransformStream({ transform: (chunk, to) => to.enqueue(chunk) })), { headers: { 'x-a': '1' } });";
    const answer = await call({ "index.js": code }, { body: "hello", headers: ["content-type", "text/plain"] });
    assert.deepEqual([answer.text, answer.headers["x-a"]], ["hello", "1"]);
  });

  it("waitUntil goes on after the response", async () => {
    const target = await stage.deploy(
      {
        "index.js":
          "export default (request, context) => { context.waitUntil(new Promise((resolve) => setTimeout(() => { console.log('later'); resolve(); }, 50))); return new Response('ok'); };",
      },
      { runtime: "edge" },
    );
    assert.equal((await stage.call(target)).text, "ok");
    await stage.log(target, (lines) => lines.some((line) => line.text === "later"));
  });

  it("a middleware that returns nothing lets the request pass", async () => {
    const answer = await call({ "middleware.js": "export default () => {};" }, {}, { web: "middleware" });
    assert.deepEqual([answer.status, answer.headers["x-middleware-next"]], [200, "1"]);
  });

  it("a middleware on Node.js takes a Request too", async () => {
    const code =
      "import fs from 'node:fs'; export default (request) => request.url.endsWith('/x') ? new Response(typeof fs.readFileSync) : undefined;";
    const settings = { runtime: "nodejs24.x", web: "middleware" } as const;
    assert.equal((await call({ "middleware.mjs": code }, { url: "/x" }, settings)).text, "function");
    assert.equal((await call({ "middleware.mjs": code }, { url: "/y" }, settings)).headers["x-middleware-next"], "1");
    const named = await call({ "middleware.mjs": "export const middleware = () => new Response('named');" }, {}, settings);
    assert.equal(named.text, "named");
  });
});
