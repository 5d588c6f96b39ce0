/**
 * Runs any Vercel builder's `build()` and writes what it returns (Lambdas, prerenders, static files) as Build Output API.
 * Hides the shapes of `@vercel/build-utils`. The project's dependencies are installed already, so it is told to skip that.
 */
import { link, mkdir, writeFile, copyFile, readFile } from "node:fs/promises";
import { basename, dirname, extname, join, posix, relative, sep } from "node:path";
import type { EdgeFunction, FileBlob, FileFsRef, Lambda, Prerender } from "@vercel/build-utils";
import { MayflyError, messageOf } from "../errors.ts";
import type { Route } from "../model.ts";
import type { BuildStep, SiteSettings } from "./builder.ts";
import { keepBuilderCache, restoreBuilderCache } from "./builder-cache.ts";
import { loadBuilder } from "./builder-package.ts";
import { eventBridge } from "./event-bridge.ts";
import { linkFunction, writeFunction } from "./function-directory.ts";
import type { MadeFile } from "./function-directory.ts";
import { ModulePacker } from "./module-pack.ts";
import { linkTree } from "./script.ts";
import type { BuildContext, StepResult } from "./step.ts";

/** Next.js loads a page's module at its first request; `next build` itself has loaded it to look at its exports. */
const nextPage = /(?:^|\/)server\/(?:pages|app)\/.+\.js$/;

/** Of the build environment, over the project's setting `nextFunctions` (docs/decisions/014-next-functions.md). */
const groupingVariable = "MAYFLY_NEXT_FUNCTIONS";
const nextReserveBytes = 25 * 1024 * 1024;
/** What it adds to the pages and their traced files. */
const launcherBytesMax = 2 * 1024 * 1024;

type OutputFile = (FileFsRef | FileBlob) & { readonly contentType?: string };
/** Told apart by `type`; a builder may bring its own copy of the classes. */
interface AnyOutput {
  readonly type: string;
}

interface AnyBuilder {
  readonly version: number;
  build(options: Readonly<Record<string, unknown>>): Promise<AnyResult>;
  /** Which files its next build is to find. */
  prepareCache?(options: Readonly<Record<string, unknown>>): Promise<unknown>;
}
interface AnyResult {
  readonly output?: Readonly<Record<string, AnyOutput>> | AnyOutput;
  readonly routes?: readonly Route[];
  readonly images?: SiteSettings["images"];
  readonly wildcard?: SiteSettings["wildcard"];
  readonly crons?: SiteSettings["crons"];
  readonly buildOutputPath?: string;
}

/**
 * @throws MayflyError BUILD_FAILED when the builder fails, BUILD_OUTPUT_UNSUPPORTED for what cannot run here
 */
