/** Which output answers at a path. Pure; made once per manifest, so a path costs one look-up however many there are. */
import type { Manifest, Output } from "../model.ts";
import { encodeSegment } from "./spelling.ts";

export interface Found {
  readonly key: string;
  readonly output: Output;
}

/**
 * Canonical path without leading slash → output; directories lead to their index: `index`, `index.html`, then a
 * Function `index.<ext>` and a file `index.<ext>` (the legacy `builds` keep extensions).
 */
export function compileOutputs(outputs: Manifest["outputs"]): ReadonlyMap<string, Found> {
  const found = new Map<string, Found>();
  const indexes: { directory: string; rank: number; found: Found }[] = [];
  for (const [key, output] of Object.entries(outputs)) {
    if (output.kind === "middleware") continue;
    const path = key.split("/").map(encodeSegment).join("/");
    found.set(path, { key, output });
    const index = /^(?:(.*)\/)?index(\.[^./]+)?$/.exec(path);
    if (index === null) continue;
    const rank = index[2] === undefined ? 0 : index[2] === ".html" ? 1 : output.kind === "static" ? 3 : 2;
    indexes.push({ directory: index[1] ?? "", rank, found: { key, output } });
  }
  indexes.sort((a, b) => a.rank - b.rank);
  for (const index of indexes) {
    if (!found.has(index.directory)) found.set(index.directory, index.found);
  }
  return found;
}
