/**
 * Edge Functions: the global scope and the modules of a Web-standard runtime, inside the Node process that the instance
 * is. Entering it takes away what is Node's alone, adds what Edge code expects, and lets modules import only the bundle
 * and a few of Node's own. It is about what code finds, not about safety: that is the sandbox's. There is no way back.
 *
 * The classes of the Web (fetch, Request, streams, crypto, URLPattern) are Node's, in the same realm as the Function, so
 * `instanceof` and `constructor` mean what they should. See docs/decisions/007-edge-runtime.md.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { createReadStream, existsSync, readFileSync } from "node:fs";
// Whole: an old Node, which warms itself up with this file too, has no registerHooks.
import modules from "node:module";
import { join, relative } from "node:path";
import process from "node:process";
import { Readable } from "node:stream";
import { fileURLToPath, pathToFileURL } from "node:url";
import { webHandler } from "./web-handler.js";

/** @typedef {import("./protocol.js").LoadMessage} LoadMessage */
/** @typedef {import("node:module").ResolveHookSync} ResolveHook */
/** @typedef {import("node:module").LoadHookSync} LoadHook */

/** What Edge code may import of Node. */
const builtins = new Set(["async_hooks", "events", "buffer", "assert", "util", "util/types"]);
/** Globals that are Node's alone, or that Edge runtimes leave out and libraries test for. */
const withdrawn = [
  ..."global setImmediate clearImmediate navigator Navigator localStorage sessionStorage Storage".split(" "),
  ..."BroadcastChannel MessageChannel MessagePort MessageEvent".split(" "),
];
/** Packages name the files that are meant for such a runtime by these. */
const conditions = ["edge-light", "worker", "browser"];
/** Tried after a path that names no file: Edge code is written for bundlers. */
const endings = [".js", ".mjs", ".cjs", ".json", "/index.js", "/index.mjs"];
const moduleSyntax = /(?:^|[;}])\s*(?:import\s*["'{*\w]|export\s*(?:default|const|let|var|function|async|class|\{|\*))/m;
const requireOfModules = Symbol.for("mayfly.edge.require");

/**
 * @param {LoadMessage} message
 * @returns {Promise<import("./web-handler.js").NodeFunction>}
 * @throws whatever the Function's code throws
 */
export async function loadEdgeHandler({ root, handler, edge, web = "function" }) {
  registerModules(root);
  const listeners = setGlobals(root, edge?.assets ?? {});
  forbidCodeFromStrings();
  const namespace = await import(pathToFileURL(join(root, handler)).href);
  // CommonJS that was an ECMAScript module has its default export within the default.
  const module = namespace.default?.default ?? namespace.default;
  const found = webHandler(module, web) ?? webHandler(namespace, web) ?? listenerHandler(listeners[0], web);
  if (found !== undefined) return found;
  throw new TypeError(`"${handler}" exports no handler: an Edge Function exports a function by default, or a method such as GET.`);
}

/** What a listener for `fetch` is given, as in a service worker. */
class FetchEvent extends Event {
  /** @type {unknown} */
  response;
  /** @param {Request} request @param {(promise: unknown) => void} waitUntil */
  constructor(request, waitUntil) {
    super("fetch");
    this.request = request;
    this.waitUntil = waitUntil;
  }

  /** @param {unknown} response */
  respondWith(response) {
    this.response = response;
  }
}

/** @param {((event: FetchEvent) => unknown) | undefined} listener @param {"function" | "middleware"} kind */
function listenerHandler(listener, kind) {
  if (listener === undefined) return undefined;
  return webHandler(async (/** @type {Request} */ request, /** @type {{ waitUntil(promise: unknown): void }} */ { waitUntil }) => {
    const event = new FetchEvent(request, waitUntil);
    await listener(event);
    return await event.response;
  }, kind);
}

// ── globals ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** @param {string} root @param {Readonly<Record<string, string>>} assets */
function setGlobals(root, assets) {
  /** @type {((event: FetchEvent) => unknown)[]} */
  const listeners = [];
  const { fetch } = globalThis;
  const define = (/** @type {PropertyKey} */ name, /** @type {unknown} */ value) =>
    Object.defineProperty(globalThis, name, { value, configurable: true, enumerable: false, writable: true });
  for (const name of withdrawn) Reflect.deleteProperty(globalThis, name);
  define("process", { env: { ...process.env } });
  define("self", globalThis);
  define("EdgeRuntime", "edge-runtime");
  define("AsyncLocalStorage", AsyncLocalStorage);
  define("FetchEvent", FetchEvent);
  define("addEventListener", (/** @type {string} */ type, /** @type {(event: FetchEvent) => unknown} */ listener) => {
    if (type === "fetch") listeners.push(listener);
  });
  define("fetch", async (/** @type {any} */ input, /** @type {RequestInit | undefined} */ init) => {
    const file = assetFile(input, root, assets);
    return file === undefined ? fetch(input, init) : new Response(streamOf(file));
  });
  return listeners;
}

/**
 * The file of the bundle that `fetch(new URL("./font.ttf", import.meta.url))` or `fetch("blob:font")` means.
 * @param {unknown} input @param {string} root @param {Readonly<Record<string, string>>} assets
 */
function assetFile(input, root, assets) {
  const address = input instanceof Request ? input.url : String(input);
  if (address.startsWith("blob:")) {
    const name = decodeURIComponent(address.slice("blob:".length));
    return Object.hasOwn(assets, name) ? join(root, assets[name] ?? "") : undefined;
  }
  if (!address.startsWith("file:")) return undefined;
  const file = fileURLToPath(address);
  const place = relative(root, file);
  if (place.startsWith("..") || !existsSync(file)) throw new TypeError(`fetch failed: the Function has no file "${place}"`);
  return file;
}

/** @param {string} file */
function streamOf(file) {
  return /** @type {ReadableStream} */ (Readable.toWeb(createReadStream(file)));
}

/** As in every Edge runtime: code is what was deployed. */
function forbidCodeFromStrings() {
  const refuse = () => {
    throw new EvalError("Code generation from strings disallowed for this context");
  };
  const samples = [() => {}, async () => {}, function* () {}, async function* () {}];
  for (const { constructor } of samples) {
    const blocked = function () {
      refuse();
    };
    const { prototype } = constructor;
    blocked.prototype = prototype;
    Object.defineProperty(blocked, "name", { value: constructor.name });
    Object.defineProperty(prototype, "constructor", { value: blocked, configurable: true, writable: true });
    if (constructor === Function) Object.defineProperty(globalThis, "Function", { value: blocked, configurable: true, writable: true });
  }
  Object.defineProperty(globalThis, "eval", { value: refuse, configurable: true, writable: true });
}

// ── modules ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** @param {string} root */
function registerModules(root) {
  // Some builders leave `require("async_hooks")` and `require("/wasm/x.wasm")` in ECMAScript modules.
  Object.defineProperty(globalThis, requireOfModules, { value: (/** @type {string} */ from) => modules.createRequire(from) });
  modules.registerHooks({
    resolve: (specifier, context, next) => resolveModule(specifier, context, next, root),
    load: (url, context, next) => loadModule(url, context, next),
  });
}

/** @param {string} specifier @param {Parameters<ResolveHook>[1]} context @param {Parameters<ResolveHook>[2]} next @param {string} root */
function resolveModule(specifier, context, next, root) {
  if (modules.isBuiltin(specifier)) {
    const name = specifier.replace(/^node:/, "");
    if (!builtins.has(name)) throw new Error(`The Edge runtime does not have the Node.js module "${name}".`);
    return next(`node:${name}`, context);
  }
  if (/\.wasm(?:\?module)?$/.test(specifier)) {
    const path = specifier.replace(/\?module$/, "");
    const url = path.startsWith("/") ? pathToFileURL(join(root, path)) : new URL(path, context.parentURL);
    return { url: url.href, format: "wasm", shortCircuit: true };
  }
  const wanted = { ...context, conditions: [...context.conditions, ...conditions] };
  try {
    return next(specifier, wanted);
  } catch {
    const found = isRelative(specifier) ? endings.find((ending) => exists(specifier + ending, context.parentURL)) : undefined;
    // Conditions may lead to a file that was not traced; Node's own lead to one that was.
    if (found === undefined) return next(specifier, context);
    return next(specifier + found, wanted);
  }
}

/** @param {string} url @param {Parameters<LoadHook>[1]} context @param {Parameters<LoadHook>[2]} next @returns {ReturnType<LoadHook>} */
function loadModule(url, context, next) {
  const required = context.conditions.includes("require");
  if (url.endsWith(".wasm")) {
    const bytes = JSON.stringify(readFileSync(fileURLToPath(url)).toString("base64"));
    const code = `new WebAssembly.Module(Buffer.from(${bytes}, "base64"))`;
    return required
      ? { format: "commonjs", source: `module.exports = ${code};`, shortCircuit: true }
      : { format: "module", source: `export default ${code};`, shortCircuit: true };
  }
  if (!required && url.endsWith(".json") && context.importAttributes["type"] === undefined) {
    return { format: "module", source: `export default ${readFileSync(fileURLToPath(url), "utf8")};`, shortCircuit: true };
  }
  const loaded = next(url, context);
  if (required || !url.startsWith("file:") || url.includes("/node_modules/") || !/\.m?js$/.test(url)) return loaded;
  const source = String(loaded.source ?? readFileSync(fileURLToPath(url), "utf8"));
  // Whatever package.json says: it was written for a bundler.
  if (!moduleSyntax.test(source)) return loaded;
  const declares = /\b(?:const|let|var|function)\s+require\b/.test(source);
  const prefix =
    /\brequire\(/.test(source) && !declares ? `const require = globalThis[Symbol.for("mayfly.edge.require")](import.meta.url);` : "";
  return { ...loaded, format: "module", source: prefix + source };
}

/** @param {string} specifier */
function isRelative(specifier) {
  return specifier.startsWith("./") || specifier.startsWith("../") || specifier.startsWith("/");
}

/** @param {string} specifier @param {string | undefined} parent */
function exists(specifier, parent) {
  return parent?.startsWith("file:") === true && existsSync(fileURLToPath(new URL(specifier, parent)));
}
