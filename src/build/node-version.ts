/**
 * Which Node a project's Functions run on: the newest that `engines.node` of its package.json allows, else the one of its
 * settings, else the newest. Hides version ranges: of npm's grammar what package.json files have, without pre-releases.
 */
import { readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { MayflyError } from "../errors.ts";

/** Newest first. */
const nodeMajors = [24, 22, 20] as const;
export type NodeMajor = (typeof nodeMajors)[number];

/** Versions as numbers: every part below 100,000. */
interface Interval {
  readonly from: number;
  /** The first that is out of it. */
  readonly to: number;
}

const partMax = 99_999;
const everything: Interval = { from: 0, to: Number.POSITIVE_INFINITY };

/**
 * @param work directory of the project @param repository where the search for package.json files ends
 * @param setting of the project: `22.x`
 * @throws MayflyError BUILD_FAILED when no supported version is allowed
 */
export async function chooseNodeMajor(work: string, repository: string, setting: string | null): Promise<NodeMajor> {
  for (let directory = work; ; directory = dirname(directory)) {
    const path = join(directory, "package.json");
    const range = await enginesOf(path);
    if (range !== undefined) return newestIn(range, `"engines": {"node": ${JSON.stringify(range)}} in ${relative(repository, path)}`);
    if (directory === repository || directory === dirname(directory)) break;
  }
  return setting === null ? nodeMajors[0] : newestIn(setting, `The project's Node.js version ${JSON.stringify(setting)}`);
}

function newestIn(range: string, what: string): NodeMajor {
  const intervals = range.split("||").map(parseSet);
  const offered = `Functions run on Node.js ${nodeMajors.join(", ")}.`;
  if (intervals.includes(null)) throw new MayflyError("BUILD_FAILED", `${what} is no range of versions. ${offered}`);
  const major = nodeMajors.find((candidate) =>
    intervals.some((interval) => interval!.from < numberOf([candidate + 1]) && interval!.to > numberOf([candidate])),
  );
  if (major === undefined) throw new MayflyError("BUILD_FAILED", `${what} allows no version that is there. ${offered}`);
  return major;
}

/** undefined: it says nothing of Node. */
async function enginesOf(path: string): Promise<string | undefined> {
  try {
    const json = JSON.parse(await readFile(path, "utf8")) as { readonly engines?: { readonly node?: unknown } } | null;
    const range = json?.engines?.node;
    return typeof range === "string" && range.trim() !== "" ? range : undefined;
  } catch {
    return undefined;
  }
}

/** Comparators that all must hold; null when it is none. */
function parseSet(text: string): Interval | null {
  const hyphen = /^\s*(\S+)\s+-\s+(\S+)\s*$/.exec(text);
  const joined = hyphen === null ? text.replaceAll(/([<>=~^]+)\s+/g, "$1") : `>=${hyphen[1]} <=${hyphen[2]}`;
  let result = everything;
  for (const comparator of joined.split(/\s+/).filter((word) => word !== "")) {
    const interval = parseComparator(comparator);
    if (interval === null) return null;
    result = { from: Math.max(result.from, interval.from), to: Math.min(result.to, interval.to) };
  }
  return result;
}

function parseComparator(text: string): Interval | null {
  const match = /^(\^|~>?|[<>]=?|=|)v?(\d{1,5}|[xX*])(?:\.(\d{1,5}|[xX*]))?(?:\.(\d{1,5}|[xX*]))?(?:[-+][\w.+-]*)?$/.exec(text);
  if (match === null) return null;
  const [, operator = "", ...words] = match;
  const parts: number[] = [];
  for (const word of words) {
    if (word === undefined || !/^\d/.test(word)) break;
    parts.push(Number(word));
  }
  const from = numberOf(parts);
  const to = parts.length === 0 ? Number.POSITIVE_INFINITY : from + numberOf([...Array.from({ length: parts.length - 1 }, () => 0), 1]);
  switch (operator) {
    case ">=":
      return { from, to: Number.POSITIVE_INFINITY };
    case ">":
      return { from: to, to: Number.POSITIVE_INFINITY };
    case "<":
      return { from: 0, to: from };
    case "<=":
      return { from: 0, to };
    case "^":
      return { from, to: parts.length === 0 ? to : numberOf([parts[0]! + 1]) };
    case "~":
    case "~>":
      return { from, to: parts.length < 2 ? to : numberOf([parts[0]!, parts[1]! + 1]) };
    default:
      return { from, to };
  }
}

function numberOf([major = 0, minor = 0, patch = 0]: readonly number[]): number {
  return (major * (partMax + 1) + minor) * (partMax + 1) + patch;
}
