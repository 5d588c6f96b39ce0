/**
 * `.vercel/output` → parts of a manifest. The one place where what a build (or a client, with `--prebuilt`) wrote is
 * believed, so everything is checked: shapes, sizes, paths, links. Stores every distinct file once.
 *
 * Prerenders have no cache here yet. One that never expires and depends on nothing of the request is served as its file;
 * any other by its Function at each request, which is slower but never stale.
 */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import createPcre from "pcre-to-regexp";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { FileRef, FunctionSpec, Output, Route } from "../model.ts";
import { checkFilePath } from "../names.ts";
import { outputDirectory } from "./builder.ts";
import { linkTarget, OutputFiles } from "./output-files.ts";
import type { Entry, FilePlace } from "./output-files.ts";

export interface OutputParts {
  readonly routes: readonly Route[];
  readonly outputs: Readonly<Record<string, Output>>;
  readonly functions: Readonly<Record<string, FunctionSpec>>;
  /** For the build's log. */
  readonly warnings: readonly string[];
}

export interface OutputOptions {
  readonly place: FilePlace;
  /** Of the project in the repository: "" or `apps/web`. */
  readonly rootDirectory: string;
  readonly blobs: BlobStore;
  readonly config: Config;
}

const configBytesMax = 16 * 1024 * 1024;
const functionConfigBytesMax = 4 * 1024 * 1024;
const routesMax = 4096;
const routeSourceCharsMax = 4096;
const storesAtOnce = 16;
const largestListed = 20;
const handles = ["filesystem", "rewrite", "resource", "miss", "hit", "error"];

type Json = Readonly<Record<string, unknown>>;

/** @throws MayflyError BUILD_OUTPUT_INVALID, BUILD_OUTPUT_UNSUPPORTED, FUNCTION_TOO_LARGE */
export async function readOutput(options: OutputOptions): Promise<OutputParts> {
  return new OutputReader(options).read();
}

class OutputReader {
  readonly #files: OutputFiles;
  readonly #blobs: BlobStore;
  readonly #config: Config;
  /** `.vercel/output` in the repository. */
  readonly #root: string;
  readonly #warnings: string[] = [];
  readonly #outputs = new Map<string, Output>();
  readonly #functions = new Map<string, FunctionSpec>();
  /** Real directory of a `.func` → its Function: several paths may link to one. */
  readonly #bundles = new Map<string, Promise<FunctionSpec>>();
  readonly #lane = new Lane(storesAtOnce);
  #bytes = 0;
  #entries = 0;

  constructor(options: OutputOptions) {
    this.#files = new OutputFiles(options.place, options.blobs);
    this.#blobs = options.blobs;
    this.#config = options.config;
    this.#root = posix.join(options.rootDirectory, outputDirectory);
  }

