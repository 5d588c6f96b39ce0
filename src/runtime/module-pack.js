/**
 * A module pack: a file of a bundle with CommonJS modules that the Function loads, each with V8's code cache, and with what
 * `require` resolves to. A bundle has one, or several when Functions share modules. It only spares Node work: paths,
 * `require.cache`, cycles and stack traces are Node's own, because Node's loader does the rest. Invariant: the files of the
 * bundle are what counts. A pack that is absent, of another Node or damaged is left aside; a code cache that V8 rejects is
 * not used; a module that anybody has hooked is Node's to load.
 *
 * Format: length of the header (uint32, little endian), header (JSON), and from the next multiple of 8 on the parts: all
 * texts first, so that whoever has the code caches from elsewhere need not read the rest.
 *
 * A record is such a file with code caches alone, as they are after requests were answered: V8 compiles a function when it
 * is first called, so a pack's own have what loading calls. The platform keeps records (functions/records.ts).
 */
import { closeSync, existsSync, fstatSync, openSync, readSync, realpathSync } from "node:fs";
import { Module } from "node:module";
import { dirname, join } from "node:path";
import { constants, Script } from "node:vm";

/**
 * Paths are relative to the bundle's root, places are `[start, end]` in the parts.
 * @typedef {object} PackHeader
 * @property {PackedModule[]} modules
 * @property {[key: string, path: string][]} resolutions `/<directory of the one that requires>\0<request>` → file
 *
 * @typedef {object} RecordHeader
 * @property {[path: string, cache: [number, number]][]} caches
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
/** As much is read first: most headers are shorter. */
const headBytes = 64 * 1024;
const prefix = "(function (exports, require, module, __filename, __dirname) { ";
const suffix = "\n})";

/** Path of the pack in a bundle. V8's code cache is good for this version alone, and for this processor. */
export const packPath = `.mayfly/modules-${process.version}-${process.arch}.pack`;

/** Paths of all the packs that a bundle may have, without a gap. */
export const packPaths = [packPath, ...[1, 2, 3, 4].map((number) => packPath.replace(/pack$/, `${number}.pack`))];

/** Name of a record in its directory. */
export const recordName = "modules";

/** A record that is not this much larger than what was loaded spares nobody anything. */
const worthwhile = 1.02;

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

/** @param {PackHeader | RecordHeader} header @param {readonly Buffer[]} parts each placed by {@link placeParts} */
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

/** The parts are read when the first of them is wanted: a Function may load none of the modules that it shares. */
class PackFile {
  #path;
  #partsAt;
  #partsBytes;
  #left;
  /** @type {Buffer | undefined} */
  #parts;

  /** @param {string} path @param {ReadonlyMap<string, Buffer>} record @throws when it is none */
  constructor(path, record) {
    const { header, partsAt } = readHeader(path);
    this.header = /** @type {PackHeader} */ (header);
    const { modules } = this.header;
    this.#path = path;
    this.#partsAt = partsAt;
    this.#partsBytes = modules.every((module) => record.has(module.path)) ? Math.max(...modules.map(({ source }) => source[1])) : undefined;
    this.#left = modules.length;
  }

