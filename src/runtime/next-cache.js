/**
 * The data cache that Next.js asks its platform for (`fetch` with `next`, `unstable_cache`), and the ways by which
 * `revalidateTag` and `revalidatePath` (Next.js looks for a class at a known symbol) and `res.revalidate` (it asks its own
 * address) reach the edge. Pages are not kept here, the edge does that. Data is kept in this instance alone, and never given
 * to a page that the edge will keep; what was revalidated anywhere is out of date here too (purged-tags.js).
 */
import { NextUseCache } from "./next-use-cache.js";
import { notePurge, purgedUntil } from "./purged-tags.js";
import { currentContext } from "./request-context.js";

/** @typedef {{ kind: string, tags?: string[], data?: { body?: string } }} CachedValue */

const bytesMax = 16 * 1024 * 1024;
/** So old that Next.js gives it only while it has it made anew. */
const longAgo = 1;

/** @type {Map<string, { value: CachedValue, lastModified: number, bytes: number }>} Least recently set first. */
const entries = new Map();
let bytes = 0;

class NextDataCache {
  resetRequestCache() {}

  /** @param {string} key @param {{ kind?: string, tags?: string[], softTags?: string[] }} [context] */
  async get(key, context = {}) {
    const entry = entries.get(key);
    if (entry === undefined || context.kind !== "FETCH" || currentContext()?.isPrerender === true) return null;
    const tags = [...(entry.value.tags ?? []), ...(context.tags ?? []), ...(context.softTags ?? [])];
    if (purgedUntil(tags, "delete") >= entry.lastModified) {
      remove(key);
      return null;
    }
    const isStale = purgedUntil(tags, "invalidate") >= entry.lastModified;
    return { lastModified: isStale ? longAgo : entry.lastModified, value: entry.value };
  }

  /** @param {string} key @param {CachedValue | null} value @param {{ tags?: string[] }} [context] */
  async set(key, value, context = {}) {
    remove(key);
    if (value?.kind !== "FETCH") return;
    const size = (value.data?.body?.length ?? 0) * 2 + key.length * 2 + 1024;
    if (size > bytesMax) return;
    entries.set(key, { value: { ...value, tags: context.tags ?? value.tags ?? [] }, lastModified: Date.now(), bytes: size });
    bytes += size;
    for (const oldest of entries.keys()) {
      if (bytes <= bytesMax) break;
      remove(oldest);
    }
  }

  /** @param {string | string[]} tags @param {{ expire?: number }} [durations] present: what is old may be given while it is made anew */
  async revalidateTag(tags, durations) {
    const names = [tags].flat();
    const mode = durations === undefined || durations.expire === 0 ? "delete" : "invalidate";
    for (const tag of names) notePurge(tag, mode, Date.now());
    currentContext()?.purge(names, mode);
  }
}

/** @param {string} key */
function remove(key) {
  bytes -= entries.get(key)?.bytes ?? 0;
  entries.delete(key);
}

/**
 * `res.revalidate(path)` of the pages router asks the deployment itself, at the host of its own request and with the token of
 * its pages, to make the page anew. A Function cannot reach its platform; it tells the edge with its answer, and the page
 * is made anew for whoever asks next.
 * @param {unknown} input @param {RequestInit} [init]
 * @returns {boolean} whether this was such a request, and will be done
 */
function revalidate(input, init) {
  if (init?.method !== "HEAD" || typeof input !== "string" || !Object.hasOwn(init.headers ?? {}, "x-prerender-revalidate")) return false;
  const context = currentContext();
  if (context === undefined || !URL.canParse(input)) return false;
  const { host, pathname } = new URL(input);
  return host === context.headers.host && context.purge([pathname], "page");
}

export function publishNextCache() {
  Object.defineProperty(globalThis, Symbol.for("@next/cache-handlers"), {
    value: { FetchCache: NextDataCache, DefaultCache: new NextUseCache() },
    configurable: true,
    enumerable: false,
    writable: true,
  });
  const { fetch: ask } = globalThis;
  globalThis.fetch = function fetch(input, init) {
    return revalidate(input, init)
      ? Promise.resolve(new Response(null, { headers: { "x-vercel-cache": "REVALIDATED" } }))
      : ask(input, init);
  };
}