  async read(): Promise<OutputParts> {
    const config = await this.#readConfig();
    const routes = this.#checkRoutes(config["routes"]);
    await this.#readStatic(this.#checkOverrides(config["overrides"]));
    await this.#readFunctions();
    for (const key of ["wildcard", "crons", "images"]) {
      if (Array.isArray(config[key]) && config[key].length > 0) this.#warnings.push(`config.json: "${key}" has no effect here yet.`);
    }
    return {
      routes,
      outputs: Object.fromEntries(this.#outputs),
      functions: Object.fromEntries(this.#functions),
      warnings: this.#warnings,
    };
  }

  // ── config.json ─────────────────────────────────────────────────────────────────────────────────────────────────────

  async #readConfig(): Promise<Json> {
    const path = `${this.#root}/config.json`;
    const found = await this.#files.entry(path);
    if (found?.entry.kind !== "file") throw invalid(`There is no ${outputDirectory}/config.json.`);
    const config = await this.#readJson(found.at, configBytesMax, "config.json");
    if (config["version"] !== 3) throw invalid(`config.json has version ${JSON.stringify(config["version"])?.slice(0, 50)}; it must be 3.`);
    if (isObject(config["services"]) || Array.isArray(config["services"])) {
      throw new MayflyError("BUILD_OUTPUT_UNSUPPORTED", 'config.json has "services", which are not supported yet.');
    }
    return config;
  }

  #checkRoutes(value: unknown): readonly Route[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) throw invalid('config.json: "routes" must be an array.');
    if (value.length > routesMax) throw invalid(`config.json has ${value.length} routes; at most ${routesMax} are allowed.`);
    return value.map((route: unknown, index) => this.#checkRoute(route, index));
  }

  #checkRoute(route: unknown, index: number): Route {
    const refuse = (why: string): never => {
      throw invalid(`config.json: routes[${index}] ${why}.`);
    };
    if (!isObject(route)) return refuse("must be an object");
    if (route["handle"] !== undefined) {
      if (!handles.includes(route["handle"] as string)) refuse(`has the handle ${JSON.stringify(route["handle"])?.slice(0, 50)}`);
      return { handle: route["handle"] } as Route;
    }
    const { src } = route;
    if (typeof src !== "string") return refuse('must have "src" or "handle"');
    if (src.length > routeSourceCharsMax) refuse(`has a src of ${src.length} characters; ${routeSourceCharsMax} are allowed`);
    if (!isPattern(src)) refuse(`has a src that is no regular expression: ${src.slice(0, 200)}`);
    if (route["middlewarePath"] !== undefined) {
      throw new MayflyError(
        "BUILD_OUTPUT_UNSUPPORTED",
        `The build has routing middleware (${String(route["middlewarePath"]).slice(0, 100)}), which is not supported yet.`,
      );
    }
    const types: Readonly<Record<string, (value: unknown) => boolean>> = {
      dest: isString,
      methods: (methods) => Array.isArray(methods) && methods.every(isString),
      headers: isStringRecord,
      status: (status) => Number.isInteger(status) && (status as number) >= 100 && (status as number) <= 599,
      has: isConditions,
      missing: isConditions,
      continue: isBoolean,
      check: isBoolean,
      override: isBoolean,
      important: isBoolean,
      caseSensitive: isBoolean,
      locale: isObject,
    };
    for (const [key, check] of Object.entries(types)) {
      if (route[key] !== undefined && !check(route[key])) refuse(`has a "${key}" of a wrong type`);
    }
    return route as unknown as Route;
  }

