/**
 * What `(req, res)` handlers are given besides Node's own: `req.query`, `req.cookies`, `req.body` and `res.status`,
 * `send`, `json`, `redirect`, as `@vercel/node` defines them. `req.body` is read without await, so the whole body is
 * collected before the handler starts; the handler may still read `req` as a stream.
 */
import { hash } from "node:crypto";
import { IncomingMessage } from "node:http";
import { parse as parseQuery } from "node:querystring";

/** @typedef {import("node:http").ServerResponse} ServerResponse */
/** @typedef {(request: any, response: any) => unknown} Handler */

/** The client's mistake, not the Function's: answered with its status, and no crash. */
class RequestError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const noBytes = Buffer.alloc(0);

/**
 * @param {Handler} handler
 * @returns {Handler}
 */
export function withHelpers(handler) {
  return async (/** @type {IncomingMessage} */ request, /** @type {ServerResponse} */ response) => {
    const { "content-length": length, "transfer-encoding": encoding } = request.headers;
    const hasBody = encoding !== undefined || (length !== undefined && length !== "0");
    const body = hasBody ? await collect(request) : noBytes;
    const seen = hasBody ? withBody(request, body) : request;
    addRequestHelpers(seen, body);
    addResponseHelpers(seen, response);
    try {
      await handler(seen, response);
    } catch (error) {
      if (!(error instanceof RequestError) || response.headersSent) throw error;
      response.statusCode = error.status;
      response.statusMessage = error.message;
      response.end(error.message);
    }
  };
}

/** @param {AsyncIterable<Buffer>} source */
export async function collect(source) {
  /** @type {Buffer[]} */
  const chunks = [];
  for await (const chunk of source) chunks.push(chunk);
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}

/**
 * The same request with its body before it again.
 * @param {IncomingMessage} request
 * @param {Buffer} body
 */
function withBody(request, body) {
  const copy = new IncomingMessage(request.socket);
  copy.httpVersion = request.httpVersion;
  copy.httpVersionMajor = request.httpVersionMajor;
  copy.httpVersionMinor = request.httpVersionMinor;
  copy.method = request.method;
  copy.url = request.url;
  copy.rawHeaders = request.rawHeaders;
  copy.headers = request.headers;
  copy.complete = true;
  copy.push(body);
  copy.push(null);
  return copy;
}

/** What a request's helpers were found or set to, and the bytes of its body. */
const known = Symbol("helpers");

/**
 * A property that is computed when it is first read; frameworks may set another value. One pair of functions for all
 * requests: with a pair of its own each request would get a hidden class of its own, which V8 keeps in old space, and whose
 * functions keep that request, and what is young with it, from the young collections.
 * @param {string} name @param {(request: IncomingMessage, body: Buffer) => unknown} compute
 * @returns {PropertyDescriptor & ThisType<any>}
 */
function lazily(name, compute) {
  return {
    configurable: true,
    enumerable: true,
    get() {
      const values = this[known];
      return name in values ? values[name] : (values[name] = compute(this, values.bytes));
    },
    set(value) {
      this[known][name] = value;
    },
  };
}

const query = lazily("query", ({ url = "" }) => {
  const mark = url.indexOf("?");
  return mark === -1 ? {} : { ...parseQuery(url.slice(mark + 1)) };
});
const cookies = lazily("cookies", ({ headers }) => parseCookies(headers.cookie ?? ""));
const body = lazily("body", ({ headers }, bytes) => parseBody(bytes, headers["content-type"]));

/** @param {any} request @param {Buffer} bytes its body */
function addRequestHelpers(request, bytes) {
  request[known] = { bytes };
  Object.defineProperty(request, "query", query);
  Object.defineProperty(request, "cookies", cookies);
  Object.defineProperty(request, "body", body);
}

/** @param {Buffer} body @param {string | undefined} contentType */
function parseBody(body, contentType) {
  switch (contentType?.split(";", 1)[0]?.trim().toLowerCase()) {
    case "application/json":
      if (body.length === 0) return {};
      try {
        return JSON.parse(body.toString());
      } catch {
        throw new RequestError(400, "Invalid JSON");
      }
    case "application/octet-stream":
      return body;
    case "application/x-www-form-urlencoded":
      return { ...parseQuery(body.toString()) };
    case "text/plain":
      return body.toString();
    default:
      return undefined;
  }
}

