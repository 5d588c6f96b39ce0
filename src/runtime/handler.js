/**
 * From a file of a Function's bundle to one `(request, response)` function, whatever the file exports. The order in
 * which exports are tried is Vercel's: AWS handler, Web methods or `fetch`, `(req, res)`, server.
 */
import { existsSync, readFileSync } from "node:fs";
import { Server } from "node:http";
import { Module } from "node:module";
import { dirname, extname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { awsHandler } from "./aws-handler.js";
import { ModulePack } from "./module-pack.js";
import { withPartialPages } from "./next-prerender.js";
import { withHelpers } from "./request-helpers.js";
import { ListenCapture, serverHandler } from "./server-handler.js";
import { webHandler } from "./web-handler.js";

/** @typedef {import("./protocol.js").LoadMessage} LoadMessage */
/** @typedef {(request: any, response: any) => unknown} Handler */

/** A transpiler may wrap a default export in another, as far as this. */
const defaultsDeepMax = 5;
/** Without a word about it in package.json, Node looks for the like. */
const moduleSyntax = /^\s*(?:import|export)\b/m;

/** @type {ModulePack | undefined} */
let pack;

/** Of the Function that was loaded last. */
export const loadedPack = () => pack;

/**
 * @param {LoadMessage} message
 * @returns {Promise<Handler>}
 * @throws whatever the Function's code throws
 */
export async function loadHandler(message) {
  if (message.edge !== undefined) return (await import("./edge.js")).loadEdgeHandler(message);
  const capture = new ListenCapture();
  pack = ModulePack.open(message.root, message.record);
  pack?.install();
  try {
    const packed = pack?.load(message.handler);
    const namespace = packed === undefined ? await loadModule(message.root, message.handler) : packed.exports;
    return message.awsHandler === "" ? await handlerOf(namespace, capture, message) : awsHandler(namespace, message.awsHandler);
  } finally {
    capture.end();
  }
}

/**
 * A CommonJS module is required, which takes a third of the time of `import` and no trip through the thread pool.
 * @param {string} root @param {string} path
 */
async function loadModule(root, path) {
  const file = join(root, path);
  if (isCommonJs(root, file)) {
    try {
      return /** @type {any} */ (Module)._load(file, undefined, false);
    } catch (error) {
      // A module after all, which Node has found out before anything of it ran; unless it requires one: that fails again.
      if (/** @type {any} */ (error)?.code !== "ERR_REQUIRE_ASYNC_MODULE") throw error;
    }
  }
  return import(pathToFileURL(file).href);
}

/** False when in doubt. @param {string} root @param {string} file */
function isCommonJs(root, file) {
  const extension = extname(file);
  if (extension !== ".js") return extension === ".cjs";
  try {
    for (let directory = dirname(file); directory.startsWith(root); directory = dirname(directory)) {
      const scope = join(directory, "package.json");
      if (!existsSync(scope)) continue;
      const { type } = JSON.parse(readFileSync(scope, "utf8"));
      if (type === "commonjs" || type === "module") return type === "commonjs";
      break;
    }
    return !moduleSyntax.test(readFileSync(file, "utf8"));
  } catch {
    return false;
  }
}

/** @param {any} namespace @param {ListenCapture} capture @param {LoadMessage} message @returns {Promise<Handler>} */
async function handlerOf(namespace, capture, message) {
  let module = namespace;
  for (let depth = 0; depth < defaultsDeepMax && module?.default; depth++) module = module.default;

  const web = webHandler(module, message.web) ?? webHandler(namespace, message.web);
  if (web !== undefined) return web;
  if (module instanceof Server) return serverHandler(module);
  if (typeof module === "function") {
    return message.helpers && typeof module.listen !== "function" ? withHelpers(module) : withPartialPages(module);
  }
  // Koa and Fastify applications that were exported and not told to listen.
  if (typeof module?.callback === "function") return module.callback();
  if (typeof module?.routing === "function" && typeof module.ready === "function") {
    await module.ready();
    return module.routing;
  }
  const server = await capture.late();
  if (server !== undefined) return serverHandler(server);
  throw new TypeError(
    `"${message.handler}" exports no handler: it must export a function, a server, fetch or a method such as GET, or listen on a port.`,
  );
}
