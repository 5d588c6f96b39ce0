/**
 * One source file → what runs: TypeScript and JSX become JavaScript, and ECMAScript modules in packages that do not say
 * `"type": "module"` become CommonJS, as on Vercel, so that imports without extension work. Each file by itself, once.
 * Hides esbuild, which is started only when there is something to do. A syntax error never fails the build: the Function
 * throws it when it is loaded.
 */
import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { BuildOptions, TransformOptions } from "esbuild";
import { messageOf } from "../errors.ts";
import { emitMetadata } from "./decorators.ts";
import type { Probes, SourceFiles } from "./source-files.ts";
import { readTsconfig, resolveAliases, type Tsconfig } from "./tsconfig.ts";

export interface Transpiled {
  /** Absolute path that the code goes to: `a.ts` → `a.js`. */
  readonly path: string;
  readonly code: string;
  /** Which files there are decided what it imports. */
  readonly hasAliases: boolean;
}

type Format = "cjs" | "esm";

/** TypeScript files. */
export const typed = /\.[cm]?tsx?$/;
const moduleSyntax = /^\s*(?:import|export)\b/m;

export class Transpiler {
  readonly #top: string;
  readonly #nodeMajor: Promise<number>;
  readonly #files: SourceFiles;
  readonly #transpiled = new Map<string, Promise<Transpiled | null>>();
  readonly #scopes = new Map<string, Promise<string | null>>();
  readonly #tsconfigs = new Map<string, Promise<Tsconfig | undefined>>();

  /** @param files above whose top nothing is looked at @param nodeMajor what the code is to run on */
  constructor(files: SourceFiles, nodeMajor: Promise<number>) {
    this.#files = files;
    this.#top = files.top;
    this.#nodeMajor = nodeMajor;
  }

  /** null: the file runs as it is. */
  transpile(path: string): Promise<Transpiled | null> {
    let file = this.#transpiled.get(path);
    if (file === undefined) this.#transpiled.set(path, (file = this.#transpile(path)));
    return file;
  }

  /** The `package.json` that says how the file is to be understood, or null. */
  scope(path: string): Promise<string | null> {
    return this.#scope(dirname(path));
  }