  #checkOverrides(value: unknown): ReadonlyMap<string, { readonly path?: string; readonly contentType?: string }> {
    if (value === undefined || value === null) return new Map();
    if (!isObject(value)) throw invalid('config.json: "overrides" must be an object.');
    const overrides = new Map<string, { path?: string; contentType?: string }>();
    for (const [name, override] of Object.entries(value)) {
      if (!isObject(override)) throw invalid(`config.json: overrides["${name.slice(0, 200)}"] must be an object.`);
      const { path, contentType } = override;
      if ((path !== undefined && !isString(path)) || (contentType !== undefined && !isHeaderValue(contentType))) {
        throw invalid(`config.json: overrides["${name.slice(0, 200)}"] must have strings as path and contentType.`);
      }
      overrides.set(name, { ...(isString(path) ? { path } : {}), ...(isString(contentType) ? { contentType } : {}) });
    }
    return overrides;
  }

  // ── static/ ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #readStatic(overrides: ReadonlyMap<string, { readonly path?: string; readonly contentType?: string }>): Promise<void> {
    const root = `${this.#root}/static`;
    for await (const { path, at, entry } of this.#walk(root, root)) {
      const file = entry.kind === "link" ? await this.#files.resolve(at) : { at, entry };
      if (file === null || file.entry.kind !== "file") {
        this.#warnings.push(`static/${path} is a link that leads to no file of the project; it is left out.`);
        continue;
      }
      const override = overrides.get(path);
      // The override of a page may be "": the directory itself.
      const served = this.#checkPath((override?.path ?? path).replace(/^\//, "") || "index");
      this.#count(file.entry.size);
      const { at: place } = file;
      this.#lane.run(async () => {
        const output = { kind: "static", file: await this.#files.store(place) } as const;
        this.#outputs.set(served, override?.contentType === undefined ? output : { ...output, contentType: override.contentType });
      });
    }
    await this.#lane.done();
  }

  // ── functions/ ──────────────────────────────────────────────────────────────────────────────────────────────────────

  async #readFunctions(): Promise<void> {
    const root = `${this.#root}/functions`;
    const bundles: { readonly path: string; readonly at: string }[] = [];
    const prerenders = new Map<string, string>();
    for await (const { path, at, entry } of this.#walk(root, root, (name) => name.endsWith(".func"))) {
      if (path.endsWith(".func") && entry.kind !== "file") {
        const real = await this.#files.resolve(at);
        if (real?.entry.kind !== "directory" || !real.at.startsWith(`${root}/`))
          throw invalid(`functions/${path} leads to no Function of this build.`);
        bundles.push({ path: this.#checkPath(path.slice(0, -".func".length)), at: real.at });
      } else if (path.endsWith(".prerender-config.json") && entry.kind === "file") {
        prerenders.set(path.slice(0, -".prerender-config.json".length), at);
      }
    }
    for (const { path, at } of bundles) {
      const config = prerenders.get(path);
      const file = config === undefined ? null : await this.#prerenderedFile(config, path);
      if (file !== null) {
        this.#outputs.set(path, file);
        continue;
      }
      let spec = this.#bundles.get(at);
      if (spec === undefined) this.#bundles.set(at, (spec = this.#readFunction(at, path)));
      const { id } = await spec;
      this.#outputs.set(path, { kind: "function", functionId: id });
    }
    for (const [path, config] of prerenders) {
      if (this.#outputs.has(path)) continue;
      const file = await this.#prerenderedFile(config, this.#checkPath(path));
      if (file !== null) this.#outputs.set(path, file);
    }
  }

  /** The fallback of a prerender that is as good as a static file, or null. */
  async #prerenderedFile(configAt: string, path: string): Promise<Output | null> {
    const name = `functions/${path}.prerender-config.json`;
    const config = await this.#readJson(configAt, functionConfigBytesMax, name);
    const { expiration, fallback, initialStatus, initialHeaders, allowQuery, chain, partialFallback } = config;
    const status = initialStatus ?? 200;
    const isErrorPage = /(?:^|\/)(?:404|500|_not-found|_error)$/.test(path);
    const dependsOnRequest = /\[.+\]/.test(path) && Array.isArray(allowQuery) && allowQuery.length > 0;
    if (expiration !== false || !isObject(fallback) || chain !== undefined || partialFallback === true || dependsOnRequest) return null;
    if (status !== 200 && !isErrorPage) return null;
    const { fsPath } = fallback;
    if (!isString(fsPath)) throw invalid(`${name}: "fallback.fsPath" must be a string.`);
    const at = linkTarget(configAt, fsPath);
    const file = at === null ? null : await this.#files.resolve(at);
    if (file?.entry.kind !== "file" || !file.at.startsWith(`${this.#root}/`))
      throw invalid(`${name}: the fallback "${fsPath.slice(0, 200)}" is no file of this build.`);
    this.#count(file.entry.size);
    const stored = await this.#files.store(file.at);
    const headers = isObject(initialHeaders) ? initialHeaders : {};
    const contentType = Object.entries(headers).find(([key]) => key.toLowerCase() === "content-type")?.[1] ?? fallback["contentType"];
    return isHeaderValue(contentType) ? { kind: "static", file: stored, contentType } : { kind: "static", file: stored };
  }

  async #readFunction(at: string, name: string): Promise<FunctionSpec> {
    const label = `functions/${name}.func/.vc-config.json`;
    const found = await this.#files.entry(`${at}/.vc-config.json`);
    if (found?.entry.kind !== "file") throw invalid(`There is no ${label}.`);
    const config = await this.#readJson(found.at, functionConfigBytesMax, label);
    const settings = this.#checkSettings(config, name, label);
    const bundle = await this.#readBundle(at, name, config["filePathMap"], label);
    const sorted = Object.fromEntries([...bundle].sort(([a], [b]) => (a < b ? -1 : 1)));
    const bundleSize = [...bundle.values()].reduce((sum, file) => sum + file.size, 0);
    if (settings.awsHandler === "" && !bundle.has(settings.handler))
      throw invalid(`${label}: the handler "${settings.handler}" is not among the Function's files.`);
    const { digest: bundleDigest } = await this.#blobs.put(JSON.stringify(sorted));
    const id = createHash("sha256")
      .update(JSON.stringify([bundleDigest, settings]))
      .digest("hex");
    const spec: FunctionSpec = { id, name, bundleDigest, bundleSize, ...settings };
    if (!this.#functions.has(id)) this.#functions.set(id, spec);
    return spec;
  }

  #checkSettings(config: Json, name: string, label: string): Omit<FunctionSpec, "id" | "name" | "bundleDigest" | "bundleSize"> {
    const unsupported = (what: string): never => {
      throw new MayflyError("BUILD_OUTPUT_UNSUPPORTED", `The Function "${name}" ${what}, which is not supported yet.`);
    };
    const { runtime, handler, awsLambdaHandler, environment, regions } = config;
    if (runtime === "edge") unsupported("is an Edge Function");
    if (!isString(runtime)) throw invalid(`${label}: "runtime" must be a string.`);
    if (!/^nodejs\d{2}\.x$/.test(runtime)) unsupported(`asks for the runtime "${runtime.slice(0, 50)}"`);
    if (!isString(handler) || handler === "") throw invalid(`${label}: "handler" must be a string.`);
    const awsHandler = isString(awsLambdaHandler) ? awsLambdaHandler : "";
    if (environment !== undefined && !isStringRecord(environment)) throw invalid(`${label}: "environment" must be an object of strings.`);
    if (regions !== undefined && !(Array.isArray(regions) && regions.every(isString)))
      throw invalid(`${label}: "regions" must be an array of strings.`);
    const { functionMemoryMBMin, functionMemoryMBMax, functionMemoryMBDefault, functionDurationSMax } = this.#config;
    const memoryMB = config["memory"] ?? functionMemoryMBDefault;
    if (typeof memoryMB !== "number" || !Number.isFinite(memoryMB)) throw invalid(`${label}: "memory" must be a number of megabytes.`);
    const duration = config["maxDuration"] ?? "max";
    if (duration !== "max" && (typeof duration !== "number" || !(duration > 0)))
      throw invalid(`${label}: "maxDuration" must be a number of seconds or "max".`);
    return {
      handler: this.#checkPath(handler),
      runtime,
      helpers: config["shouldAddHelpers"] === true,
      awsHandler,
      memoryMB: this.#clamp(Math.round(memoryMB), functionMemoryMBMin, functionMemoryMBMax, `The Function "${name}": memory`, "MB"),
      maxDurationS:
        duration === "max"
          ? functionDurationSMax
          : this.#clamp(Math.ceil(duration), 1, functionDurationSMax, `The Function "${name}": maxDuration`, "s"),
      regions: regions ?? [],
      environment: environment ?? {},
    };
  }

  #clamp(value: number, min: number, max: number, label: string, unit: string): number {
    const clamped = Math.min(Math.max(value, min), max);
    if (clamped !== value) this.#warnings.push(`${label} of ${value} ${unit} is not possible here; it gets ${clamped} ${unit}.`);
    return clamped;
  }

  /** Files of the bundle by their path in it: those in the directory, and those that `filePathMap` names elsewhere. */
  async #readBundle(directory: string, name: string, filePathMap: unknown, label: string): Promise<ReadonlyMap<string, FileRef>> {
    const wanted = new Map<string, Placed>();
    for await (const { path, at, entry } of this.#walk(directory, directory)) {
      if (path !== ".vc-config.json") wanted.set(this.#checkPath(path), { at, entry });
    }
    if (filePathMap !== undefined && filePathMap !== null) {
      if (!isStringRecord(filePathMap)) throw invalid(`${label}: "filePathMap" must be an object of strings.`);
      for (const [path, source] of Object.entries(filePathMap)) {
        const from = linkTarget("", source);
        const found = from === null ? null : await this.#files.entry(from);
        if (found === null)
          throw invalid(`${label}: "${path.slice(0, 200)}" is to come from "${source.slice(0, 200)}", which is no file of the project.`);
        await this.#addMapped(wanted, this.#checkPath(path), found.at, found.entry);
      }
    }
    this.#checkNesting(wanted, label);
    this.#checkSize(name, wanted);
    const bundle = new Map<string, FileRef>();
    for (const [path, { at, entry }] of wanted) {
      if (entry.kind === "link") {
        const target = bundleLink(path, at, entry.target);
        if (target === null) this.#warnings.push(`The Function "${name}": the link "${path}" leads out of the bundle; it is left out.`);
        else bundle.set(path, await this.#files.storeLink(target));
        continue;
      }
      this.#lane.run(async () => {
        bundle.set(path, await this.#files.store(at));
      });
    }
    await this.#lane.done();
    return bundle;
  }

  /** A mapped directory stands for all that is in it. */
  async #addMapped(wanted: Map<string, Placed>, path: string, at: string, entry: Entry): Promise<void> {
    if (entry.kind !== "directory") {
      this.#entries++;
      wanted.set(path, { at, entry });
      return;
    }
    for await (const below of this.#walk(at, at)) wanted.set(this.#checkPath(`${path}/${below.path}`), below);
  }

  /** Nothing lies below a file; a link that something lies below gives way to the directory that it must be. */
  #checkNesting(wanted: Map<string, Placed>, label: string): void {
    for (const path of wanted.keys()) {
      for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
        const parent = path.slice(0, end);
        const kind = wanted.get(parent)?.entry.kind;
        if (kind === "file") throw invalid(`${label}: "${parent.slice(0, 200)}" is a file and a directory.`);
        if (kind === "link") wanted.delete(parent);
      }
    }
  }

  #checkSize(name: string, files: ReadonlyMap<string, Placed>): void {
    const sizes = [...files].map(([path, { entry }]) => ({ path, size: entry.kind === "file" ? entry.size : 0 }));
    const total = sizes.reduce((sum, file) => sum + file.size, 0);
    this.#count(total);
    const { functionBundleBytesMax: limit } = this.#config;
    if (total <= limit) return;
    const largest = sizes.sort((a, b) => b.size - a.size).slice(0, largestListed);
    const lines = largest.map((file) => `  ${megabytes(file.size)}  ${file.path}`);
    throw new MayflyError(
      "FUNCTION_TOO_LARGE",
      `The Function "${name}" has ${megabytes(total)} in ${sizes.length} files; the limit is ${megabytes(limit)}. Its largest files:\n${lines.join("\n")}`,
    );
  }

  // ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Files and links below a real directory, depth first, in order; a directory that `whole` names comes as one, and is not entered. */
  async *#walk(
    directory: string,
    top: string,
    whole: (name: string) => boolean = () => false,
  ): AsyncGenerator<{ readonly path: string; readonly at: string; readonly entry: Entry }> {
    if (directory === top) {
      // The top itself may be missing, but must not be a link to somewhere else.
      const found = await this.#files.entry(directory);
      if (found === null) return;
      if (found.at !== directory || found.entry.kind !== "directory") throw invalid(`"${directory}" is not a directory.`);
    }
    for (const name of await this.#files.list(directory)) {
      const at = `${directory}/${name}`;
      if (Buffer.byteLength(at) > this.#config.pathBytesMax * 4) throw invalid(`The path "${at.slice(0, 200)}…" is too long.`);
      const found = await this.#files.entry(at);
      if (found === null) continue;
      if (++this.#entries > this.#config.filesMax) throw invalid(`The build has more than ${this.#config.filesMax} files.`);
      const { entry } = found;
      const path = at.slice(top.length + 1);
      if (entry.kind === "directory" && !whole(name)) yield* this.#walk(at, top, whole);
      else yield { path, at, entry };
    }
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#config.outputBytesMax)
      throw invalid(`The build's output has more than ${megabytes(this.#config.outputBytesMax)}.`);
  }

  #checkPath(path: string): string {
    try {
      return checkFilePath(path, this.#config.pathBytesMax);
    } catch (error) {
      throw invalid(messageOf(error));
    }
  }

  async #readJson(at: string, bytesMax: number, label: string): Promise<Json> {
    const bytes = await this.#files.read(at, bytesMax);
    let value: unknown;
    try {
      value = JSON.parse(bytes.toString("utf8"));
    } catch (error) {
      throw invalid(`${label} is not valid JSON: ${messageOf(error)}`);
    }
    if (!isObject(value)) throw invalid(`${label} must hold an object.`);
    return value;
  }
}

