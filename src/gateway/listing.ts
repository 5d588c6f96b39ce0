/** What a person sees at a directory without an index, when the project asks for it: its files, and Functions as λ. */
import type { Manifest } from "../model.ts";
import { escapeHtml, renderPage } from "./html.ts";
import { canonicalPath, encodeSegment, readablePath } from "./spelling.ts";

interface Entry {
  readonly name: string;
  readonly kind: "directory" | "file" | "function";
  /** Bytes of a file. */
  readonly size: number;
}

/** Canonical directory path without slashes at its ends → what is in it, by name. */
type Directories = ReadonlyMap<string, ReadonlyMap<string, Entry>>;

const indexed = new WeakMap<Manifest, Directories>();
const entriesShownMax = 5000;

/** HTML of a directory; null: it is none, or the project does not list directories. @param path as it was asked for */
export function renderListing(manifest: Manifest, path: string): string | null {
  if (manifest.directoryListing !== true) return null;
  let directories = indexed.get(manifest);
  if (directories === undefined) indexed.set(manifest, (directories = indexDirectories(manifest)));
  const directory = canonicalPath(path).replaceAll(/^\/+|\/+$/g, "");
  const entries = directories.get(directory);
  if (entries === undefined) return null;
  const sorted = [...entries.values()].sort((a, b) => order(a) - order(b) || (a.name < b.name ? -1 : 1));
  const base = directory === "" ? "/" : `/${directory}/`;
  const rows = sorted.slice(0, entriesShownMax).map((entry) => row(base, entry));
  if (directory !== "") rows.unshift(row("", { name: "..", kind: "directory", size: 0 }, parentOf(base)));
  const rest = sorted.length - entriesShownMax;
  const name = readablePath(base);
  const main = `<h1>Index of ${escapeHtml(name)}</h1>
<ul class="files">
${rows.join("\n")}
</ul>${rest > 0 ? `\n<p class="hint">${rest} more are not shown.</p>` : ""}`;
  return renderPage({ title: `Index of ${name}`, main, shape: "wide" });
}

function indexDirectories({ outputs }: Manifest): Directories {
  const directories = new Map<string, Map<string, Entry>>();
  for (const [path, output] of Object.entries(outputs)) {
    if (output.kind === "middleware") continue;
    const segments = path.split("/");
    for (let depth = 0; depth < segments.length; depth++) {
      const directory = segments.slice(0, depth).map(encodeSegment).join("/");
      let entries = directories.get(directory);
      if (entries === undefined) directories.set(directory, (entries = new Map()));
      const name = segments[depth]!;
      const isLast = depth === segments.length - 1;
      if (!isLast) entries.set(`${name}/`, { name, kind: "directory", size: 0 });
      else if (output.kind === "static") entries.set(name, { name, kind: "file", size: output.file.size });
      else entries.set(name, { name, kind: "function", size: 0 });
    }
  }
  return directories;
}

function row(base: string, { name, kind, size }: Entry, href = base + encodeSegment(name) + (kind === "directory" ? "/" : "")): string {
  const detail =
    kind === "function"
      ? '<span class="lambda" role="img" title="Function" aria-label="Function">λ</span>'
      : kind === "file"
        ? readableSize(size)
        : "";
  return `<li><a href="${escapeHtml(href)}"><span class="name">${escapeHtml(name)}${kind === "directory" ? "/" : ""}</span><span class="size">${detail}</span></a></li>`;
}

function order({ kind }: Entry): number {
  return kind === "directory" ? 0 : 1;
}

function parentOf(base: string): string {
  return base.slice(0, base.lastIndexOf("/", base.length - 2) + 1);
}

export function readableSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