export async function buildVercel(step: BuildStep, context: BuildContext): Promise<StepResult> {
  const builder = asBuilder(await loadBuilder(step, context), step.use);
  const { glob } = await import("@vercel/build-utils");
  const { work, repository, job } = context;
  const { settings } = job;
  // What ours and Vercel's own keep is in the build cache as it lies.
  const isFetched = step.useVersion !== "";
  if (isFetched) await restoreBuilderCache(step, context);
  const files = await glob("**", { cwd: work, ignore: ["**/node_modules/**", "**/.git/**", "**/.next/**", "**/.vercel/**"] });
  // How much `@vercel/next` puts into one Function: it keeps its reserve free below this.
  const groupBytesMax = nextGroupBytesMax(process.env[groupingVariable] ?? settings.nextFunctions ?? "shared", job.bundleBytesMax);
  process.env["MAX_UNCOMPRESSED_LAMBDA_SIZE"] = String(nextReserveBytes + groupBytesMax);
  const options = {
    files,
    entrypoint: step.entrypoint,
    workPath: work,
    repoRootPath: repository,
    config: {
      outputDirectory: settings.outputDirectory ?? undefined,
      ...step.config,
      projectSettings: settings,
      installCommand: "",
      buildCommand: settings.buildCommand ?? undefined,
      framework: settings.framework,
      nodeVersion: settings.nodeVersion ?? undefined,
    },
    meta: { skipDownload: true, cliVersion: "0.0.0" },
  };
  let result: AnyResult;
  try {
    result = await builder.build(options);
  } catch (error) {
    throw new MayflyError("BUILD_FAILED", `${step.use}: ${messageOf(error)}`, { cause: error });
  }
  if (isFetched && builder.prepareCache !== undefined)
    await keepBuilderCache(step, context, () => builder.prepareCache!({ ...options, cachePath: work }));
  const routes = result.routes ?? [];
  if (result.buildOutputPath !== undefined) {
    if (result.buildOutputPath !== context.output) await linkTree(result.buildOutputPath, context.output, "");
    return { routes, overrides: {}, complete: true };
  }
  const overrides: Record<string, { path?: string; contentType?: string }> = {};
  const written = new Map<Lambda | EdgeFunction, string>();
  const outputs = outputsOf(result, step);
  const packer = new ModulePacker(context, lambdasOf(outputs).size);
  /** They wait for one another, to share what they have in common. */
  const lambdas: Promise<void>[] = [];
  for (const [path, output] of outputs) await writeOutput(path, output);
  await Promise.all(lambdas);
  return { routes, overrides, site: siteOf(result) };

  async function writeOutput(path: string, output: AnyOutput): Promise<void> {
    if (output.type === "Lambda") beginLambda(path, output as Lambda);
    else if (output.type === "EdgeFunction") await writeEdge(path, output as EdgeFunction);
    else if (output.type === "Prerender") await writePrerender(path, output as Prerender);
    else if (isFile(output)) Object.assign(overrides, await writeStatic(context, path, output));
    else
      throw new MayflyError(
        "BUILD_OUTPUT_UNSUPPORTED",
        `"${path}" is of the kind "${output.type}"; there are Functions, Edge Functions, prerenders and files.`,
      );
  }

  function beginLambda(path: string, lambda: Lambda): void {
    const writing = writeLambda(path, lambda);
    writing.catch(() => {});
    lambdas.push(writing);
  }

  async function writeLambda(path: string, lambda: Lambda): Promise<void> {
    const existing = written.get(lambda);
    if (existing !== undefined) return linkFunction(context, path, existing);
    written.set(lambda, path);
    const { files: lambdaFiles, zipBuffer, ...config } = lambda;
    if (lambdaFiles === undefined || zipBuffer !== undefined) {
      throw new MayflyError("BUILD_OUTPUT_UNSUPPORTED", `"${path}": a Function as a zip file is not supported.`);
    }
    const bundle = new Map<string, string | MadeFile>();
    for (const [name, file] of Object.entries(lambdaFiles)) bundle.set(name, await bundleFile(file as OutputFile, repository));
    const { awsLambdaHandler = "" } = config as { readonly awsLambdaHandler?: string };
    const bridge = awsLambdaHandler === "" ? eventBridge(config.handler, (name) => bundle.has(name)) : null;
    if (bridge !== null) {
      bundle.set(bridge.path, { data: bridge.text, executable: false });
      config.handler = bridge.path;
    }
    const onDemand = step.use === "@vercel/next" ? [...bundle.keys()].filter((name) => nextPage.test(name)) : [];
    const packed = await packer.addPacks(bundle, {
      runtime: config.runtime,
      handler: config.handler,
      awsHandler: awsLambdaHandler,
      onDemand,
    });
    await writeFunction(context, path, packed, config);
  }

  async function writeEdge(path: string, edge: EdgeFunction): Promise<void> {
    const existing = written.get(edge);
    if (existing !== undefined) return linkFunction(context, path, existing);
    written.set(edge, path);
    const { type: _, files, ...config } = edge;
    const bundle = new Map<string, string | MadeFile>();
    for (const [name, file] of Object.entries(files)) bundle.set(name, await bundleFile(file as OutputFile, repository));
    return writeFunction(context, path, bundle, { ...config, runtime: "edge" });
  }

  async function writePrerender(path: string, prerender: Prerender): Promise<void> {
    if (prerender.lambda !== undefined) beginLambda(path, prerender.lambda);
    const { lambda: _, fallback, ...config } = prerender;
    const base = join(context.output, "functions", posix.join("/", path));
    let fallbackReference: unknown = null;
    if (fallback !== null && isFile(fallback)) {
      const target = `${base}.prerender-fallback${extensionOf(fallback)}`;
      await writeFileTo(target, fallback);
      fallbackReference = { type: "FileFsRef", mode: fallback.mode, fsPath: basename(target) };
    }
    await mkdir(dirname(base), { recursive: true });
    await writeFile(`${base}.prerender-config.json`, JSON.stringify({ ...config, fallback: fallbackReference }));
  }
}

