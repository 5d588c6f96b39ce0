/**
 * `.vercel/output` → parts of a manifest. The one place where what a build (or a client, with `--prebuilt`) wrote is
 * believed, so everything is checked: shapes (output-config, function-config, prerender-config), sizes, paths, links.
 * Stores every distinct file once.
 */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import mime from "mime-types";
import type { BlobTarget } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { FileRef, FileTree, FunctionSpec, Output, Route, StaticOutput } from "../model.ts";
import { checkFilePath } from "../names.ts";
import { outputDirectory } from "./builder.ts";
import type { SiteSettings } from "./builder.ts";
import { shareDirectories } from "./bundle-trees.ts";
import { checkFunctionConfig } from "./function-config.ts";
import { checkOutputConfig } from "./output-config.ts";
import type { OutputConfig } from "./output-config.ts";
import { linkTarget, OutputFiles } from "./output-files.ts";
import type { Entry, FilePlace } from "./output-files.ts";
import { checkPrerenderConfig, isPartial } from "./prerender-config.ts";
import type { PrerenderConfig } from "./prerender-config.ts";
import { isObject, isStringRecord } from "./shape.ts";
import type { Json } from "./shape.ts";

export interface OutputParts {
  readonly routes: readonly Route[];
  readonly outputs: Readonly<Record<string, Output>>;
  readonly functions: Readonly<Record<string, FunctionSpec>>;
  readonly site: SiteSettings;
  /** As the output itself names it. */
  readonly framework: string | null;
  /** For the build's log. */
  readonly warnings: readonly string[];
}

export interface OutputOptions {
  readonly place: FilePlace;
  /** Of the project in the repository: "" or `apps/web`. */
  readonly rootDirectory: string;
  readonly blobs: BlobTarget;
  readonly config: Config;
  /** Output paths that are taken from an earlier build: routes may name them. */
  readonly reused?: ReadonlySet<string>;
}

const configBytesMax = 16 * 1024 * 1024;
const functionConfigBytesMax = 4 * 1024 * 1024;
const storesAtOnce = 16;
const functionsAtOnce = 16;
const largestListed = 20;
const errorPage = /(?:^|\/)(?:404|500|_not-found|_error)$/;

/** @throws MayflyError BUILD_OUTPUT_INVALID, BUILD_OUTPUT_UNSUPPORTED, FUNCTION_TOO_LARGE */
export async function readOutput(options: OutputOptions): Promise<OutputParts> {
  return new OutputReader(options).read();
}

class OutputReader {
  readonly #files: OutputFiles;
  readonly #blobs: BlobTarget;
  readonly #config: Config;
  readonly #reused: ReadonlySet<string>;
  /** `.vercel/output` in the repository. */
  readonly #root: string;
  readonly #warnings: string[] = [];
  readonly #outputs = new Map<string, Output>();
  readonly #functions = new Map<string, FunctionSpec>();
  /** Real directory of a `.func` → its Function: several paths may link to one. */
  readonly #drafts = new Map<string, Promise<Draft>>();
  /** Digest of a symbolic link → where it leads. */
  readonly #links = new Map<string, string>();
  readonly #lane = new Lane(storesAtOnce);
  #bytes = 0;
  #entries = 0;

  constructor(options: OutputOptions) {
    this.#files = new OutputFiles(options.place, options.blobs);
    this.#blobs = options.blobs;
    this.#config = options.config;
    this.#reused = options.reused ?? new Set();
    this.#root = posix.join(options.rootDirectory, outputDirectory);
  }

