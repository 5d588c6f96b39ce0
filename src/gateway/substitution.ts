/** `$1` and `$name` in the templates of routes. Pure. Invariant: what is made is bounded, and written for its place. */
import type { Pattern } from "./pattern.ts";
import { decodeLoosely, encodePathText } from "./spelling.ts";

/** Longest path, header or parameter that substitution may make; a route like `/(.*)` → `/$1$1` would double it for ever. */
export const valueLengthMax = 16_384;

/** Thrown inside a walk when rewrites do not end. */
export class EndlessRewrite extends Error {}

export interface Captures {
  readonly match: RegExpExecArray;
  readonly groupNames: Pattern["groupNames"];
  /** From `has` conditions, the host's wildcard and the environment: decoded. */
  readonly named: ReadonlyMap<string, string> | null;
}

/** How a captured text is written into its new place. `encoded`: it is still in the spelling of a URL's path. */
type Writer = (text: string, encoded: boolean) => string;

export const pathText: Writer = (text) => encodePathText(text);
export const parameterText: Writer = (text, encoded) => encodeURIComponent(encoded ? decodeLoosely(text) : text.toWellFormed());
export const plainText: Writer = (text, encoded) => (encoded ? decodeLoosely(text) : text.toWellFormed());
export const headerText: Writer = (text) =>
  text.replaceAll(/[^\t\u0020-\u007e\u0080-\u00ff]+/g, (chars) => encodeURIComponent(chars.toWellFormed()));

/** Replaces `$1`, `$name`; what was not captured is empty. */
export function substitute(template: string, captures: Captures, write: Writer): string {
  if (!template.includes("$")) return template;
  let text = "";
  let last = 0;
  const reference = /\$(?:(\d+)|([A-Za-z_][\w-]*))/g;
  for (let found = reference.exec(template); found !== null; found = reference.exec(template)) {
    text += template.slice(last, found.index);
    const [, number, word] = found;
    if (number !== undefined) {
      text += write(captures.match[Number(number)] ?? "", true);
      last = reference.lastIndex;
    } else {
      // A header's name may have dashes ("$x-user"); "$id-card" is the group "id" and "-card".
      let name = word!;
      let value = capture(captures, name, write);
      while (value === null && name.includes("-")) {
        name = name.slice(0, name.lastIndexOf("-"));
        value = capture(captures, name, write);
      }
      text += value ?? "";
      last = found.index + 1 + name.length;
      reference.lastIndex = last;
    }
    if (text.length > valueLengthMax) throw new EndlessRewrite();
  }
  return text + template.slice(last);
}

function capture(captures: Captures, name: string, write: Writer): string | null {
  const groups = captures.match.groups;
  if (groups !== undefined && Object.hasOwn(groups, name)) return write(groups[name] ?? "", true);
  const index = captures.groupNames.indexOf(name);
  if (index !== -1) return write(captures.match[index + 1] ?? "", true);
  const value = captures.named?.get(name);
  return value === undefined ? null : write(value, false);
}

/** A template that stays on this origin yields a Location that does. */
export function expandLocation(template: string, captures: Captures): string {
  const location = substitute(template, captures, pathText);
  return template.startsWith("/") && !/^\/[/\\]/.test(template) ? location.replace(/^\/[/\\]+/, "/") : location;
}
