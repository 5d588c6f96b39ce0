/**
 * What Functions find at `globalThis[Symbol.for("@vercel/request-context")]` while they answer a request: its headers,
 * its address and `waitUntil`. It follows the request through every await; outside of requests it is undefined.
 * Invariant: `settled` resolves only when no promise given to `waitUntil` is pending, also none given meanwhile.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { prerenderHeader, purgeHeader } from "./protocol.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:http").ServerResponse} ServerResponse */

const storage = new AsyncLocalStorage();

export class RequestContext {
  /** @type {IncomingMessage} */
  #request;
  /** @type {ServerResponse | undefined} */
  #response;
  /** @type {Set<Promise<unknown>>} */
  #pending = new Set();
  /** @type {{ delete: Set<string>, invalidate: Set<string>, page: Set<string> } | undefined} */
  #purged;

  /** @param {IncomingMessage} request @param {ServerResponse} [response] */
  constructor(request, response) {
    this.#request = request;
    this.#response = response;
    // Frameworks take it out of the object: `const { waitUntil } = context.get()`.
    this.waitUntil = this.waitUntil.bind(this);
  }

  /** The answer will be given to others. */
  get isPrerender() {
    return this.#request.headers[prerenderHeader] !== undefined;
  }

  /**
   * Has the edge forget what it keeps under these names, before this response reaches its client: tags, or a page by its path.
   * @param {readonly string[]} names @param {"delete" | "invalidate" | "page"} mode
   * @returns {boolean} false: too late, the head has been sent
   */
  purge(names, mode) {
    if (this.#response === undefined || this.#response.headersSent) return false;
    this.#purged ??= { delete: new Set(), invalidate: new Set(), page: new Set() };
    for (const name of names) this.#purged[mode].add(encodeURIComponent(name));
    const parts = Object.entries(this.#purged).filter(([, names]) => names.size > 0);
    this.#response.setHeader(purgeHeader, parts.map(([name, names]) => `${name}=${[...names].join(",")}`).join(";"));
    return true;
  }

  get headers() {
    return this.#request.headers;
  }

  /** Absolute address as the client wrote it. */
  get url() {
    return absoluteUrl(this.#request);
  }

  /**
   * Keeps the instance awake until `promise` has settled. A rejection goes to the log.
   * @param {unknown} promise
   */
  waitUntil(promise) {
    const watched = Promise.resolve(promise)
      .catch((error) => console.error(error))
      .finally(() => this.#pending.delete(watched));
    this.#pending.add(watched);
  }

  get busy() {
    return this.#pending.size > 0;
  }

  async settled() {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }
}

/**
 * Runs `callback` with `context` as the current one.
 * @template T
 * @param {RequestContext} context
 * @param {() => T} callback
 * @returns {T}
 */
export function runInContext(context, callback) {
  return storage.run(context, callback);
}

/** @returns {RequestContext | undefined} */
export function currentContext() {
  return /** @type {RequestContext | undefined} */ (storage.getStore());
}

export function publishContext() {
  Object.defineProperty(globalThis, Symbol.for("@vercel/request-context"), {
    value: { get: currentContext },
    configurable: true,
    enumerable: false,
    writable: true,
  });
}

/** @param {IncomingMessage} request */
export function absoluteUrl(request) {
  const { headers } = request;
  const protocol = first(headers["x-forwarded-proto"]) ?? "http";
  const host = first(headers["x-forwarded-host"]) ?? headers.host ?? "localhost";
  return `${protocol}://${host}${request.url}`;
}

/** @param {string | string[] | undefined} value */
function first(value) {
  return (Array.isArray(value) ? value[0] : value)?.split(",", 1)[0]?.trim();
}
