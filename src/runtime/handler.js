/**
 * From a file of a Function's bundle to one `(request, response)` function, whatever the file exports. The order in
 * which exports are tried is Vercel's: AWS handler, Web methods or `fetch`, `(req, res)`, server.
 */
import { Server } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { awsHandler } from "./aws-handler.js";
import { ModulePack } from "./module-pack.js";
import { withHelpers } from "./request-helpers.js";
import { ListenCapture, serverHandler } from "./server-handler.js";
import { webHandler } from "./web-handler.js";

/** @typedef {import("./protocol.js").LoadMessage} LoadMessage */
/** @typedef {(request: any, response: any) => unknown} Handler */

/** A transpiler may wrap a default export in another, as far as this. */
const defaultsDeepMax = 5;

/**
 * @param {LoadMessage} message
 * @returns {Promise<Handler>}
 * @throws whatever the Function's code throws
 */
export async function loadHandler(message) {
  if (message.edge !== undefined) return (await import("./edge.js")).loadEdgeHandler(message);
  const capture = new ListenCapture();
  const pack = ModulePack.open(message.root);
  pack?.install();
  try {
    const packed = pack?.load(message.handler);
    const namespace = packed === undefined ? await import(pathToFileURL(join(message.root, message.handler)).href) : packed.exports;
    return message.awsHandler === "" ? await handlerOf(namespace, capture, message) : awsHandler(namespace, message.awsHandler);
  } finally {
    capture.end();
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
    return message.helpers && typeof module.listen !== "function" ? withHelpers(module) : module;
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