  /**
   * Notes what decides how a file is transpiled: which package.json and tsconfig.json are near it, and where none is.
   * @returns the tsconfig.json that holds for it
   */
  async noteSettings(path: string, probes: Probes): Promise<Tsconfig | undefined> {
    if (path.includes("/node_modules/")) return undefined;
    for (const name of /\.[cm]?[jt]sx?$/.test(path) ? ["package.json", "tsconfig.json"] : ["package.json"]) {
      for (let directory = dirname(path); ; directory = dirname(directory)) {
        const candidate = join(directory, name);
        if (this.#files.stat(candidate)?.isFile() === true) {
          probes.input(candidate);
          break;
        }
        probes.absent(candidate);
        if (directory === this.#top || directory === dirname(directory)) break;
      }
    }
    const tsconfig = await this.#tsconfig(dirname(path));
    for (const file of tsconfig?.files ?? []) probes.input(file);
    for (const file of tsconfig?.absent ?? []) probes.absent(file);
    return tsconfig;
  }

  async #transpile(path: string): Promise<Transpiled | null> {
    if (path.includes("/node_modules/") || path.endsWith(".d.ts")) return null;
    const isTyped = typed.test(path);
    if (!isTyped && !/\.jsx?$/.test(path)) return null;
    const source = await readFile(path, "utf8");
    const format = await this.#format(path);
    if (!isTyped && path.endsWith(".js") && (format === "esm" || !moduleSyntax.test(source))) return null;
    const target = isTyped ? path.replace(/\.([cm]?)tsx?$/, ".$1js") : path;
    try {
      return { path: target, ...(await this.#emit(path, source, format)) };
    } catch (error) {
      const message = messageOf(error).replaceAll(`${this.#top}/`, "");
      console.error(`Warning: ${message}`);
      // JavaScript says itself what is wrong with it when it is loaded.
      return isTyped ? { path: target, code: `throw new SyntaxError(${JSON.stringify(message)});\n`, hasAliases: false } : null;
    }
  }

  async #format(path: string): Promise<Format> {
    if (path.endsWith(".mts")) return "esm";
    if (path.endsWith(".cts")) return "cjs";
    const scope = await this.scope(path);
    if (scope === null) return "cjs";
    try {
      const json: unknown = JSON.parse(await readFile(scope, "utf8"));
      return (json as { type?: unknown } | null)?.type === "module" ? "esm" : "cjs";
    } catch {
      return "cjs";
    }
  }

  async #emit(path: string, source: string, format: Format): Promise<Emitted> {
    const tsconfig = await this.#tsconfig(dirname(path));
    const options = {
      platform: "node",
      target: `node${await this.#nodeMajor}`,
      sourcemap: "external",
      sourcesContent: false,
      logLevel: "silent",
      ...(tsconfig === undefined || tsconfig.keepsJsx ? { jsx: "automatic" as const } : {}),
    } as const;
    const decorated = tsconfig === undefined || !typed.test(path) ? null : await emitMetadata(path, source, tsconfig);
    const input: Input = {
      path,
      source: decorated ?? source,
      loader: decorated !== null || !typed.test(path) ? "jsx" : path.endsWith("x") ? "tsx" : "ts",
    };
    const emit = (as: Format): Promise<Emitted & { readonly map: string }> =>
      tsconfig?.needsPlace === true
        ? this.#emitInPlace(input, { ...options, format: as })
        : emitText(input, tsconfig, { ...options, format: as });
    // CommonJS has neither import.meta nor top-level await; Node finds out by itself that such a file is a module.
    const isModuleOnly = format === "cjs" && /\bimport\.meta\b/.test(source);
    let emitted: Emitted & { readonly map: string };
    try {
      emitted = await emit(isModuleOnly ? "esm" : format);
    } catch (error) {
      if (format !== "cjs" || !/top-level await/i.test(messageOf(error))) throw error;
      emitted = await emit("esm");
    }
    // `import "./x.ts"` names a file that is x.js from now on.
    const code = emitted.code.replaceAll(/(\bfrom\s*|\bimport\s*\(?\s*|\brequire\(\s*)("\.{1,2}\/[^"\n]*)\.([cm]?)tsx?"/g, '$1$2.$3js"');
    // Beside it, wherever the build ran: runtime/source-maps.js reads it when a stack is asked for.
    const map = JSON.stringify({ ...(JSON.parse(emitted.map) as object), sources: [basename(path)] });
    const comment = `//# sourceMappingURL=data:application/json;base64,${Buffer.from(map).toString("base64")}\n`;
    return { code: code + comment, hasAliases: emitted.hasAliases };
  }

  /** esbuild finds the file's tsconfig.json, and follows it, only for files that it reads itself. */
  async #emitInPlace({ path, source, loader }: Input, options: BuildOptions): Promise<Emitted & { readonly map: string }> {
    const { build } = await import("esbuild");
    let hasAliases = false;
    const { outputFiles } = await build({
      ...options,
      entryPoints: [path],
      outfile: `${path}.out.js`,
      absWorkingDir: this.#top,
      bundle: true,
      write: false,
      treeShaking: false,
      // A workspace's package stays a package.
      preserveSymlinks: true,
      plugins: [
        resolveAliases(this.#top, () => (hasAliases = true)),
        { name: "source", setup: ({ onLoad }) => onLoad({ filter: /.*/ }, () => ({ contents: source, loader })) },
      ],
    });
    const textOf = (end: string): string => outputFiles!.find((file) => file.path.endsWith(end))!.text;
    return { code: textOf(".js"), map: textOf(".map"), hasAliases };
  }

  #scope(directory: string): Promise<string | null> {
    return cached(this.#scopes, directory, async () => {
      const path = join(directory, "package.json");
      if ((await readText(path)) !== undefined) return path;
      return directory === this.#top || directory === dirname(directory) ? null : this.#scope(dirname(directory));
    });
  }

  /** The nearest tsconfig.json, if esbuild can read it. */
  #tsconfig(directory: string): Promise<Tsconfig | undefined> {
    return cached(this.#tsconfigs, directory, async () => {
      const path = join(directory, "tsconfig.json");
      const text = await readText(path);
      if (text === undefined)
        return directory === this.#top || directory === dirname(directory) ? undefined : this.#tsconfig(dirname(directory));
      try {
        const { transform } = await import("esbuild");
        await transform("", { loader: "ts", tsconfigRaw: text, logLevel: "silent" });
        return readTsconfig(path, text);
      } catch (error) {
        console.error(`Warning: tsconfig.json is ignored: ${messageOf(error)}`);
        return undefined;
      }
    });
  }
}

interface Input {
  readonly path: string;
  /** Perhaps no longer what the file has. */
  readonly source: string;
  readonly loader: "jsx" | "ts" | "tsx";
}

interface Emitted {
  readonly code: string;
  /** Names of files decided what it imports. */
  readonly hasAliases: boolean;
}

async function emitText(
  { path, source, loader }: Input,
  tsconfig: Tsconfig | undefined,
  options: TransformOptions,
): Promise<Emitted & { readonly map: string }> {
  const { transform } = await import("esbuild");
  const { code, map } = await transform(source, {
    ...options,
    sourcefile: path,
    loader,
    ...(tsconfig === undefined ? {} : { tsconfigRaw: tsconfig.text }),
  });
  return { code, map, hasAliases: false };
}

function cached<Value>(map: Map<string, Promise<Value>>, key: string, make: () => Promise<Value>): Promise<Value> {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return undefined;
  }
}