interface Placed {
  /** Real place in the repository. */
  readonly at: string;
  readonly entry: Entry;
}

/** What a link says in the bundle; null when it would lead out of it. */
function bundleLink(path: string, at: string, target: string): string | null {
  const real = linkTarget(at, target);
  if (real === null) return null;
  // Relative links keep their meaning because the bundle's paths are the repository's; others are made relative.
  const relative = target.startsWith("/") ? posix.relative(posix.dirname(path), real) : target;
  return linkTarget(path, relative) === null ? null : relative;
}

/** Runs at most so many at once; the first failure is that of `done`. */
class Lane {
  readonly #max: number;
  readonly #waiting: (() => Promise<void>)[] = [];
  #running = 0;
  #failure: { readonly error: unknown } | undefined;
  #idle = Promise.withResolvers<void>();

  constructor(max: number) {
    this.#max = max;
  }

  run(work: () => Promise<void>): void {
    this.#waiting.push(work);
    this.#next();
  }

  /** Resolves when all work is through. */
  async done(): Promise<void> {
    while (this.#running > 0 || this.#waiting.length > 0) await this.#idle.promise;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.error;
  }

  #next(): void {
    while (this.#running < this.#max) {
      const work = this.#waiting.shift();
      if (work === undefined) break;
      this.#running++;
      void this.#step(work);
    }
  }

