/**
 * Handlers in the terms of the Web: `GET(request)`, `POST(request)`, … or `fetch(request)`, each returning a Response.
 * Bodies stream both ways. A method without an export is answered 405; HEAD falls back to GET, without the body.
 */
import { once } from "node:events";
// Not the globals: an Edge Function has none of them.
import { clearImmediate, setImmediate } from "node:timers";
import { absoluteUrl, currentContext } from "./request-context.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:http").ServerResponse} ServerResponse */
/** @typedef {(request: Request, options: { waitUntil(promise: unknown): void }) => unknown} WebFunction */
/** @typedef {(request: IncomingMessage, response: ServerResponse) => Promise<void>} NodeFunction */

const methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"];

/**
 * @param {any} module What the Function exports.
 * @param {"function" | "middleware"} [kind] It is known to be one of the Web: a function that it exports by default takes a Request.
 * @returns {NodeFunction | undefined} undefined when it exports nothing of the kind
 */
export function webHandler(module, kind) {
  if (kind !== undefined && typeof module === "function") return webFunction(module, kind);
  if (kind === "middleware" && typeof module?.middleware === "function") return webFunction(module.middleware, kind);
  if (typeof module?.fetch === "function") {
    return (request, response) => answer(module.fetch.bind(module), request, response);
  }
  const exported = methods.filter((method) => typeof module?.[method] === "function");
  if (exported.length === 0) return undefined;
  const allowed = exported.includes("GET") && !exported.includes("HEAD") ? [...exported, "HEAD"] : exported;
  return async (request, response) => {
    const method = request.method ?? "GET";
    if (!allowed.includes(method)) {
      response.writeHead(405, { allow: allowed.join(", ") }).end();
      return;
    }
    await answer(module[exported.includes(method) ? method : "GET"].bind(module), request, response);
  };
}

/**
 * @param {WebFunction} handler
 * @param {"function" | "middleware"} kind what a middleware does not answer passes
 * @returns {NodeFunction}
 */
function webFunction(handler, kind) {
  if (kind === "function") return (request, response) => answer(handler, request, response);
  /** @type {WebFunction} */
  const passing = async (request, options) =>
    (await handler(request, options)) ?? new Response(null, { headers: { "x-middleware-next": "1" } });
  return (request, response) => answer(passing, request, response);
}

/** @param {WebFunction} handler @param {IncomingMessage} request @param {ServerResponse} response */
async function answer(handler, request, response) {
  const context = currentContext();
  const result = await handler(toRequest(request), { waitUntil: (promise) => context?.waitUntil(promise) });
  if (!isResponse(result)) {
    throw new TypeError(
      `The handler of ${request.method} ${request.url} returned ${result === null ? "null" : typeof result}, not a Response.`,
    );
  }
  await sendResponse(result, request, response);
}

/**
 * Also a Response of another implementation than Node's own.
 * @param {unknown} value
 * @returns {value is Response}
 */
function isResponse(value) {
  return typeof value === "object" && value !== null && "status" in value && "headers" in value && "body" in value;
}

/** @param {IncomingMessage} incoming */
function toRequest(incoming) {
  /** @type {[string, string][]} */
  const headers = [];
  const raw = incoming.rawHeaders;
  for (let index = 0; index < raw.length; index += 2) headers.push([raw[index] ?? "", raw[index + 1] ?? ""]);
  const method = incoming.method ?? "GET";
  const { "content-length": length, "transfer-encoding": encoding } = incoming.headers;
  const hasBody = method !== "GET" && method !== "HEAD" && (encoding !== undefined || (length !== undefined && length !== "0"));
  /** @type {RequestInit & { duplex?: "half" }} */
  const init = { method, headers };
  if (hasBody) {
    init.body = /** @type {any} */ (bodyStream(incoming));
    init.duplex = "half";
  }
  return new Request(absoluteUrl(incoming), init);
}

/** @param {IncomingMessage} incoming */
function bodyStream(incoming) {
  const iterator = incoming[Symbol.asyncIterator]();
  return new ReadableStream(
    {
      type: "bytes",
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (!done) controller.enqueue(new Uint8Array(value));
        else {
          controller.close();
          controller.byobRequest?.respond(0);
        }
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

/** @param {Response} result @param {IncomingMessage} request @param {ServerResponse} response */
async function sendResponse(result, request, response) {
  /** @type {string[]} */
  const headers = [];
  for (const [name, value] of result.headers) headers.push(name, value);
  response.writeHead(result.status, result.statusText === "" ? undefined : result.statusText, headers);
  const body = /** @type {AsyncIterable<Uint8Array> | null} */ (/** @type {unknown} */ (result.body));
  if (body === null || body === undefined || request.method === "HEAD") {
    response.end();
    return;
  }
  // The head goes out by itself only when the first chunk is not there yet.
  const flush = setImmediate(() => response.flushHeaders());
  for await (const chunk of body) {
    clearImmediate(flush);
    if (response.destroyed) return;
    if (!response.write(chunk)) await Promise.race([once(response, "drain"), once(response, "close")]);
  }
  clearImmediate(flush);
  response.end();
}
