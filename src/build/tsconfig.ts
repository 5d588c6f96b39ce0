/**
 * A project's tsconfig.json as far as a build needs it: which files it is made of (`extends`), and whether a file must be
 * transpiled where it lies because it names others by `paths` or `baseUrl`. Its meaning is esbuild's to know.
 */
import { readFileSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { dirname, extname, isAbsolute, relative, resolve, sep } from "node:path";
import type { Plugin } from "esbuild";

const chainMax = 16;

export interface Tsconfig {
  /** Text of the nearest one. */
  readonly text: string;
  /** It and all that it extends, the nearest first. */
  readonly files: readonly string[];
  /** Where one that it extends was looked for and not found. */
  readonly absent: readonly string[];
  /** What it says can only be known in its place. */
  readonly needsPlace: boolean;
  /** JSX would be left as it is. */
  readonly keepsJsx: boolean;
  readonly decorators: DecoratorSettings;
}

/** Of a tsconfig.json and what it extends, for files with decorators. */
export interface DecoratorSettings {
  /** `experimentalDecorators` and `emitDecoratorMetadata`. */
  readonly emitsMetadata: boolean;
  /** `useDefineForClassFields`, or what `target` makes of it. */
  readonly definesFields: boolean;
  /** `verbatimModuleSyntax`: only what is imported as a type is left out. */
  readonly keepsImports: boolean;
}

/** @param path absolute */
export function readTsconfig(path: string, text: string): Tsconfig {
  const files: string[] = [path];
  const absent: string[] = [];
  const texts: string[] = [text];
  for (let index = 0; index < files.length && files.length < chainMax; index++) {
    for (const name of extendsOf(texts[index]!)) {
      const found = findBase(name, files[index]!, absent);
      if (found === null || files.includes(found.path)) continue;
      files.push(found.path);
      texts.push(found.text);
    }
  }
  return {
    text,
    files,
    absent,
    needsPlace: texts.length > 1 || /"(?:extends|paths|baseUrl)"\s*:/.test(text),
    keepsJsx: texts.some((one) => /"jsx"\s*:\s*"preserve"/.test(one)),
    decorators: decoratorsOf(texts),
  };
}

/** @param texts the nearest first: it wins */
function decoratorsOf(texts: readonly string[]): DecoratorSettings {
  const plain = texts.map((text) => text.replaceAll(/("(?:\\.|[^"\\\n])*")|\/\*[^]*?\*\/|\/\/.*/g, (_, string?: string) => string ?? ""));
  const setting = (name: string): string | undefined => {
    const pattern = new RegExp(`"${name}"\\s*:\\s*"?(\\w+)`);
    return plain.map((text) => pattern.exec(text)?.[1]?.toLowerCase()).find((value) => value !== undefined);
  };
  const target = setting("target") ?? "esnext";
  const isLate = target === "esnext" || Number(/^es(\d{4})$/.exec(target)?.[1] ?? 0) >= 2022;
  return {
    emitsMetadata: setting("experimentalDecorators") === "true" && setting("emitDecoratorMetadata") === "true",
    definesFields: (setting("useDefineForClassFields") ?? String(isLate)) === "true",
    keepsImports: setting("verbatimModuleSyntax") === "true",
  };
}

function extendsOf(text: string): readonly string[] {
  const value = /"extends"\s*:\s*("[^"\n]*"|\[[^\]]*\])/.exec(text)?.[1] ?? "";
  return [...value.matchAll(/"([^"\n]*)"/g)].map((match) => match[1]!);
}

function findBase(name: string, from: string, absent: string[]): { readonly path: string; readonly text: string } | null {
  const candidates: string[] = [];
  if (name.startsWith(".") || isAbsolute(name)) {
    const path = resolve(dirname(from), name);
    candidates.push(...(extname(path) === ".json" ? [path] : [`${path}.json`, path]));
  } else {
    const { resolve: find } = createRequire(from);
    for (const specifier of [name, `${name}/tsconfig.json`, `${name}.json`]) {
      try {
        candidates.push(find(specifier));
      } catch {
        // Packages are the install's.
      }
    }
  }
  for (const path of candidates) {
    try {
      return { path, text: readFileSync(path, "utf8") };
    } catch {
      absent.push(path);
    }
  }
  return null;
}

/**
 * Leaves every import as it is, but those that `paths` or `baseUrl` lead to a file of the project: these become relative,
 * because Node knows neither.
 * @param noteAlias called when names of the project's files decided
 */
export function resolveAliases(top: string, noteAlias: () => void): Plugin {
  const isOwn = {};
  return {
    name: "aliases",
    setup(build) {
      build.onResolve({ filter: /.*/ }, async ({ path, kind, importer, resolveDir, pluginData }) => {
        if (kind === "entry-point" || pluginData === isOwn) return undefined;
        if (/^\.{0,2}(?:\/|$)/.test(path) || isBuiltin(path)) return { path, external: true };
        const found = await build.resolve(path, { kind, importer, resolveDir, pluginData: isOwn });
        if (found.errors.length > 0) {
          noteAlias(); // a file that comes may be the one that is meant
          return { path, external: true };
        }
        if (!found.path.startsWith(`${top}${sep}`) || found.path.includes(`${sep}node_modules${sep}`)) return { path, external: true };
        noteAlias();
        const target = relative(dirname(importer), found.path)
          .replaceAll(sep, "/")
          .replace(/\.([cm]?)tsx?$/, ".$1js");
        return { path: target.startsWith(".") ? target : `./${target}`, external: true };
      });
    },
  };
}
