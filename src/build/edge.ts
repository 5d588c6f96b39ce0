/**
 * One file → an Edge Function: all that it imports becomes one ECMAScript module, in the way of bundlers for the Web
 * (esbuild), because code for the Edge runtime is written for them. WebAssembly modules and files that the code names by
 * `new URL("./x", import.meta.url)` go beside it, at their own paths. What the bundle depends on is noted.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { dirname, extname, join, posix, relative, resolve, sep } from "node:path";
import type { Loader, Message, Metafile, Plugin } from "esbuild";
import { MayflyError, messageOf } from "../errors.ts";
import type { MadeFile } from "./function-directory.ts";
import type { Probes, SourceFiles } from "./source-files.ts";
import { choosesByName, isInstalled } from "./trace.ts";
import type { Transpiler } from "./transpile.ts";

/** What the runtime has of Node's modules (runtime/edge.js). */
const builtins = new Set(["async_hooks", "events", "buffer", "assert", "util", "util/types"]);
/** Which of a package's files are meant: as Vercel's builder chooses. */
const conditions = ["edge-light", "browser", "module"];
/** Tried in this order for an import without one. */
const extensions = [".tsx", ".ts", ".jsx", ".js", ".css", ".json"];
const errorsShown = 5;

/** Bundlers put `createRequire` before code that never calls it at the Edge: what it gives fails when it is called. */
const moduleShim =
  'export const createRequire = () => (name) => { throw new Error(`The Edge runtime cannot require "${name}".`); };\nexport default { createRequire };\n';

export interface EdgeBundle {
  /** Path in the bundle. */
  readonly entrypoint: string;
  readonly files: ReadonlyMap<string, string | MadeFile>;
}

export interface EdgeContext {
  /** Files keep their places relative to its top. */
  readonly sources: SourceFiles;
  readonly transpiler: Transpiler;
  /** Is told what the bundle depends on. */
  readonly probes: Probes;
}

/**
 * @param entrypoint absolute path
 * @throws MayflyError BUILD_FAILED with what cannot be resolved or is not there in the Edge runtime
 */
export async function bundleEdge(entrypoint: string, context: EdgeContext): Promise<EdgeBundle> {
  const { build } = await import("esbuild");
  const repository = context.sources.top;
  const place = (path: string): string => relative(repository, path).replaceAll(sep, "/");
  const target = place(entrypoint).replace(/\.[cm]?[jt]sx?$/, ".js");
  const files = new Map<string, string | MadeFile>();
  const take = (path: string): string => {
    files.set(place(path), path);
    const own = posix.relative(posix.dirname(target), place(path));
    return own.startsWith(".") ? own : `./${own}`;
  };
  try {
    const { outputFiles, metafile } = await build({
      entryPoints: [entrypoint],
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      target: "es2022",
      mainFields: ["module", "main"],
      conditions: [...conditions],
      resolveExtensions: [...extensions],
      metafile: true,
      jsx: "automatic",
      logLevel: "silent",
      absWorkingDir: repository,
      plugins: [nodeModules, webAssembly(take), assets(take)],
    });
    context.probes.input(entrypoint);
    for (const file of files.values()) context.probes.input(file as string);
    await noteInputs(metafile, context);
    files.set(target, { data: outputFiles[0]!.text, executable: false });
  } catch (error) {
    throw new MayflyError("BUILD_FAILED", `The Edge Function "${place(entrypoint)}" cannot be bundled:\n${explain(error, repository)}`);
  }
  return { entrypoint: target, files };
}

