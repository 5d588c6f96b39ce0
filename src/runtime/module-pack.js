/**
 * A module pack: one file of a bundle with the CommonJS modules that the Function loads, each with V8's code cache, and
 * with what `require` resolves to. It only spares Node work: paths, `require.cache`, cycles and stack traces are Node's
 * own, because Node's loader does the rest. Invariant: the files of the bundle are what counts. A pack that is absent,
 * of another Node or damaged is left aside; a code cache that V8 rejects is not used; a module that anybody has hooked is
 * Node's to load.
 *
 * Format: length of the header (uint32, little endian), header (JSON), and from the next multiple of 8 on the parts.
 */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { Module } from "node:module";
import { dirname, join } from "node:path";
import { constants, Script } from "node:vm";

/**
 * Paths are relative to the bundle's root, places are `[start, end]` in the parts.
 * @typedef {object} PackHeader
 * @property {PackedModule[]} modules
 * @property {[key: string, path: string][]} resolutions `/<directory of the one that requires>\0<request>` → file
 *
 * @typedef {object} PackedModule
 * @property {string} path
 * @property {"latin1" | "utf16le"} encoding V8's own two, so that no decoding is needed.
 * @property {[number, number]} source With the wrapper around it.
 * @property {[number, number]} cache
 */

/** A CommonJS module; Node's types know only its outside. @typedef {any} CommonJsModule */

/** Node's loader with the parts that are open to everybody although no type mentions them. */
const loader = /** @type {any} */ (Module);
/** `import()` is answered by Node's own loader, relative to the file. */
const importModuleDynamically = constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
const alignment = 8;
const prefix = "(function (exports, require, module, __filename, __dirname) { ";
const suffix = "\n})";

/** Path of the pack in a bundle. V8's code cache is good for this version alone, and for this processor. */
export const packPath = `.mayfly/modules-${process.version}-${process.arch}.pack`;

/** The text of a module as a pack keeps it. @param {string} source */
export function wrapModule(source) {
  // A hashbang is one only at the very beginning.
  return prefix + (source.startsWith("#!") ? `//${source.slice(2)}` : source) + suffix;
}

/**
 * Compiles a wrapped module.
 * @param {string} wrapped @param {string} filename @param {Buffer} [cachedData]
 */
export function compileModule(wrapped, filename, cachedData) {
  return new Script(wrapped, {
    filename,
    // So that a place in the first line is the place in the file.
    columnOffset: -prefix.length,
    cachedData,
    importModuleDynamically,
  });
}

/**
 * Runs a compiled module as Node's `Module.prototype._compile` does.
 * @param {Script} script @param {CommonJsModule} module @param {string} filename
 */
export function runModule(script, module, filename) {
  const { exports } = module;
  Reflect.apply(script.runInThisContext(), exports, [exports, requireOf(module), module, filename, dirname(filename)]);
}

let warned = false;

/**
 * At the first `import()` of such a module Node warns of an option that we have chosen and the Function knows nothing of.
 * It does so once: here, unheard, and not in the Function's log.
 */
function hearWarning() {
  if (warned) return;
  warned = true;
  const { emitWarning } = process;
  process.emitWarning = () => {};
  new Script('import("node:vm")', { importModuleDynamically }).runInThisContext().catch(() => {});
  process.emitWarning = emitWarning;
}

/** Has what loads modules compiled while nobody waits. */
export function warmUpPacks() {
  hearWarning();
  const file = join(import.meta.dirname, "warm-up.cjs");
  const wrapped = wrapModule("module.exports = 0;");
  for (let round = 0; round < 3; round++) {
    const cache = compileModule(wrapped, file).createCachedData();
    runModule(compileModule(wrapped, file, cache), new Module(file), file);
  }
}

/** @param {CommonJsModule} module */
function requireOf(module) {
  /** @param {string} id */
  const require = (id) => module.require(id);
  /** @param {string} request @param {unknown} [options] */
  const resolve = (request, options) => loader._resolveFilename(request, module, false, options);
  /** @param {string} request */
  const paths = (request) => loader._resolveLookupPaths(request, module);
  return Object.assign(require, {
    resolve: Object.assign(resolve, { paths }),
    main: process.mainModule,
    extensions: loader._extensions,
    cache: loader._cache,
  });
}

