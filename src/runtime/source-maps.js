/**
 * Stack traces name the lines that people wrote: a place in a file that ends with its source map (the build writes it so,
 * build/transpile.ts) is shown as the place in the source. Nothing is read before the first stack is asked for, so a
 * start costs nothing; Node's own support would parse every map at load and pass module packs by.
 */
import { readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const marker = "//# sourceMappingURL=data:application/json;base64,";

/** From now on, unless the Function has ways of its own. */
export function mapStackTraces() {
  /** @type {Map<string, SourceMap | null>} */
  const maps = new Map();
  Error.prepareStackTrace = (error, sites) => {
    const lines = sites.map((site) => `\n    at ${describe(site, maps)}`);
    return `${nameOf(error)}${lines.join("")}`;
  };
}

/** @param {NodeJS.CallSite} site @param {Map<string, SourceMap | null>} maps */
function describe(site, maps) {
  const shown = String(site);
  try {
    const name = site.getFileName();
    const line = site.getLineNumber();
    const column = site.getColumnNumber();
    if (!name || name.startsWith("node:") || line === null || column === null) return shown;
    let map = maps.get(name);
    if (map === undefined) maps.set(name, (map = readMap(name)));
    const origin = map?.findOrigin(line, column);
    if (origin === undefined || !("fileName" in origin)) return shown;
    const path = name.startsWith("file:") ? fileURLToPath(name) : name;
    return shown.replace(
      `${name}:${line}:${column}`,
      `${join(dirname(path), origin.fileName)}:${origin.lineNumber}:${origin.columnNumber}`,
    );
  } catch {
    return shown;
  }
}

/** @param {string} name path or file URL @returns {SourceMap | null} */
function readMap(name) {
  try {
    const text = readFileSync(name.startsWith("file:") ? fileURLToPath(name) : name, "utf8");
    const at = text.lastIndexOf(marker);
    if (at === -1) return null;
    return new SourceMap(JSON.parse(Buffer.from(text.slice(at + marker.length), "base64").toString("utf8")));
  } catch {
    return null;
  }
}

/** @param {unknown} error */
function nameOf(error) {
  try {
    return Error.prototype.toString.call(error);
  } catch {
    return "Error";
  }
}
