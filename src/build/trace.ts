/**
 * Which files a Function reaches (`@vercel/nft`). All Functions of a build share what is known of a file, and a package is
 * walked once, however many Functions use it. One trace runs at a time: two that meet the same file would both parse it.
 */
import { readFile } from "node:fs/promises";
import { join, sep } from "node:path";
import { messageOf } from "../errors.ts";
import { Probes, type SourceFiles } from "./source-files.ts";
import type { Closure, TraceMemory } from "./trace-memory.ts";
import type { Transpiler } from "./transpile.ts";

type Nft = typeof import("@vercel/nft");
type Resolve = NonNullable<Parameters<Nft["nodeFileTrace"]>[1]>["resolve"] & {};

/** In the project's own code: files may be chosen by a name that is computed, or a directory be read. */
export const choosesByName =
  /\b(?:__dirname|__filename|import\.meta|cwd|readFile\w*|createReadStream|readdir\w*|opendir\w*|createRequire|getBuiltinModule|dlopen|Worker|fork|spawn\w*|exec\w*)\b|\brequire\b(?!\s*\(\s*(?:"[^"\n]*"|'[^'\n]*')\s*\))|\bimport\s*\((?!\s*(?:"[^"\n]*"|'[^'\n]*')\s*[),])/;

export const isInstalled = (path: string): boolean => path.includes(`${sep}node_modules${sep}`);

export class Tracer {
  readonly #files: SourceFiles;
  readonly #transpiler: Transpiler;
  readonly #work: string;
  readonly #memory: TraceMemory | null;
  /** Shared with nft: real path → what the file's code says. */
  readonly #cache = { analysisCache: new Map<string, unknown>() };
  readonly #closures = new Map<string, Promise<Closure>>();
  readonly #byName = new Map<string, boolean>();
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * @param work absolute path of the project's root: its working directory when it runs
   * @param memory of earlier builds; null: there is none
   */
  constructor(files: SourceFiles, transpiler: Transpiler, work: string, memory: TraceMemory | null) {
    this.#memory = memory;
    this.#files = files;
    this.#transpiler = transpiler;
    this.#work = work;
  }

  /**
   * Absolute paths of all that the entrypoint reaches. A file that cannot be parsed is there, what only it reaches is not.
   * @param exclude globs relative to the repository
   * @param probes is told what the answer depends on
   */
  trace(entrypoint: string, exclude: readonly string[] | null, probes: Probes): Promise<readonly string[]> {
    const own = this.#turn.then(() => this.#trace(entrypoint, exclude, probes));
    this.#turn = own.catch(() => {});
    return own;
  }

  async #trace(entrypoint: string, exclude: readonly string[] | null, probes: Probes): Promise<readonly string[]> {
    const packages = new Set<string>();
    // What is left out is left out of packages too, and so each is walked for this Function alone.
    const found = await this.#walk(entrypoint, exclude, probes, exclude === null ? packages : null);
    const all = new Set(found);
    for (const path of packages) {
      const closure = await this.#closure(path);
      for (const file of closure.files) all.add(file);
      probes.add(closure.trace);
    }
    return [...all];
  }

  /** All that one file of a package reaches. */
  #closure(path: string): Promise<Closure> {
    let closure = this.#closures.get(path);
    if (closure === undefined) {
      this.#closures.set(path, (closure = this.#reach(path)));
    }
    return closure;
  }

  async #reach(path: string): Promise<Closure> {
    const known = this.#memory?.find(path);
    if (known !== undefined) return known;
    const probes = new Probes(this.#files);
    const files = await this.#walk(path, null, probes, null);
    const closure = { files, trace: probes.toTrace() };
    this.#memory?.note(path, closure);
    return closure;
  }

  /** @param packages takes files of packages, to be walked apart; null: they are walked too */
  async #walk(
    entrypoint: string,
    exclude: readonly string[] | null,
    probes: Probes,
    packages: Set<string> | null,
  ): Promise<readonly string[]> {
    const { nodeFileTrace, resolve } = await import("@vercel/nft");
    const { top } = this.#files;
    const result = await nodeFileTrace([entrypoint], {
      base: top,
      processCwd: this.#work,
      ts: true,
      mixedModules: true,
      cache: this.#cache,
      ...(exclude === null ? {} : { ignore: [...exclude] }),
      resolve: packages === null ? findTsx(resolve as Resolve) : setPackagesApart(findTsx(resolve as Resolve), packages),
      readFile: async (path) => this.#read(path, probes),
      stat: async (path) => {
        const stats = this.#files.stat(path);
        if (stats === null) probes.absent(path);
        else if (stats.isFile()) probes.input(path);
        return stats;
      },
      readlink: async (path) => this.#files.readlink(path),
    });
    for (const warning of result.warnings) {
      const message = messageOf(warning);
      if (/Failed to parse/.test(message)) console.error(`Warning: ${message.replaceAll(`${top}/`, "").split("\n")[0]}`);
    }
    const files = [...result.fileList].map((path) => join(top, path));
    if (files.some((path) => this.#byName.get(path) === true)) probes.anyName();
    return files;
  }

  async #read(path: string, probes: Probes): Promise<string | Buffer | null> {
    if (path.endsWith(`${sep}package.json`)) {
      const text = this.#files.packageJson(path);
      if (text === null) probes.absent(path);
      else probes.input(path);
      return text;
    }
    try {
      const code = (await this.#transpiler.transpile(path))?.code ?? (await readFile(path));
      if (!isInstalled(path)) this.#byName.set(path, choosesByName.test(String(code)));
      return code;
    } catch {
      return null;
    }
  }
}

/** nft looks for `x.ts` where code says `x.js`, and never for `x.tsx`. */
function findTsx(resolve: Resolve): Resolve {
  return async (id, parent, job, isRequire) => {
    try {
      return await resolve(id, parent, job, isRequire);
    } catch (error) {
      if (!/^\.{1,2}\/.*\.ts$/.test(id) || isInstalled(parent)) throw error;
      return resolve(`${id}x`, parent, job, isRequire);
    }
  };
}

/** Takes installed files out of a walk: they are noted, and the walk is told that they are Node's own. */
function setPackagesApart(resolve: Resolve, packages: Set<string>): Resolve {
  return async (id, parent, job, isRequire) => {
    const found = await resolve(id, parent, job, isRequire);
    const kept: string[] = [];
    for (const path of typeof found === "string" ? [found] : found) {
      if (!path.startsWith("node:") && isInstalled(path)) packages.add(path);
      else kept.push(path);
    }
    return kept.length === 0 ? "node:module" : kept.length === 1 ? kept[0]! : kept;
  };
}