  async read(): Promise<OutputParts> {
    const { routes, middleware, overrides, site, framework } = checkOutputConfig(await this.#readConfig());
    await this.#readStatic(overrides);
    await this.#readFunctions(middleware);
    return {
      routes,
      outputs: Object.fromEntries(this.#outputs),
      functions: Object.fromEntries(this.#functions),
      site,
      framework,
      warnings: this.#warnings,
    };
  }

  // ── config.json ─────────────────────────────────────────────────────────────────────────────────────────────────────

  async #readConfig(): Promise<Json> {
    const path = `${this.#root}/config.json`;
    const found = await this.#files.entry(path);
    if (found?.entry.kind !== "file") throw invalid(`There is no ${outputDirectory}/config.json.`);
    return this.#readJson(found.at, configBytesMax, "config.json");
  }

  // ── static/ ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  async #readStatic(overrides: OutputConfig["overrides"]): Promise<void> {
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
        // What is served at another path is still what its own extension says.
        const contentType = override?.contentType ?? (override?.path === undefined ? false : mime.contentType(posix.extname(path)));
        this.#outputs.set(served, contentType === false ? output : { ...output, contentType });
      });
    }
    await this.#lane.done();
  }

  // ── functions/ ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Several at once: each mostly waits for the disk, and what waits together is written together. */
  async #readBundles(bundles: readonly { readonly path: string; readonly at: string }[], middleware: ReadonlySet<string>): Promise<void> {
    // Logs and figures call a Function by its page, not by that page's data with the build's id: the shortest of its paths.
    const names = new Map<string, string>();
    for (const { path, at } of bundles) {
      const name = names.get(at);
      if (name === undefined || path.length < name.length) names.set(at, path);
    }
    const remaining = bundles.values();
    const work = async (): Promise<void> => {
      for (const { path, at } of remaining) {
        let draft = this.#drafts.get(at);
        if (draft === undefined) this.#drafts.set(at, (draft = this.#readFunction(at, names.get(at)!, middleware.has(path))));
        await draft;
      }
    };
    await Promise.all(Array.from({ length: functionsAtOnce }, work));
  }

  async #readFunctions(middleware: ReadonlySet<string>): Promise<void> {
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
    await this.#readBundles(bundles, middleware);
    const specs = await this.#storeFunctions();
    for (const { path, at } of bundles) {
      const isMiddleware = middleware.has(path);
      const spec = specs.get(at)!;
      const { id } = spec;
      if (!this.#functions.has(id)) this.#functions.set(id, spec);
      const prerender = prerenders.get(path);
      if (isMiddleware) this.#outputs.set(path, { kind: "middleware", functionId: id });
      else
        this.#outputs.set(
          path,
          prerender === undefined ? { kind: "function", functionId: id } : await this.#prerender(prerender, path, id),
        );
    }
    for (const path of middleware) {
      if (this.#outputs.get(path)?.kind !== "middleware" && !this.#reused.has(path))
        throw invalid(`config.json: a route names the middleware "${path}", which the build does not have.`);
    }
    for (const [path, output] of this.#outputs) {
      const completing = output.kind === "prerender" ? output.prerender.chain?.outputPath : undefined;
      const kind = completing === undefined ? "function" : this.#outputs.get(completing)?.kind;
      if (kind !== "function" && kind !== "prerender")
        throw invalid(
          `functions/${path}.prerender-config.json: "chain.outputPath" names "${completing}", which is no Function of this build.`,
        );
    }
    // Without a Function the fallback is all that there will ever be.
    for (const [path, at] of prerenders) {
      if (this.#outputs.has(path)) continue;
      const { config, fallback } = await this.#readPrerender(at, this.#checkPath(path));
      if (fallback === null) continue;
      this.#outputs.set(path, staticOutput(fallback, config.initialHeaders));
    }
  }

  async #prerender(at: string, path: string, functionId: string): Promise<Output> {
    const { config, fallback } = await this.#readPrerender(at, path);
    const { fallbackPath: _, ...prerender } = config;
    // A page for what went wrong should not depend on a Function.
    const { expirationS, initialStatus, initialHeaders } = prerender;
    if (!isPartial(prerender) && expirationS === false && initialStatus >= 400 && fallback !== null && errorPage.test(path))
      return staticOutput(fallback, initialHeaders);
    return { kind: "prerender", functionId, prerender: { ...prerender, fallback } };
  }

  async #readPrerender(configAt: string, path: string): Promise<{ readonly config: PrerenderConfig; readonly fallback: FileRef | null }> {
    const label = `functions/${path}.prerender-config.json`;
    const config = checkPrerenderConfig(await this.#readJson(configAt, functionConfigBytesMax, label), label);
    const { fallbackPath } = config;
    if (fallbackPath === null) return { config, fallback: null };
    const at = linkTarget(configAt, fallbackPath);
    const file = at === null ? null : await this.#files.resolve(at);
    if (file?.entry.kind !== "file" || !file.at.startsWith(`${this.#root}/`))
      throw invalid(`${label}: the fallback "${fallbackPath.slice(0, 200)}" is no file of this build.`);
    this.#count(file.entry.size);
    return { config, fallback: await this.#files.store(file.at) };
  }

  /** Only now: what several bundles have is kept once. */
  async #storeFunctions(): Promise<ReadonlyMap<string, FunctionSpec>> {
    const drafts: (readonly [at: string, draft: Draft])[] = [];
    for (const [at, draft] of this.#drafts) drafts.push([at, await draft]);
    const { bundles, trees } = shareDirectories(
      drafts.map(([, { files }]) => files),
      this.#links,
    );
    const specs = new Map<string, FunctionSpec>();
    for (const text of trees.values()) this.#lane.run(async () => void (await this.#blobs.put(text)));
    for (const [index, [at, { name, settings, files }]] of drafts.entries()) {
      this.#lane.run(async () => {
        const { digest: bundleDigest } = await this.#blobs.put(JSON.stringify(bundles[index]));
        const bundleSize = Object.values(files).reduce((sum, file) => sum + file.size, 0);
        const id = createHash("sha256")
          .update(JSON.stringify([bundleDigest, settings]))
          .digest("hex");
        specs.set(at, { id, name, bundleDigest, bundleSize, ...settings });
      });
    }
    await this.#lane.done();
    return specs;
  }

  async #readFunction(at: string, name: string, middleware: boolean): Promise<Draft> {
    const label = `functions/${name}.func/.vc-config.json`;
    const found = await this.#files.entry(`${at}/.vc-config.json`);
    if (found?.entry.kind !== "file") throw invalid(`There is no ${label}.`);
    const config = await this.#readJson(found.at, functionConfigBytesMax, label);
    const settings = checkFunctionConfig(config, {
      name,
      middleware,
      config: this.#config,
      checkPath: (path) => this.#checkPath(path),
      warn: (text) => this.#warnings.push(text),
    });
    const bundle = await this.#readBundle(at, name, config["filePathMap"], label);
    if (settings.awsHandler === "" && !bundle.has(settings.handler))
      throw invalid(`${label}: the handler "${settings.handler}" is not among the Function's files.`);
    return { name, settings, files: Object.fromEntries([...bundle].sort(([a], [b]) => (a < b ? -1 : 1))) };
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
    const stored: Promise<void>[] = [];
    for (const [path, { at, entry }] of wanted) {
      if (entry.kind === "link") {
        const target = bundleLink(path, at, entry.target);
        if (target === null) this.#warnings.push(`The Function "${name}": the link "${path}" leads out of the bundle; it is left out.`);
        else {
          const link = await this.#files.storeLink(target);
          this.#links.set(link.digest, target);
          bundle.set(path, link);
        }
        continue;
      }
      stored.push(this.#lane.take(() => this.#files.store(at)).then((file) => void bundle.set(path, file)));
    }
    await Promise.all(stored);
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

function staticOutput(file: FileRef, headers: Readonly<Record<string, string>>): StaticOutput {
  const contentType = headers["content-type"];
  return { kind: "static", file, ...(contentType === undefined ? {} : { contentType }) };
}

/** A Function whose bundle is not stored yet. */
interface Draft {
  readonly name: string;
  readonly settings: ReturnType<typeof checkFunctionConfig>;
  readonly files: FileTree;
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

  /** The same for work whose result is asked for; its failure is the caller's, and stops no other. */
  take<Result>(work: () => Promise<Result>): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    this.run(() => work().then(resolve, reject));
    return promise;
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

function megabytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(2)} MB`;
}

function invalid(message: string): MayflyError {
  return new MayflyError("BUILD_OUTPUT_INVALID", message);
}
