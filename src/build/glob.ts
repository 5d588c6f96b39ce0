/**
 * What a glob of `vercel.json` may be. The platform matches it itself, against names that the same project chose, and a
 * matcher that backtracks or writes all alternatives out can be kept busy for ever; so a glob is simple, or refused.
 */

const charsMax = 256;
/** Of all braces and groups together, multiplied. */
const alternativesMax = 64;
/** `*` between two slashes. */
const starsMax = 2;
/** `**` in all. */
const globstarsMax = 3;

/** Why a glob is refused, as the end of a sentence; null: it is not. */
export function whyNoGlob(glob: string): string | null {
  if (glob.length > charsMax) return `is longer than ${charsMax} characters`;
  if (/[+*]\(/.test(glob)) return "repeats a group: +(…) and *(…) cannot be used";
  if (alternativesOf(glob) > alternativesMax) return `stands for more than ${alternativesMax} alternatives`;
  const parts = glob.split("/");
  if (parts.filter((part) => part.includes("**")).length > globstarsMax) return `has ** more than ${globstarsMax} times`;
  const isStarry = parts.some((part) => part !== "**" && (part.match(/\*/g)?.length ?? 0) > starsMax);
  return isStarry ? `has more than ${starsMax} stars between two slashes` : null;
}

/** No fewer than the glob stands for: nested groups are multiplied where they would be added. */
function alternativesOf(glob: string): number {
  let alternatives = 1;
  for (const group of glob.split(/[{(]/).slice(1)) {
    const range = /^(-?\d+)\.\.(-?\d+)/.exec(group);
    if (range !== null) alternatives *= Math.abs(Number(range[2]) - Number(range[1])) + 1;
    else if (/^.\.\../.test(group)) alternatives *= 26;
    alternatives *= (group.match(/[,|]/g)?.length ?? 0) + 1;
  }
  return alternatives;
}
