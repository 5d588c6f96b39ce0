/**
 * Makes a Function's module packs (module-pack.js): loads the Function as the guest does, keeps the CommonJS modules that
 * Node compiles and what requests resolve to, and writes them with the code that V8 has compiled by then: `own.pack`, and
 * `<name>.pack` for each share, beside SHARES. Serves no request. Runs inside the build sandbox, in a process of its own: it is the Function's code that runs here.
 * With `check` it loads the Function with its packs instead. Exit code 0: loaded; 1: the Function's own error; 2: V8 rejects
 * a pack's code cache; else: it ended itself.
 *
 * Usage: node pack-recorder.js record|check ROOT HANDLER AWS_HANDLER SHARES [FILE that the handler loads on demand]…
 */
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { createRequire, Module, syncBuiltinESMExports } from "node:module";
import { dirname, isAbsolute, join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { compileFunction } from "node:vm";
import { loadedPack, loadHandler } from "./handler.js";
import { compileModule, formatPack, placeParts, runModule, wrapModule } from "./module-pack.js";
import { publishContext } from "./request-context.js";

/**
 * Files that several Functions have: their modules have a pack of their own.
 * @typedef {object} PackShare
 * @property {string} name
 * @property {readonly string[]} files relative to the root
 * @property {readonly string[]} reaches names of shares that every Function has which has this one
 */

const [, , task = "", directory = "", handler = "", awsHandler = "", sharesPath = "", ...onDemand] = process.argv;
// Node names modules by their real paths.
const root = realpathSync(directory);
const eagerLengthMax = 1_000_000;
const { reallyExit } = /** @type {any} */ (process);
const loader = /** @type {any} */ (Module);

/** @type {Map<string, { wrapped: string, script: import("node:vm").Script }>} Absolute path → module. */
const modules = new Map();
/** @type {Map<string, { directory: string, request: string, file: string, parents: Set<string> }>} */
const resolutions = new Map();
/** Somebody changes modules while they are loaded: then a pack would keep them from it. */
let hooked = false;
const { _resolveFilename: resolveFilename } = loader;

function record() {
  const { _compile: compile } = loader.prototype;

  /** @this {any} @param {string} content @param {string} filename @param {string} [format] */
  loader.prototype._compile = function (content, filename, format) {
    const script = format === "module" ? undefined : compileIfPlain(content, filename);
    if (script === undefined) return Reflect.apply(compile, this, [content, filename, format]);
    return runModule(script, this, filename);
  };

  /** @param {string} request @param {any} parent @param {boolean} isMain @param {unknown} options */
  loader._resolveFilename = function (request, parent, isMain, options) {
    const file = Reflect.apply(resolveFilename, this, [request, parent, isMain, options]);
    const directory = parent?.path;
    if (options === undefined && typeof directory === "string" && isInside(`${directory}/`) && isInside(file) && !isAbsolute(request))
      noteResolution(directory, request, file, parent.filename ?? "");
    return file;
  };

  for (const name of ["register", "registerHooks"]) {
    const register = loader[name];
    loader[name] = function (/** @type {any[]} */ ...options) {
      hooked = true;
      return Reflect.apply(register, this, options);
    };
  }
  syncBuiltinESMExports();
}

/** @param {string} directory @param {string} request @param {string} file @param {string} parent */
function noteResolution(directory, request, file, parent) {
  const key = `${directory}\0${request}`;
  const known = resolutions.get(key);
  if (known?.file === file) known.parents.add(parent);
  else resolutions.set(key, { directory, request, file, parents: new Set([parent]) });
}

/** @param {string} content @param {string} filename */
function compileIfPlain(content, filename) {
  try {
    if (!isInside(filename) || readFileSync(filename, "utf8") !== content) return undefined;
    // As Node does it: the wrapper below would take more than a module's body.
    compileFunction(content, ["exports", "require", "module", "__filename", "__dirname"]);
    const wrapped = wrapModule(content);
    const script = compileAsAsked(wrapped, filename);
    modules.set(filename, { wrapped, script });
    return script;
  } catch {
    // A module of the other kind, or a mistake: Node says which.
    return undefined;
  }
}

/**
 * V8 compiles a function when it is first called, so a pack has those that loading calls. What is loaded on demand, and
 * what loads it, is called at the first request: all of it is compiled, for so little code that this pays.
 * @param {string} wrapped @param {string} filename
 */
function compileAsAsked(wrapped, filename) {
  if (onDemand.length === 0 || wrapped.length > eagerLengthMax) return compileModule(wrapped, filename);
  setFlagsFromString("--no-lazy");
  try {
    return compileModule(wrapped, filename);
  } finally {
    // V8 takes a code cache only under the flags that it was made under.
    setFlagsFromString("--lazy");
  }
}

/** @param {string} file */
function isInside(file) {
  return file.startsWith(`${root}/`);
}

function writePacks() {
  if (hooked || modules.size === 0) return;
  const shares = /** @type {PackShare[]} */ (JSON.parse(readFileSync(sharesPath, "utf8")));
  /** @type {Map<string, string>} */
  const shareOf = new Map(shares.flatMap(({ name, files }) => files.map((file) => [file, name])));
  const nameOf = (/** @type {string} */ file) => shareOf.get(relative(file)) ?? "own";
  const stable = [...resolutions.values()].filter(isStable);
  for (const { name, reaches } of [{ name: "own", reaches: shares.map((share) => share.name) }, ...shares]) {
    const mine = [...modules].filter(([file]) => nameOf(file) === name);
    // What one module of the share asks for is there for every Function that has the share.
    const known = stable.filter(
      ({ file, parents }) => [name, ...reaches].includes(nameOf(file)) && [...parents].some((parent) => nameOf(parent) === name),
    );
    if (mine.length > 0) writeFileSync(join(dirname(sharesPath), `${name}.pack`), packOf(mine, known));
  }
}

/** @param {[string, { wrapped: string, script: import("node:vm").Script }][]} mine @param {{ directory: string, request: string, file: string }[]} known */
function packOf(mine, known) {
  const texts = [];
  const caches = [];
  const packed = [];
  for (const [file, { wrapped, script }] of mine) {
    const encoding = /** @type {"latin1" | "utf16le"} */ (/[^\0-\u00ff]/.test(wrapped) ? "utf16le" : "latin1");
    packed.push({ path: relative(file), encoding });
    texts.push(Buffer.from(wrapped, encoding));
    caches.push(script.createCachedData());
  }
  const parts = [...texts, ...caches];
  const places = placeParts(parts);
  const header = {
    modules: packed.map((module, index) => ({
      ...module,
      source: /** @type {[number, number]} */ (places[index]),
      cache: /** @type {[number, number]} */ (places[packed.length + index]),
    })),
    resolutions: known.map(
      ({ directory, request, file }) => /** @type {[string, string]} */ ([`${directory.slice(root.length)}\0${request}`, relative(file)]),
    ),
  };
  return formatPack(header, parts);
}

/** Whether the request resolves so for every module of the directory, not only for one that has paths of its own. */
function isStable(/** @type {{ directory: string, request: string, file: string }} */ { directory, request, file }) {
  const parent = Object.assign(new Module(join(directory, "noop.js")), {
    filename: join(directory, "noop.js"),
    paths: loader._nodeModulePaths(directory),
  });
  try {
    return resolveFilename(request, parent, false) === file;
  } catch {
    return false;
  }
}

/** @param {string} file */
function relative(file) {
  return file.slice(root.length + 1);
}

if (task === "record") {
  record();
  // However it ends, what it has loaded by then is good.
  process.on("exit", writePacks);
}
for (const event of ["uncaughtException", "unhandledRejection"]) process.on(event, () => end(1));
publishContext();
process.chdir(root);
process.argv = [process.execPath, `${root}/${handler}`];
try {
  await loadHandler({ type: "load", root, handler, helpers: false, awsHandler, env: {} });
  const require = createRequire(`${root}/`);
  for (const path of onDemand) require(join(root, path));
  end(loadedPack()?.rejected === true ? 2 : 0);
} catch {
  end(1);
}

/** Now, whatever the Function has opened. @param {number} code */
function end(code) {
  if (task === "record") writePacks();
  reallyExit(code);
}