/** The first of two cookies of one name counts. @param {string} header */
function parseCookies(header) {
  /** @type {Record<string, string>} */
  const cookies = {};
  for (const pair of header.split(";")) {
    const equals = pair.indexOf("=");
    if (equals === -1) continue;
    const name = pair.slice(0, equals).trim();
    if (Object.hasOwn(cookies, name)) continue;
    let value = pair.slice(equals + 1).trim();
    if (value.startsWith('"')) value = value.slice(1, -1);
    try {
      value = value.includes("%") ? decodeURIComponent(value) : value;
    } catch {
      // Not encoded after all.
    }
    Object.defineProperty(cookies, name, { value, configurable: true, enumerable: true, writable: true });
  }
  return cookies;
}

/** @param {IncomingMessage} request @param {ServerResponse} response */
function addResponseHelpers(request, response) {
  Object.assign(response, {
    /** @param {number} status */
    status(status) {
      response.statusCode = status;
      return response;
    },
    /** @param {unknown} body */
    send: (body) => send(request, response, body),
    /** @param {unknown} value */
    json: (value) => sendJson(request, response, value),
    /** @param {number | string} statusOrUrl @param {string} [url] */
    redirect(statusOrUrl, url) {
      const status = typeof statusOrUrl === "string" ? 307 : statusOrUrl;
      const location = typeof statusOrUrl === "string" ? statusOrUrl : url;
      if (typeof status !== "number" || typeof location !== "string") {
        throw new Error(
          "Invalid redirect arguments. Please use a single argument URL, e.g. res.redirect('/destination') " +
            "or use a status code and URL, e.g. res.redirect(307, '/destination').",
        );
      }
      response.writeHead(status, { Location: location }).end();
      return response;
    },
  });
}

const jsonType = "application/json; charset=utf-8";

/** @param {IncomingMessage} request @param {ServerResponse} response @param {unknown} value */
function sendJson(request, response, value) {
  if (!response.hasHeader("content-type")) response.setHeader("content-type", jsonType);
  return send(request, response, JSON.stringify(value));
}

/**
 * @param {IncomingMessage} request @param {ServerResponse} response @param {unknown} body
 * @returns {ServerResponse}
 */
function send(request, response, body) {
  // Text stays text: Node writes head and body in one piece then.
  /** @type {Buffer | string | undefined} */
  let bytes;
  if (typeof body === "string") {
    const type = response.getHeader("content-type") ?? "text/html";
    if (typeof type === "string") response.setHeader("content-type", withUtf8(type));
    bytes = body;
  } else if (body instanceof Uint8Array) {
    if (!response.hasHeader("content-type")) response.setHeader("content-type", "application/octet-stream");
    bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  } else if (body === null) {
    bytes = Buffer.alloc(0);
  } else if (typeof body === "object" || typeof body === "boolean" || typeof body === "number") {
    return sendJson(request, response, body);
  } else if (body !== undefined) {
    throw new Error("`body` is not a valid string, object, boolean, number, Stream, or Buffer");
  }
  if (bytes !== undefined) {
    const size = Buffer.byteLength(bytes);
    response.setHeader("content-length", size);
    if (!response.hasHeader("etag")) response.setHeader("etag", weakEtag(bytes, size));
  }
  if (response.statusCode === 204 || response.statusCode === 304) {
    for (const name of ["content-type", "content-length", "transfer-encoding"]) response.removeHeader(name);
    bytes = undefined;
  }
  if (request.method === "HEAD") bytes = undefined;
  response.end(bytes);
  return response;
}

/** @param {string} type */
function withUtf8(type) {
  if (type === jsonType || type === "text/html; charset=utf-8") return type;
  const parts = type.split(";").filter((part, index) => index === 0 || !/^\s*charset\s*=/i.test(part));
  return [parts[0]?.trim(), "charset=utf-8", ...parts.slice(1).map((part) => part.trim())].join("; ");
}

/** @param {Buffer | string} body @param {number} size its bytes */
function weakEtag(body, size) {
  return `W/"${size.toString(16)}-${hash("sha1", body, "base64").slice(0, 27)}"`;
}
