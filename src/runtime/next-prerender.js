/**
 * Next.js pages that are partly made for everybody: while one is made, Next.js hands its platform the shell and the state
 * in which it has left the rendering. The edge gets both in one answer, the state first, in the form that Next.js's builder
 * gives those made at build time; it keeps them, and has each request completed from there.
 */
import { currentContext } from "./request-context.js";

/**
 * @typedef {object} CacheEntry What Next.js would keep.
 * @property {{ kind: string, postponed?: string, status?: number, headers?: Record<string, string | number | string[]>,
 *   html?: { toUnchunkedString(stream: true): string | Promise<string> } } | null} [value]
 * @property {{ revalidate?: number | false, expire?: number }} [cacheControl]
 */
/** @typedef {(request: any, response: any) => unknown} Handler */
/** @typedef {Handler & { getRequestHandlerWithMetadata?: (metadata: object) => Handler }} NextHandler */

const yearS = 31_536_000;

/** @param {NextHandler} handler of Next.js's launcher, or any other @returns {Handler} */
export function withPartialPages(handler) {
  const { getRequestHandlerWithMetadata: handlerWith } = handler;
  if (typeof handlerWith !== "function") return handler;
  return (request, response) => {
    if (currentContext()?.isPrerender !== true) return handler(request, response);
    const onCacheEntry = (/** @type {CacheEntry} */ entry) => give(entry, request, response);
    return handlerWith({ onCacheEntry, onCacheEntryV2: onCacheEntry })(request, response);
  };
}

/**
 * @param {CacheEntry} entry @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response
 * @returns {Promise<boolean>} whether this was a page with a state, and is answered
 */
async function give({ value, cacheControl }, request, response) {
  if (value?.kind !== "APP_PAGE" || typeof value.postponed !== "string") return false;
  const isData = request.headers["rsc"] === "1" || String(request.headers["x-matched-path"]).endsWith(".rsc");
  const shell = isData ? "" : ((await value.html?.toUnchunkedString(true)) ?? "");
  const origin = isData ? "text/x-component" : "text/html; charset=utf-8";
  for (const [name, said] of Object.entries(value.headers ?? {})) response.setHeader(name, said);
  if (!isData && value.status !== undefined) response.statusCode = value.status;
  const { revalidate = false, expire } = cacheControl ?? {};
  const freshS = revalidate === false ? yearS : revalidate;
  const stale = expire === undefined ? "stale-while-revalidate" : `stale-while-revalidate=${Math.max(0, expire - freshS)}`;
  response.setHeader("cache-control", freshS === 0 ? "no-store" : `s-maxage=${freshS}, ${stale}`);
  response.setHeader("x-nextjs-postponed", "1");
  const stateBytes = Buffer.byteLength(value.postponed);
  response.setHeader("content-type", `application/x-nextjs-pre-render; state-length=${stateBytes}; origin=${JSON.stringify(origin)}`);
  response.end(value.postponed + shell);
  return true;
}