/**
 * Until so many bytes are reached pages of a Next.js project are put into one Function.
 * @throws MayflyError BUILD_FAILED
 */
export function nextGroupBytesMax(grouping: string, bundleBytesMax: number): number {
  if (grouping === "shared") return bundleBytesMax - launcherBytesMax;
  if (grouping === "separate") return 1;
  throw new MayflyError("BUILD_FAILED", `${groupingVariable} is "${grouping.slice(0, 100)}"; it may be "shared" or "separate".`);
}

/** CommonJS, or an ECMAScript module, with the builder as its default or itself. */
function asBuilder(module: unknown, name: string): AnyBuilder {
  const exported = module as { readonly default?: Partial<AnyBuilder>; readonly build?: unknown };
  const builder = typeof exported.build === "function" ? exported : exported.default;
  if (typeof builder?.build !== "function")
    throw new MayflyError("BUILDER_NOT_FOUND", `The package "${name}" is no builder: it exports no build().`);
  return builder as AnyBuilder;
}

function siteOf({ images, wildcard, crons }: AnyResult): SiteSettings {
  return {
    ...(images === undefined ? {} : { images }),
    ...(wildcard === undefined ? {} : { wildcard }),
    ...(crons === undefined ? {} : { crons }),
  };
}

/** Version 3 builders return one Lambda for their entrypoint, the others a record. */
function outputsOf(result: AnyResult, step: BuildStep): [string, AnyOutput][] {
  const { output } = result;
  if (output === undefined) return [];
  if (typeof (output as AnyOutput).type === "string") {
    const path = step.config["zeroConfig"] === true ? step.entrypoint.slice(0, -extname(step.entrypoint).length) : step.entrypoint;
    return [[path, output as AnyOutput]];
  }
  return Object.entries(output as Readonly<Record<string, AnyOutput>>).map(([path, one]) => [
    path.replaceAll(/\/{2,}/g, "/").replace(/^\//, ""),
    one,
  ]);
}

function lambdasOf(outputs: readonly (readonly [string, AnyOutput])[]): ReadonlySet<unknown> {
  const functions = outputs.flatMap(([, output]) => (output.type === "Prerender" ? ((output as Prerender).lambda ?? []) : output));
  return new Set(functions.filter(({ type }) => type === "Lambda"));
}

function isFile(output: AnyOutput): output is OutputFile {
  return output.type === "FileFsRef" || output.type === "FileBlob";
}

/** A file of the project by its place, any other (the builder's own) by its bytes. */
async function bundleFile(file: OutputFile, repository: string): Promise<string | MadeFile> {
  const executable = (file.mode & 0o111) !== 0;
  if (file.type === "FileBlob") return { data: file.data, executable };
  const place = relative(repository, file.fsPath);
  if (place !== "" && !place.startsWith(`..${sep}`) && !place.startsWith(sep)) return file.fsPath;
  return { data: await readFile(file.fsPath), executable };
}

const extensions: Readonly<Record<string, string>> = {
  "text/html": ".html",
  "text/plain": ".txt",
  "text/css": ".css",
  "application/json": ".json",
  "application/javascript": ".js",
  "text/javascript": ".js",
  "text/xml": ".xml",
  "application/xml": ".xml",
};

/** The extension that a file's content type asks for, else its own, else none. */
function extensionOf(file: OutputFile): string {
  const type = file.contentType?.split(";")[0]?.trim();
  const byType = type === undefined ? undefined : extensions[type];
  return byType ?? (file.type === "FileFsRef" ? extname(file.fsPath) : "");
}

/** @returns the override of the file when its place in `static/` does not tell how to serve it */
async function writeStatic(context: BuildContext, path: string, file: OutputFile): Promise<StepResult["overrides"]> {
  const { contentType } = file;
  const extension = contentType === undefined ? "" : extensionOf(file);
  const place = extension === "" || extname(path) === extension ? path : path + extension;
  await writeFileTo(join(context.output, "static", posix.join("/", place)), file);
  const served = context.job.cleanUrls && place.endsWith(".html") ? place.slice(0, -".html".length) : path;
  if (place === served && contentType === undefined) return {};
  return { [place]: { ...(place === served ? {} : { path: served }), ...(contentType === undefined ? {} : { contentType }) } };
}

async function writeFileTo(target: string, file: OutputFile): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  if (file.type === "FileBlob") await writeFile(target, file.data);
  else await link(file.fsPath, target).catch(() => copyFile(file.fsPath, target));
}
