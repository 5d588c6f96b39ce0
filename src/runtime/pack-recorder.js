/**
 * Makes a Function's module pack (module-pack.js): loads the Function as the guest does, keeps the CommonJS modules that
 * Node compiles and what requests resolve to, and writes them with the code that V8 has compiled by then. Serves no
 * request. Runs inside the build sandbox, in a process of its own: it is the Function's code that runs here.
 * With `check` it loads the Function with its pack instead. Exit code 0: loaded; 1: the Function's own error; else: it ended itself.
 *
 * Usage: node pack-recorder.js record|check ROOT HANDLER AWS_HANDLER [FILE that the handler loads on demand]…
 */
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { createRequire, Module, syncBuiltinESMExports } from "node:module";
import { dirname, isAbsolute, join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { compileFunction } from "node:vm";
import { loadHandler } from "./handler.js";
import { compileModule, formatPack, packPath, placeParts, runModule, wrapModule } from "./module-pack.js";
import { publishContext } from "./request-context.js";

const [, , task = "", directory = "", handler = "", awsHandler = "", ...onDemand] = process.argv;
// Node names modules by their real paths.
const root = realpathSync(directory);
const eagerLengthMax = 1_000_000;
const { reallyExit } = /** @type {any} */ (process);
const loader = /** @type {any} */ (Module);

/** @type {Map<string, { wrapped: string, script: import("node:vm").Script }>} Absolute path → module. */
const modules = new Map();
/** @type {Map<string, { directory: string, request: string, file: string }>} */
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
      resolutions.set(`${directory}\0${request}`, { directory, request, file });
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

function writePack() {
  if (hooked || modules.size === 0) return;
  const parts = [];
  const packed = [];
  for (const [file, { wrapped, script }] of modules) {
    const encoding = /** @type {"latin1" | "utf16le"} */ (/[^\0-\u00ff]/.test(wrapped) ? "utf16le" : "latin1");
    packed.push({ path: relative(file), encoding });
    parts.push(Buffer.from(wrapped, encoding), script.createCachedData());
  }
  const places = placeParts(parts);
  const header = {
    modules: packed.map((module, index) => ({
      ...module,
      source: /** @type {[number, number]} */ (places[2 * index]),
      cache: /** @type {[number, number]} */ (places[2 * index + 1]),
    })),
    resolutions: [...resolutions.values()]
      .filter(isStable)
      .map(
        ({ directory, request, file }) => /** @type {[string, string]} */ ([`${directory.slice(root.length)}\0${request}`, relative(file)]),
      ),
  };
  const path = join(root, packPath);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, formatPack(header, parts));
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
  process.on("exit", writePack);
}
for (const event of ["uncaughtException", "unhandledRejection"]) process.on(event, () => end(1));
publishContext();
process.chdir(root);
process.argv = [process.execPath, `${root}/${handler}`];
try {
  await loadHandler({ type: "load", root, handler, helpers: false, awsHandler, env: {} });
  const require = createRequire(`${root}/`);
  for (const path of onDemand) require(join(root, path));
  end(0);
} catch {
  end(1);
}

/** Now, whatever the Function has opened. @param {number} code */
function end(code) {
  if (task === "record") writePack();
  reallyExit(code);
}
