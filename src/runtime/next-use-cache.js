/**
 * What `"use cache"` of Next.js keeps between requests: in this instance alone, by the least recently set, dropped when one of
 * its tags was revalidated by whichever instance. Next.js finds it at a known symbol, and itself sees to how long things last.
 */
import { notePurge, purgedUntil } from "./purged-tags.js";

/**
 * @typedef {object} Entry
 * @property {ReadableStream<Uint8Array>} value
 * @property {readonly string[]} tags
 * @property {number} stale Seconds, as all durations here.
 * @property {number} timestamp Milliseconds since the epoch.
 * @property {number} expire
 * @property {number} revalidate Below 0: it may be given while it is made anew.
 */

const bytesMax = 16 * 1024 * 1024;
const entryBytes = 500;

export class NextUseCache {
  /** @type {Map<string, { entry: Entry, body: Uint8Array, bytes: number }>} Least recently set first. */
  #kept = new Map();
  #bytes = 0;
  /** @type {Map<string, Promise<void>>} Being set. */
  #pending = new Map();

  /** @param {string} key @param {readonly string[]} [softTags] @returns {Promise<Entry | undefined>} */
  async get(key, softTags = []) {
    await this.#pending.get(key);
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    const { entry, body } = kept;
    const tags = [...entry.tags, ...softTags];
    if (purgedUntil(tags, "delete") >= entry.timestamp) {
      this.#remove(key);
      return undefined;
    }
    const isStale = purgedUntil(tags, "invalidate") >= entry.timestamp;
    return { ...entry, ...(isStale ? { revalidate: -1 } : {}), value: streamOf(body) };
  }

  /** @param {string} key @param {Promise<Entry>} pendingEntry */
  async set(key, pendingEntry) {
    const { promise, resolve } = /** @type {PromiseWithResolvers<void>} */ (Promise.withResolvers());
    this.#pending.set(key, promise);
    try {
      const entry = await pendingEntry;
      const body = await new Response(entry.value).bytes();
      const bytes = body.length + key.length * 2 + entryBytes;
      this.#remove(key);
      if (bytes > bytesMax) return;
      this.#kept.set(key, { entry: { ...entry, value: streamOf(new Uint8Array()) }, body, bytes });
      this.#bytes += bytes;
      for (const oldest of this.#kept.keys()) {
        if (this.#bytes <= bytesMax) break;
        this.#remove(oldest);
      }
    } catch {
      // What was not made whole is not kept; Next.js tells who asked for it.
    } finally {
      if (this.#pending.get(key) === promise) this.#pending.delete(key);
      resolve();
    }
  }

  /** The edge has told with the request. */
  async refreshTags() {}

  /** Next.js 15 gives tags one by one, later ones a list. @param {...(string | readonly string[])} tags */
  async getExpiration(...tags) {
    return purgedUntil(tags.flat(), "delete");
  }

  /** @param {readonly string[]} tags @param {{ expire?: number }} [durations] */
  async updateTags(tags, durations) {
    const mode = durations === undefined || durations.expire === 0 ? "delete" : "invalidate";
    for (const tag of tags) notePurge(tag, mode, Date.now());
  }

  /** Of Next.js 15. @param {...string} tags */
  async expireTags(...tags) {
    await this.updateTags(tags);
  }

  /** @param {string} key */
  #remove(key) {
    this.#bytes -= this.#kept.get(key)?.bytes ?? 0;
    this.#kept.delete(key);
  }
}

/** A new one each time: a stream is read once. @param {Uint8Array} bytes @returns {ReadableStream<Uint8Array>} */
function streamOf(bytes) {
  return new ReadableStream({
    start(controller) {
      if (bytes.length > 0) controller.enqueue(bytes);
      controller.close();
    },
  });
}
