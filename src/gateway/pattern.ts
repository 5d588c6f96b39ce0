/**
 * The regular expressions of routes. Users write them and they run on the event loop that serves everybody, so none may
 * run for long (docs/decisions/006-route-patterns.md):
 *
 * - what V8's linear-time engine can run falls back to it after too many backtracks, at no cost until then;
 * - what it cannot run (look-around, back-references) runs freely while its worst case for this text is small, and else
 *   under a deadline of processor time; a pattern that meets the deadline a few times is not run on long texts again.
 */
import { setFlagsFromString } from "node:v8";
import { Script } from "node:vm";
import createPcre from "pcre-to-regexp";

/** Backtracks until V8 changes engines: some tenths of a millisecond. */
const backtracksMax = 20_000;
/** Steps that a pattern may take in the worst case without a deadline: a millisecond or two. */
const freeStepsMax = 500_000;
/** Of processor time; a match that was only kept waiting, by a machine with more to do than it can, begins again with more time. */
const deadlineMs = 20;
const attemptsMax = 6;
/** Deadlines that a pattern may meet before it is no longer tried. */
const strikesMax = 3;

/** Thrown when a pattern took too long. */
export class PatternTimeout extends Error {
  /** false: the machine had no time for it. */
  readonly isSlow: boolean;

  constructor(isSlow: boolean) {
    super("A pattern took too long.");
    this.isSlow = isSlow;
  }
}

export class Pattern {
  readonly #regexp: RegExp;
  /** Names of numbered groups, where the pattern's own syntax could not keep them. */
  readonly groupNames: readonly (string | undefined)[];
  /** The worst case grows with this power of the text's length; 0: linear whatever the pattern. */
  readonly #degree: number;
  #strikes = 0;

  constructor(regexp: RegExp, groupNames: readonly (string | undefined)[]) {
    this.#regexp = regexp;
    this.groupNames = groupNames;
    this.#degree = isLinear(regexp) ? 0 : degreeOf(regexp.source);
  }

