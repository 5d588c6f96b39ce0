/**
 * Which tags' data is out of date, as far as this instance knows: what it has revalidated itself, and what the edge says with
 * each request that others have. Invariant: what is forgotten here counts as out of date, never as good.
 */

/** @typedef {"delete" | "invalidate"} PurgeMode `invalidate`: what is old may be given once more while it is made anew. */

const tagsMax = 10_000;

/** @type {Record<PurgeMode, Map<string, number>>} Tag → time up to which what it names is out of date. */
const times = { delete: new Map(), invalidate: new Map() };
/** Whatever is older is out of date. */
let allUntil = 0;
let learned = "";

/** @param {string} tag @param {PurgeMode} mode @param {number} until milliseconds since the epoch */
export function notePurge(tag, mode, until) {
  const known = times[mode];
  if (known.size >= tagsMax) {
    allUntil = Date.now();
    known.clear();
  }
  known.set(tag, Math.max(known.get(tag) ?? 0, until));
}

/** Takes in what the edge says: `0;d1700000000000=a;i1700000000000=b`, the first for whatever tag, names URL-encoded. @param {string} header */
export function learnPurges(header) {
  if (header === learned) return;
  learned = header;
  const [all, ...purges] = header.split(";");
  allUntil = Math.max(allUntil, Number(all) || 0);
  for (const purge of purges) {
    const mark = purge.indexOf("=");
    notePurge(decodeURIComponent(purge.slice(mark + 1)), purge[0] === "d" ? "delete" : "invalidate", Number(purge.slice(1, mark)));
  }
}

/** @param {readonly string[]} tags @param {PurgeMode} mode @returns {number} time up to which what has one of these is out of date; 0: never */
export function purgedUntil(tags, mode) {
  let until = mode === "delete" ? allUntil : 0;
  for (const tag of tags) until = Math.max(until, times[mode].get(tag) ?? 0);
  return until;
}
