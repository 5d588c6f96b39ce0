/**
 * Runs in the sandbox of configuration-program.ts: bundles a project's vercel.ts, imports it, and writes what it exports:
 * `default`, else `config`, else all. Nothing of the project is installed yet, so it may import files of the project,
 * modules of Node, and `@vercel/config`, which Mayfly brings.
 *
 * Usage: node configuration-worker.ts NAME REPORT, in the project's directory
 */
import { mkdtemp, writeFile } from "node:fs/promises";
import { createRequire, isBuiltin } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { build, type Plugin } from "esbuild";

/** What the worker leaves; the host believes none of it. */
export type ConfigurationReport = { readonly value: unknown } | { readonly error: string };

const errorCharsMax = 4096;

const [, , name = "", reportPath = ""] = process.argv;
const { resolve: resolveOwn } = createRequire(import.meta.url);

/** Imports by name: of Node, of Mayfly, or none. */
const packages: Plugin = {
  name: "packages",
  setup({ onResolve }) {
    onResolve({ filter: /^[^./]/ }, ({ path, importer, kind }) => {
      if (isBuiltin(path)) return { path, external: true };
      // What a package of Mayfly's imports lies beside it.
      if (kind === "entry-point" || importer.startsWith(resolve(import.meta.dirname, "../../node_modules"))) return undefined;
      if (path.startsWith("@vercel/config/")) return { path: resolveOwn(path) };
      const text = `"${path}" cannot be imported here: the configuration is read before anything is installed. It may import files of the project, modules of Node, and @vercel/config`;
      return { errors: [{ text }] };
    });
  },
};

async function run(): Promise<ConfigurationReport> {
  try {
    const outfile = join(await mkdtemp(join(tmpdir(), "configuration-")), "configuration.mjs");
    await build({
      entryPoints: [resolve(name)],
      outfile,
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node22",
      sourcemap: "inline",
      logLevel: "silent",
      plugins: [packages],
      // Packages of CommonJS ask for Node's modules so.
      banner: { js: `import { createRequire as mayflyRequire } from "node:module"; const require = mayflyRequire(import.meta.url);` },
    });
    const module = (await import(pathToFileURL(outfile).href)) as Readonly<Record<string, unknown>>;
    const value: unknown = await ("default" in module ? module["default"] : "config" in module ? module["config"] : { ...module });
    return { value: value ?? null };
  } catch (error) {
    return { error: explain(error).slice(0, errorCharsMax) };
  }
}

/** With the place in the source, where the bundler found the fault. */
function explain(error: unknown): string {
  const [first] = (error as { errors?: readonly { text: string; location: { file: string; line: number } | null }[] }).errors ?? [];
  if (first === undefined) return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return first.location === null ? first.text : `${first.text} (${first.location.file}:${first.location.line})`;
}

await writeFile(reportPath, JSON.stringify(await run()));
// Whatever it has left running is not waited for.
process.exit();
