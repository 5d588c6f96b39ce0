/**
 * Handlers in the terms of AWS Lambda: `handler(event, context, callback)` with an API Gateway proxy event, answered by
 * a promise or by the callback. The request's body is collected, base64, before the handler starts.
 */
import { collect } from "./request-helpers.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:http").ServerResponse} ServerResponse */

/**
 * @param {any} module
 * @param {string} name `index.handler`: the export's name follows the last dot.
 * @returns {(request: IncomingMessage, response: ServerResponse) => Promise<void>}
 */
export function awsHandler(module, name) {
  const key = name.slice(name.lastIndexOf(".") + 1);
  const handler = module?.[key] ?? module?.default?.[key];
  if (typeof handler !== "function") throw new TypeError(`The file exports no function "${key}" (AWS Lambda handler "${name}").`);
  return async (request, response) => {
    const body = await collect(request);
    sendResult(await call(handler, eventOf(request, body)), response);
  };
}

/** @param {IncomingMessage} request @param {Buffer} body */
function eventOf(request, body) {
  const url = new URL(request.url ?? "/", "http://localhost");
  return {
    resource: url.pathname,
    path: url.pathname,
    httpMethod: request.method,
    headers: request.headers,
    queryStringParameters: Object.fromEntries(url.searchParams),
    body: body.toString("base64"),
    isBase64Encoded: true,
  };
}

/** @param {Function} handler @param {object} event */
function call(handler, event) {
  return new Promise((resolve, reject) => {
    const callback = (/** @type {unknown} */ error, /** @type {unknown} */ result) => {
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    };
    const context = {
      callbackWaitsForEmptyEventLoop: true,
      functionVersion: "$LATEST",
      memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
      done: callback,
      succeed: resolve,
      fail: reject,
    };
    const returned = handler(event, context, callback);
    if (typeof returned?.then === "function") returned.then(resolve, reject);
  });
}

/** @param {any} result @param {ServerResponse} response */
function sendResult(result, response) {
  if (typeof result !== "object" || result === null)
    throw new TypeError(`The handler answered ${result === null ? "null" : typeof result}, not an object.`);
  response.statusCode = Number(result.statusCode ?? 200);
  for (const [name, value] of Object.entries({ ...result.headers, ...result.multiValueHeaders })) {
    response.setHeader(name, Array.isArray(value) ? value.map(String) : String(value));
  }
  const encoded = result.isBase64Encoded === true || result.encoding === "base64";
  const body = result.body ?? "";
  response.end(typeof body === "string" ? Buffer.from(body, encoded ? "base64" : "utf8") : JSON.stringify(body));
}
