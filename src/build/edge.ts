/**
 * One file → an Edge Function: all that it imports becomes one ECMAScript module, in the way of bundlers for the Web
 * (esbuild), because code for the Edge runtime is written for them. WebAssembly modules and files that the code names by
 * `new URL("./x", import.meta.url)` go beside it, at their own paths.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { dirname, extname, join, posix, relative, resolve, sep } from "node:path";
import type { Loader, Message, Plugin } from "esbuild";
import { MayflyError, messageOf } from "../errors.ts";
import type { MadeFile } from "./function-directory.ts";

/** What the runtime has of Node's modules (runtime/edge.js). */
const builtins = new Set(["async_hooks", "events", "buffer", "assert", "util", "util/types"]);
/** Which of a package's files are meant: as Vercel's builder chooses. */
const conditions = ["edge-light", "browser", "module"];
const errorsShown = 5;

export interface EdgeBundle {
  /** Path in the bundle. */
  readonly entrypoint: string;
  readonly files: ReadonlyMap<string, string | MadeFile>;
}

/**
 * @param entrypoint absolute path
 * @param repository absolute path; files keep their places relative to it
 * @throws MayflyError BUILD_FAILED with what cannot be resolved or is not there in the Edge runtime
 */
export async function bundleEdge(entrypoint: string, repository: string): Promise<EdgeBundle> {
  const { build } = await import("esbuild");
  const place = (path: string): string => relative(repository, path).replaceAll(sep, "/");
  const target = place(entrypoint).replace(/\.[cm]?[jt]sx?$/, ".js");
  const files = new Map<string, string | MadeFile>();
  const take = (path: string): string => {
    files.set(place(path), path);
    const own = posix.relative(posix.dirname(target), place(path));
    return own.startsWith(".") ? own : `./${own}`;
  };
  try {
    const { outputFiles } = await build({
      entryPoints: [entrypoint],
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      target: "es2022",
      mainFields: ["module", "main"],
      conditions: [...conditions],
      jsx: "automatic",
      logLevel: "silent",
      absWorkingDir: repository,
      plugins: [nodeModules, webAssembly(take), assets(take)],
    });
    files.set(target, { data: outputFiles[0]!.text, executable: false });
  } catch (error) {
    throw new MayflyError("BUILD_FAILED", `The Edge Function "${place(entrypoint)}" cannot be bundled:\n${explain(error, repository)}`);
  }
  return { entrypoint: target, files };
}

/** Those of Node that there are stay imports; an import of another is an error, a `require` of it one when it is called. */
const nodeModules: Plugin = {
  name: "node-modules",
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?[a-z_/0-9]+$/ }, ({ path, kind, importer }) => {
      const name = path.replace(/^node:/, "");
      if (!isBuiltin(path)) return undefined;
      if (builtins.has(name)) return { path: `node:${name}`, external: true };
      if (kind === "import-statement")
        return { errors: [{ text: `The Edge runtime does not have the Node.js module "${name}" (${importer}).` }] };
      return { path: `node:${name}`, external: true };
    });
  },
};

const webAssembly = (take: (path: string) => string): Plugin => ({
  name: "web-assembly",
  setup(build) {
    build.onResolve({ filter: /\.wasm(?:\?module)?$/ }, ({ path, resolveDir }) => {
      const file = resolve(resolveDir, path.replace(/\?module$/, ""));
      return existsSync(file) ? { path: `${take(file)}?module`, external: true } : { errors: [{ text: `There is no file "${path}".` }] };
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