  /** A module's text and code cache, once. @param {PackedModule} module */
  take({ encoding, source: [start, end], cache }) {
    const parts = (this.#parts ??= readPart(this.#path, this.#partsAt, this.#partsBytes));
    // The memory is the Function's again.
    if (--this.#left === 0) this.#parts = undefined;
    return { wrapped: parts.toString(encoding, start, end), cache: parts.subarray(...cache) };
  }
}

/** @param {string} path */
function readHeader(path) {
  const head = readPart(path, 0, headBytes);
  const length = head.readUInt32LE(0);
  const whole = 4 + length <= head.length ? head : readPart(path, 0, 4 + length);
  return { header: JSON.parse(whole.toString("utf8", 4, 4 + length)), partsAt: align(4 + length) };
}

/** @param {string | undefined} directory @returns {Map<string, Buffer>} path → code cache; empty when there is none that can be read */
function readRecord(directory) {
  if (directory === undefined) return new Map();
  try {
    const path = join(directory, recordName);
    const { header, partsAt } = readHeader(path);
    const parts = readPart(path, partsAt);
    return new Map(/** @type {RecordHeader} */ (header).caches.map(([path, place]) => [path, parts.subarray(...place)]));
  } catch {
    return new Map();
  }
}

/** @param {string} path @param {number} start @param {number} [bytesMax] */
function readPart(path, start, bytesMax = Number.POSITIVE_INFINITY) {
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.allocUnsafeSlow(Math.min(fstatSync(file).size - start, bytesMax));
    for (let at = 0; at < bytes.length;) {
      const read = readSync(file, bytes, at, bytes.length - at, start + at);
      if (read === 0) throw new Error("The pack is shorter than it was.");
      at += read;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}

export class ModulePack {
  /** @type {import("./protocol.js").PackUse} */
  use = "plain";
  /** V8 takes a code cache only as the same Node with the same flags has made it. */
  rejected = false;
  #root;
  /** @type {Map<string, { module: PackedModule, file: PackFile }>} Absolute path → module that is not loaded yet. */
  #modules = new Map();
  /** @type {Map<string, string>} */
  #resolutions = new Map();

  /** Path → code cache of an earlier instance. */
  #record;
  /** @type {{ path: string, script: Script, cacheLength: number }[]} */
  #loaded = [];

  /** @param {string} root without links @param {readonly PackFile[]} files @param {Map<string, Buffer>} record */
  constructor(root, files, record) {
    this.#root = root;
    this.#record = record;
    for (const file of files) {
      for (const module of file.header.modules) this.#modules.set(`${root}/${module.path}`, { module, file });
      for (const [key, path] of file.header.resolutions) this.#resolutions.set(key, path);
    }
  }

  /** The packs of a bundle, or undefined. @param {string} directory @param {string} [recordDirectory] */
  static open(directory, recordDirectory) {
    const files = [];
    const record = readRecord(recordDirectory);
    for (const path of packPaths) {
      const place = join(directory, path);
      // Most Functions have none, and an error costs more than a look.
      if (!existsSync(place)) break;
      try {
        files.push(new PackFile(place, record));
      } catch {
        // The bundle's own files are there.
      }
    }
    // Node names modules by their real paths.
    return files.length === 0 ? undefined : new ModulePack(realpathSync(directory), files, record);
  }

  /**
   * What V8 has compiled by now of the modules that were loaded, where that is more than they were loaded with.
   * @param {number} bytesMax
   * @returns {Buffer | undefined} undefined: nothing that is worth keeping, or too much
   */
  record(bytesMax) {
    /** @type {string[]} */
    const paths = [];
    const parts = [];
    let bytes = 0;
    let bytesBefore = 0;
    for (const { path, script, cacheLength } of this.#loaded) {
      const cache = script.createCachedData();
      // V8 forgets what was not called for long.
      if (cache.length < cacheLength) continue;
      paths.push(path);
      parts.push(cache);
      bytes += cache.length;
      bytesBefore += cacheLength;
      if (bytes > bytesMax) return undefined;
    }
    if (bytes < bytesBefore * worthwhile) return undefined;
    const record = formatPack({ caches: placeParts(parts).map((place, index) => [paths[index] ?? "", place]) }, parts);
    return record.length > bytesMax ? undefined : record;
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
    const known = this.#modules.get(filename);
    if (known === undefined) return undefined;
    this.#modules.delete(filename);
    const { path } = known.module;
    const { wrapped, cache } = known.file.take(known.module);
    const recorded = this.#record.get(path);
    this.#record.delete(path);
    const cached = recorded ?? cache;
    const script = compileModule(wrapped, filename, cached);
    if (recorded === undefined) this.rejected ||= script.cachedDataRejected === true;
    else this.use = script.cachedDataRejected === true || this.use === "rejected" ? "rejected" : "recorded";
    this.#loaded.push({ path, script, cacheLength: cached.length });
    return script;
  }
}