  async #step(work: () => Promise<void>): Promise<void> {
    try {
      if (this.#failure === undefined) await work();
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#running--;
    this.#next();
    if (this.#running === 0) {
      this.#idle.resolve();
      this.#idle = Promise.withResolvers();
    }
  }
}

/** As the gateway reads it: JavaScript first, else PCRE. */
function isPattern(source: string): boolean {
  for (const compile of [() => new RegExp(source.replaceAll("(?P<", "(?<")), () => createPcre(`%${source}%`)]) {
    try {
      compile();
      return true;
    } catch {
      // The next one may.
    }
  }
  return false;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(2)} MB`;
}

function invalid(message: string): MayflyError {
  return new MayflyError("BUILD_OUTPUT_INVALID", message);
}

const isString = (value: unknown): value is string => typeof value === "string";
const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const isHeaderValue = (value: unknown): value is string => isString(value) && value.length < 1024 && /^[\t\u0020-\u007e]*$/.test(value);

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStringRecord(value: unknown): value is Readonly<Record<string, string>> {
  return isObject(value) && Object.values(value).every(isString);
}

function isConditions(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every(
      (one) =>
        isObject(one) &&
        ["host", "header", "cookie", "query"].includes(one["type"] as string) &&
        (one["key"] === undefined || isString(one["key"])) &&
        (one["value"] === undefined || isString(one["value"]) || isObject(one["value"])),
    )
  );
}
