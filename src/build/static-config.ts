/**
 * What a Function's file says about itself without being run: `export const config = { runtime: "edge", maxDuration: 60 }`,
 * `module.exports.config = …`, or `export const maxDuration = 60`. Only literals are understood; anything else is as if it
 * were not there, which is safe because the platform's own limits hold anyway.
 */
export interface StaticConfig {
  readonly runtime?: string;
  readonly maxDuration?: number;
  readonly memory?: number;
  readonly regions?: readonly string[];
  /** Paths of a middleware; null: it names some, and not as literals. */
  readonly matcher?: string | readonly string[] | null;
}

/** A longer one is none: what begins one must not be followed to the file's end. */
const string = String.raw`"(?:\\.|[^"\\\n]){0,1000}"|'(?:\\.|[^'\\\n]){0,1000}'`;
const strings = `\\[\\s*(?:(?:${string})\\s*,?\\s*)*\\]`;
/** What follows a literal that is the whole value: not `5` of `5 * 60`. */
const end = String.raw`(?=[ \t]*(?:[,;}\r\n]|//|/\*|as\b|satisfies\b|$))`;
/** A comment, or a string (first group), in which what looks like a comment is none. */
const commentOrString = new RegExp(`(${string})|/\\*(?:[^*]|\\*(?!/))*(?:\\*/)?|^[^\\S\\n]*//.*$`, "gm");

/** Beyond it a file is not looked into: the platform itself reads that of a middleware, and must not be kept busy. */
const sourceCharsMax = 2 * 1024 * 1024;

export function readStaticConfig(source: string): StaticConfig {
  if (source.length > sourceCharsMax) return {};
  if (!/\b(?:config|runtime|maxDuration|memory|regions)\b/.test(source)) return {};
  const text = source.replaceAll(commentOrString, (_, kept: string | undefined) => kept ?? "");
  const object = objectAfter(text, /(?:\bexport\s+const\s+config\b[^={;]{0,1000}|\b(?:module\.)?exports\.config\s*)=\s*(?=\{)/);
  const value = (name: string, literal: string): string | undefined =>
    new RegExp(`(?:^|[{,\\s])["']?${name}["']?\\s*:\\s*(${literal})${end}`).exec(object)?.[1] ??
    new RegExp(`^[^\\S\\n]*export\\s+const\\s+${name}\\b[^=;]{0,1000}=\\s*(${literal})${end}`, "m").exec(text)?.[1];
  const runtime = value("runtime", `"[^"\\n]*"|'[^'\\n]*'`)?.slice(1, -1);
  const maxDuration = value("maxDuration", `\\d+`);
  const memory = value("memory", `\\d+`);
  const regions = value("regions", strings);
  const matcher = value("matcher", `${string}|${strings}`);
  return {
    ...(runtime === undefined ? {} : { runtime }),
    ...(maxDuration === undefined ? {} : { maxDuration: Number(maxDuration) }),
    ...(memory === undefined ? {} : { memory: Number(memory) }),
    ...(regions === undefined ? {} : { regions: stringsOf(regions) }),
    ...(matcher === undefined && /\bmatcher["']?\s*:/.test(object) ? { matcher: null } : {}),
    ...(matcher === undefined ? {} : { matcher: matcher.startsWith("[") ? stringsOf(matcher) : stringsOf(matcher)[0]! }),
  };
}

/** The values of the string literals in a text. */
function stringsOf(text: string): readonly string[] {
  return [...text.matchAll(new RegExp(string, "g"))].map(([literal]) => literal.slice(1, -1).replaceAll(/\\(.)/g, "$1"));
}

/** The text of the object literal that follows `start`, or "". */
function objectAfter(text: string, start: RegExp): string {
  const match = start.exec(text);
  if (match === null) return "";
  const from = match.index + match[0].length;
  let depth = 0;
  for (let index = from; index < text.length; index++) {
    if (text[index] === "{") depth++;
    else if (text[index] === "}" && --depth === 0) return text.slice(from, index + 1);
  }
  return "";
}