  /** @throws PatternTimeout */
  match(text: string): RegExpExecArray | null {
    if (this.#degree <= 1 || text.length ** this.#degree <= freeStepsMax) return this.#regexp.exec(text);
    if (this.#strikes >= strikesMax) throw new PatternTimeout(true);
    try {
      return execWithDeadline(this.#regexp, text);
    } catch (error) {
      if (error instanceof PatternTimeout && error.isSlow) this.#strikes++;
      throw error;
    }
  }
}

/** null: it is no regular expression. */
export function compilePattern(source: string, ignoreCase: boolean): Pattern | null {
  prepareEngine();
  // JavaScript reads nearly all PCRE that builders write, and numbers nested groups rightly.
  if (!/\[:\w+:\]|\(\?'/.test(source)) {
    const pattern = compileJavaScript(source.replaceAll("(?P<", "(?<"), ignoreCase);
    if (pattern !== null) return new Pattern(pattern, []);
  }
  try {
    const groupNames: string[] = [];
    return new Pattern(createPcre(`%${source}%${ignoreCase ? "i" : ""}`, groupNames), groupNames);
  } catch {
    return null;
  }
}

function compileJavaScript(source: string, ignoreCase: boolean): RegExp | null {
  try {
    const plain = new RegExp(source, ignoreCase ? "i" : "");
    const folded = ignoreCase ? foldCase(source) : null;
    return folded === null ? plain : new RegExp(folded);
  } catch {
    return null;
  }
}

/**
 * Both cases of every letter, because the linear engine does not know the flag `i`: `/a[b-d]` → `/[aA][b-dB-D]`.
 * null: letters beyond ASCII, or syntax where that is not plain.
 */
export function foldCase(source: string): string | null {
  if (/[^\t\u0020-\u007e]|\\[kpPucx0-9]|\(\?[a-z-]+[:)]/.test(source)) return null;
  let folded = "";
  for (let index = 0; index < source.length; index++) {
    const char = source[index]!;
    if (char === "\\") {
      folded += char + (source[++index] ?? "");
    } else if (char === "[") {
      const end = classEnd(source, index);
      if (end === -1) return null;
      const members = source.slice(index + 1, end);
      const both = foldClass(members);
      if (both === null) return null;
      folded += `[${both}]`;
      index = end;
    } else if (char === "(" && source.startsWith("(?<", index) && /[A-Za-z_$]/.test(source[index + 3] ?? "")) {
      const end = source.indexOf(">", index);
      if (end === -1) return null;
      folded += source.slice(index, end + 1);
      index = end;
    } else {
      folded += /[A-Za-z]/.test(char) ? `[${char.toLowerCase()}${char.toUpperCase()}]` : char;
    }
  }
  return folded;
}

function foldClass(members: string): string | null {
  const without = members.replaceAll(/\\[^A-Za-z]|\\[dDsSwWbtnrfv]/g, "");
  // A range that is neither within one case nor without letters ("A-z") is left to the flag.
  for (const [range] of without.matchAll(/.-[^]/g)) {
    if (!/^(?:[a-z]-[a-z]|[A-Z]-[A-Z]|\d-\d)$/.test(range)) return null;
  }
  const extra = [...members.replaceAll(/\\./g, " ").matchAll(/([A-Za-z])-([A-Za-z])|([A-Za-z])/g)].map(([text]) =>
    text === text.toLowerCase() ? text.toUpperCase() : text.toLowerCase(),
  );
  // Ranges come last, so that a trailing "-" stays a plain character.
  return members.endsWith("-") && extra.length > 0 ? `${members.slice(0, -1)}${extra.join("")}-` : members + extra.join("");
}

function classEnd(source: string, start: number): number {
  for (let index = start + 1; index < source.length; index++) {
    if (source[index] === "\\") index++;
    else if (source[index] === "]") return index;
  }
  return -1;
}

let prepared = false;

/** Counts for every regular expression that is compiled from now on. */
function prepareEngine(): void {
  if (prepared) return;
  prepared = true;
  setFlagsFromString("--enable-experimental-regexp-engine-on-excessive-backtracks");
  setFlagsFromString(`--regexp-backtracks-before-fallback=${backtracksMax}`);
}

/** Whether V8 can run it in linear time: no flags, look-around, back-reference or large counted repetition. */
function isLinear({ source, flags }: RegExp): boolean {
  if (flags !== "") return false;
  const plain = source.replaceAll(/\\[^1-9kbB]/g, "");
  return (
    !/\\|\(\?[=!]|\(\?<[=!]/.test(plain) && ![...plain.matchAll(/\{(\d*),?(\d*)\}/g)].some(([, a, b]) => Number(a) > 50 || Number(b) > 50)
  );
}

/** Unbounded repetitions, each of which may try every length; one inside another may try any split: as good as endless. */
function degreeOf(source: string): number {
  const plain = source.replaceAll(/\\./g, "x").replaceAll(/\[[^\]]*\]/g, "x");
  if (/\\\d|\\k/.test(source)) return 100;
  let degree = 0;
  const open: number[] = [];
  for (let index = 0; index < plain.length; index++) {
    const char = plain[index]!;
    if (char === "(") open.push(degree);
    else if (char === ")") {
      const before = open.pop() ?? 0;
      if (degree > before && isUnbounded(plain, index + 1)) return 100;
    }
    if (char !== "(" && isUnbounded(plain, index + 1)) degree++;
  }
  return degree;
}

function isUnbounded(source: string, index: number): boolean {
  const char = source[index];
  return char === "*" || char === "+" || (char === "{" && /^\{\d+,\d*\}/.test(source.slice(index, index + 12)));
}

const job: { regexp: RegExp | null; text: string } = { regexp: null, text: "" };
const jobName = Symbol.for("mayfly.pattern");
let script: Script | null = null;

/** @throws PatternTimeout */
function execWithDeadline(regexp: RegExp, text: string): RegExpExecArray | null {
  script ??= new Script(`globalThis[Symbol.for("mayfly.pattern")]()`);
  Object.assign(job, { regexp, text });
  (globalThis as Record<symbol, unknown>)[jobName] ??= () => job.regexp!.exec(job.text);
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const begun = process.threadCpuUsage();
    try {
      return script.runInThisContext({ timeout: deadlineMs * 2 ** attempt, breakOnSigint: false }) as RegExpExecArray | null;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ERR_SCRIPT_EXECUTION_TIMEOUT")) throw error;
      const { user, system } = process.threadCpuUsage(begun);
      // What the clock of the processor misses of a run is much less than half.
      if (user + system > (deadlineMs * 1000) / 2) throw new PatternTimeout(true);
    }
  }
  throw new PatternTimeout(false);
}
