/** What the transforms of routes do to a response's head. Pure. */
import { isHeaderName } from "./rule.ts";

/** What a transform does to the head of the response, whoever made it. */
export interface HeaderChange {
  readonly op: "append" | "set" | "delete";
  /** Lower-case; null: each header that is there and {@link HeaderChange.matches}. */
  readonly name: string | null;
  matches(name: string): boolean;
  readonly values: readonly string[];
}

/** Applies what transforms do to a response's head. @param headers flat, names lower-case */
export function changeHeaders(headers: readonly string[], changes: readonly HeaderChange[]): string[] {
  let changed = [...headers];
  for (const { op, name, matches, values } of changes) {
    const present = new Set(changed.filter((_, index) => index % 2 === 0));
    const names = name === null ? [...present].filter((one) => matches(one) && isHeaderName(one)) : [name];
    for (const one of names) {
      if (op !== "append") changed = changed.filter((_, index) => changed[index - (index % 2)] !== one);
      if (op === "delete") continue;
      // Of most headers several values are one line; cookies are a line each.
      if (one === "set-cookie") for (const value of values) changed.push(one, value);
      else changed.push(one, values.join(", "));
    }
  }
  return changed;
}