/** The bundler tells what it found, and not where it looked before: that follows from its rules. */
async function noteInputs({ inputs }: Metafile, { sources, transpiler, probes }: EdgeContext): Promise<void> {
  for (const [name, { imports }] of Object.entries(inputs)) {
    if (name.startsWith("shim:")) continue;
    const path = resolve(sources.top, name);
    probes.input(path);
    if (isInstalled(path)) continue;
    const tsconfig = await transpiler.noteSettings(path, probes);
    if (choosesByName.test(await readFile(path, "utf8"))) probes.anyName();
    for (const { path: found, original, external } of imports) {
      const specifier = original ?? found;
      if (isBuiltin(specifier) || specifier.endsWith("?module")) continue;
      if (/^\.{1,2}(?:\/|$)/.test(specifier)) {
        noteCandidates(resolve(dirname(path), specifier), sources, probes);
        continue;
      }
      probes.installed();
      // A package of the workspace, or names that tsconfig.json leads elsewhere.
      if (external === true || tsconfig?.needsPlace === true || !isInstalled(resolve(sources.top, found))) probes.anyName();
    }
  }
}

/** All that an import of a path may mean. */
function noteCandidates(path: string, sources: SourceFiles, probes: Probes): void {
  const typed = /\.[cm]?jsx?$/.test(path) ? [path.replace(/js(x?)$/, "ts$1"), path.replace(/jsx?$/, "tsx")] : [];
  const ends = ["", ...extensions, "/package.json", ...extensions.map((extension) => `/index${extension}`)];
  for (const candidate of [...ends.map((end) => path + end), ...typed]) {
    const stats = sources.stat(candidate);
    if (stats === null) probes.absent(candidate);
    else if (stats.isFile()) probes.input(candidate);
  }
  // Its `main` is looked for in ways of its own.
  if (sources.stat(`${path}/package.json`) !== null) probes.anyName();
}

/** Those of Node that there are stay imports; an import of another is an error, a `require` of it one when it is called. */
const nodeModules: Plugin = {
  name: "node-modules",
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?[a-z_/0-9]+$/ }, ({ path, kind, importer }) => {
      const name = path.replace(/^node:/, "");
      if (!isBuiltin(path)) return undefined;
      if (builtins.has(name)) return { path: `node:${name}`, external: true };
      if (name === "module") return { path: name, namespace: "shim" };
      if (kind === "import-statement")
        return { errors: [{ text: `The Edge runtime does not have the Node.js module "${name}" (${importer}).` }] };
      return { path: `node:${name}`, external: true };
    });
    build.onLoad({ filter: /^module$/, namespace: "shim" }, () => ({ contents: moduleShim }));
  },
};

const webAssembly = (take: (path: string) => string): Plugin => ({
  name: "web-assembly",
  setup(build) {
    const isOwn = {};
    build.onResolve({ filter: /\.wasm(?:\?module)?$/ }, async ({ path, kind, importer, resolveDir, pluginData }) => {
      if (pluginData === isOwn) return undefined;
      const found = await build.resolve(path.replace(/\?module$/, ""), { kind, importer, resolveDir, pluginData: isOwn });
      if (found.errors.length > 0) return { errors: [{ text: `There is no file "${path}".` }] };
      return { path: `${take(found.path)}?module`, external: true };
    });
  },
});

const assets = (take: (path: string) => string): Plugin => ({
  name: "assets",
  setup(build) {
    build.onLoad({ filter: /\.[cm]?[jt]sx?$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      if (!source.includes("import.meta.url")) return undefined;
      const contents = source.replaceAll(
        /(\bnew\s+URL\(\s*)(["'])(\.{0,2}\/?[^"'\n]+)\2(\s*,\s*import\.meta\.url\s*\))/g,
        (whole, before: string, _quote: string, name: string, after: string) => {
          const file = join(dirname(path), name);
          return existsSync(file) ? `${before}${JSON.stringify(take(file))}${after}` : whole;
        },
      );
      return { contents, loader: extname(path).replace(/^\.[cm]?/, "") as Loader };
    });
  },
});

function explain(error: unknown, repository: string): string {
  const { errors } = error as { readonly errors?: readonly Message[] };
  if (!Array.isArray(errors)) return messageOf(error);
  const lines = errors.slice(0, errorsShown).map(({ text, location }) => {
    const where = location === null || location === undefined ? "" : `${location.file}:${location.line}: `;
    return `  ${where}${text.replaceAll(`${repository}/`, "")}`;
  });
  if (errors.length > errorsShown) lines.push(`  and ${errors.length - errorsShown} more`);
  return lines.join("\n");
}