/** @param {PackHeader} header @param {readonly Buffer[]} parts each placed by {@link placeParts} */
export function formatPack(header, parts) {
  const text = Buffer.from(JSON.stringify(header));
  const head = Buffer.alloc(align(4 + text.length));
  head.writeUInt32LE(text.length, 0);
  text.copy(head, 4);
  return Buffer.concat([head, ...parts.flatMap((part) => [part, Buffer.alloc(align(part.length) - part.length)])]);
}

/** Places of parts that follow one another. @param {readonly Buffer[]} parts @returns {[number, number][]} */
export function placeParts(parts) {
  let at = 0;
  return parts.map((part) => {
    const start = at;
    at += align(part.length);
    return [start, start + part.length];
  });
}

/** @param {number} offset */
function align(offset) {
  return Math.ceil(offset / alignment) * alignment;
}

export class ModulePack {
  #root;
  #parts;
  /** @type {Map<string, PackedModule>} Absolute path → module that is not loaded yet. */
  #modules;
  /** @type {Map<string, string>} */
  #resolutions;

  /** @param {string} root without links @param {PackHeader} header @param {Buffer} parts */
  constructor(root, header, parts) {
    this.#root = root;
    this.#parts = /** @type {Buffer | undefined} */ (parts);
    this.#modules = new Map(header.modules.map((module) => [`${root}/${module.path}`, module]));
    this.#resolutions = new Map(header.resolutions);
  }

  /** The pack of a bundle, or undefined. @param {string} directory */
  static open(directory) {
    const path = join(directory, packPath);
    // Most Functions have none, and an error costs more than a look.
    if (!existsSync(path)) return undefined;
    try {
      const bytes = readFileSync(path);
      const length = bytes.readUInt32LE(0);
      const header = /** @type {PackHeader} */ (JSON.parse(bytes.toString("utf8", 4, 4 + length)));
      // Node names modules by their real paths.
      return new ModulePack(realpathSync(directory), header, bytes.subarray(align(4 + length)));
    } catch {
      return undefined;
    }
  }

  /**
   * Loads a file of the pack without asking Node what kind of module it is.
   * @param {string} path relative to the root
   * @returns {{ exports: any } | undefined} undefined when it is not in the pack
   */
  load(path) {
    const file = join(this.#root, path);
    return this.#modules.has(file) ? { exports: loader._load(file, undefined, false) } : undefined;
  }

  /** From now on Node's loader finds the modules here. */
  install() {
    hearWarning();
    const { _extensions: extensions, _resolveFilename: resolveFilename, wrap } = loader;
    const { _compile: compile } = loader.prototype;
    const loadScript = extensions[".js"];
    const pack = this;

    /** @param {CommonJsModule} module @param {string} filename */
    extensions[".js"] = function (module, filename) {
      // Whoever changes sources on their way, or wants to know of them, goes through one of these.
      const isHooked = module._compile !== compile || loader.wrap !== wrap || process.sourceMapsEnabled;
      const script = isHooked ? undefined : pack.#take(filename);
      if (script === undefined) Reflect.apply(loadScript, this, [module, filename]);
      else runModule(script, module, filename);
    };

    /** @param {string} request @param {CommonJsModule} parent @param {boolean} isMain @param {unknown} options */
    loader._resolveFilename = function (request, parent, isMain, options) {
      const known = options === undefined ? pack.#resolve(request, parent?.path) : undefined;
      return known ?? Reflect.apply(resolveFilename, this, [request, parent, isMain, options]);
    };
  }

  /** @param {string} request @param {unknown} directory */
  #resolve(request, directory) {
    if (typeof directory !== "string" || !directory.startsWith(this.#root)) return undefined;
    const path = this.#resolutions.get(`${directory.slice(this.#root.length)}\0${request}`);
    return path === undefined ? undefined : `${this.#root}/${path}`;
  }

  /** A module that is loaded a second time (`delete require.cache[…]`) is Node's to load. @param {string} filename */
  #take(filename) {
    const module = this.#modules.get(filename);
    const parts = this.#parts;
    if (module === undefined || parts === undefined) return undefined;
    this.#modules.delete(filename);
    // The memory is the Function's again.
    if (this.#modules.size === 0) this.#parts = undefined;
    const [start, end] = module.source;
    return compileModule(parts.toString(module.encoding, start, end), filename, parts.subarray(...module.cache));
  }
}
