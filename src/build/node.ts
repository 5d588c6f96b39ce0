/**
 * Our builder: one JavaScript or TypeScript file → one Function, on Node.js or the Edge runtime. What the file reaches is
 * traced (trace.ts), what needs it is transpiled, and the rest is named where it lies. A file that reaches nothing costs
 * no trace at all. Everything that the result depends on is noted, so that an equal build need not be made again.
 */
import { glob, lstat, readFile } from "node:fs/promises";
import { dirname, join, posix, relative, resolve, sep } from "node:path";
import { MayflyError } from "../errors.ts";
import type { BuildStep } from "./builder.ts";
import { bundleEdge } from "./edge.ts";
import { writeFunction } from "./function-directory.ts";
import type { MadeFile } from "./function-directory.ts";
import { ModulePacker } from "./module-pack.ts";
import { chooseNodeMajor, type NodeMajor } from "./node-version.ts";
import { Probes, SourceFiles } from "./source-files.ts";
import { readStaticConfig } from "./static-config.ts";
import type { BuildContext, StepResult } from "./step.ts";
import { TraceMemory } from "./trace-memory.ts";
import { Tracer } from "./trace.ts";
import { Transpiler, typed } from "./transpile.ts";

/** Words without which a file reaches no other. A word in a comment only costs a trace. */
const reaches =
  /\b(?:require|import|from|__dirname|__filename|cwd|readFile\w*|createReadStream|readdir\w*|opendir\w*|createRequire|getBuiltinModule|dlopen|Worker|fork|spawn\w*|exec\w*)\b/;

type AddPacks = ModulePacker["addPacks"];

export class NodeBuilder {
  readonly #context: BuildContext;
  readonly #nodeMajor: Promise<NodeMajor>;
  readonly #transpiler: Transpiler;
  readonly #packer: ModulePacker;
  readonly #sources: SourceFiles;
  readonly #memory: TraceMemory | null;
  readonly #tracer: Tracer;

  /** @param count how often {@link build} will be called: what several Functions reach is packed when all of them are known */
  constructor(context: BuildContext, count: number) {
    this.#context = context;
    this.#nodeMajor = chooseNodeMajor(context.work, context.repository, context.job.settings.nodeVersion);
    this.#nodeMajor.catch(() => {});
    this.#sources = new SourceFiles(context.repository, context.job.runsCommands);
    this.#transpiler = new Transpiler(this.#sources, this.#nodeMajor);
    const { installs, runsCommands } = context.job;
    // Commands of the project may have changed what is installed.
    const remembers = installs.length > 0 && !runsCommands;
    const isSameInstall = installs.every(({ done }) => done === true);
    this.#memory = remembers ? new TraceMemory(context.repository, context.work, isSameInstall) : null;
    this.#tracer = new Tracer(this.#sources, this.#transpiler, context.work, this.#memory);
    this.#packer = new ModulePacker(context, count);
  }

  /** @throws MayflyError BUILD_OUTPUT_UNSUPPORTED for a runtime that there is not, BUILD_FAILED for a version of Node.js or for code that cannot be bundled */
  async build(step: BuildStep): Promise<StepResult> {
    let asked = false;
    const addPacks: AddPacks = (files, entry) => {
      asked = true;
      return this.#packer.addPacks(files, entry);
    };
    try {
      return await this.#build(step, addPacks);
    } finally {
      if (!asked) this.#packer.leave();
    }
  }

  /** When all of them are built: leaves to the next build what it may use. */
  leave(): void {
    this.#memory?.keep();
  }

  async #build(step: BuildStep, addPacks: AddPacks): Promise<StepResult> {
    const { work } = this.#context;
    const probes = new Probes(this.#sources);
    const entrypoint = join(work, await this.#chooseEntrypoint(step, probes));
    const source = await readFile(entrypoint, "utf8");
    const config = readStaticConfig(source);
    const isMiddleware = step.config["middleware"] === true;
    const runtime = config.runtime ?? (isMiddleware ? "edge" : "nodejs");
    const { memory, maxDuration, regions } = step.functionSettings;
    const limits = defined({
      memory: memory ?? config.memory,
      maxDuration: maxDuration ?? config.maxDuration,
      regions: regions ?? config.regions,
    });
    if (runtime === "edge" || runtime === "experimental-edge") await this.#writeEdge(step, entrypoint, limits, probes);
    else if (runtime.startsWith("nodejs")) await this.#writeNode(step, entrypoint, source, limits, probes, addPacks);
    else {
      throw new MayflyError(
        "BUILD_OUTPUT_UNSUPPORTED",
        `"${step.entrypoint}" asks for the runtime "${runtime}"; there are "nodejs" and "edge".`,
      );
    }
    this.#noteNodeVersion(probes);
    return { routes: step.routes, overrides: {}, trace: probes.toTrace() };
  }

  async #writeEdge(step: BuildStep, entrypoint: string, limits: Readonly<Record<string, unknown>>, probes: Probes): Promise<void> {
    const bundle = await bundleEdge(entrypoint, { sources: this.#sources, transpiler: this.#transpiler, probes });
    await writeFunction(this.#context, step.output, bundle.files, {
      runtime: "edge",
      deploymentTarget: "v8-worker",
      entrypoint: bundle.entrypoint,
      ...limits,
    });
  }

  async #writeNode(
    step: BuildStep,
    entrypoint: string,
    source: string,
    limits: Readonly<Record<string, unknown>>,
    probes: Probes,
    addPacks: AddPacks,
  ): Promise<void> {
    const isMiddleware = step.config["middleware"] === true;
    const runtime = `nodejs${await this.#nodeMajor}.x`;
    const transpiled = await this.#transpiler.transpile(entrypoint);
    const handler = this.#bundlePath(transpiled?.path ?? entrypoint);
    const awsHandler = typeof step.config["awsLambdaHandler"] === "string" ? step.config["awsLambdaHandler"] : "";
    const group = (step.functionSettings.excludeFiles ?? []).join("\n");
    const files = await addPacks(await this.#files(entrypoint, source, step, probes), { runtime, handler, awsHandler, group });
    await writeFunction(this.#context, step.output, files, {
      handler,
      runtime,
      launcherType: "Nodejs",
      shouldAddHelpers: step.config["helpers"] !== false && !isMiddleware,
      shouldAddSourcemapSupport: false,
      awsLambdaHandler: awsHandler,
      supportsResponseStreaming: true,
      environment: {},
      ...(isMiddleware ? { useWebApi: true } : {}),
      ...limits,
    });
  }

  /** A server that the project's own build has compiled runs as compiled: `src/main.ts` → `dist/main.js`. */
  async #chooseEntrypoint(step: BuildStep, probes: Probes): Promise<string> {
    const compiled = step.entrypoint.replace(/^src\//, "dist/").replace(/\.([cm]?)ts$/, ".$1js");
    if (!step.server || !typed.test(step.entrypoint)) return step.entrypoint;
    const path = join(this.#context.work, compiled);
    const entry = await lstat(path).catch(() => undefined);
    if (entry?.isFile() === true) return compiled;
    probes.absent(path);
    return step.entrypoint;
  }

  async #files(entrypoint: string, source: string, step: BuildStep, probes: Probes): Promise<ReadonlyMap<string, string | MadeFile>> {
    const { repository } = this.#context;
    const traced = new Set<string>([entrypoint]);
    // JSX imports its runtime without saying so.
    if (entrypoint.endsWith("x") || reaches.test(source)) {
      const exclude = step.functionSettings.excludeFiles;
      const base = relative(repository, this.#context.work);
      const excluded = exclude?.map((glob) => posix.join(base, glob)) ?? null;
      for (const path of await this.#tracer.trace(entrypoint, excluded, probes)) traced.add(path);
    }
    const included = await this.#included(step, probes);
    const files = new Map<string, string | MadeFile>();
    for (const path of traced) {
      probes.input(path);
      await this.#transpiler.noteSettings(path, probes);
      const transpiled = await this.#transpiler.transpile(path).catch(() => null);
      if (transpiled?.hasAliases === true) probes.anyName();
      if (transpiled === null) files.set(this.#bundlePath(path), path);
      else files.set(this.#bundlePath(transpiled.path), { data: transpiled.code, executable: false });
      // Its `type` decides how Node reads the file, in the bundle as in the project.
      const scope = path.includes("/node_modules/") ? null : await this.#transpiler.scope(path);
      if (scope !== null) files.set(this.#bundlePath(scope), scope);
    }
    for (const path of included) {
      probes.input(path);
      const name = relative(repository, path).replaceAll(sep, "/");
      if (!files.has(name)) files.set(name, path);
    }
    return files;
  }

  async #included(step: BuildStep, probes: Probes): Promise<readonly string[]> {
    const { includeFiles, excludeFiles } = step.functionSettings;
    if (includeFiles === undefined) return [];
    probes.anyName();
    const { repository, work } = this.#context;
    const paths: string[] = [];
    for await (const name of glob([...includeFiles], { cwd: work })) {
      const path = resolve(work, name);
      if (!path.startsWith(`${repository}/`) || excludeFiles?.some((pattern) => posix.matchesGlob(name, pattern)) === true) continue;
      if ((await lstat(path)).isDirectory()) continue;
      paths.push(path);
    }
    return paths;
  }

  /** What chooseNodeMajor looked at. */
  #noteNodeVersion(probes: Probes): void {
    const { repository, work } = this.#context;
    for (let directory = work; ; directory = dirname(directory)) {
      const path = join(directory, "package.json");
      if (this.#sources.stat(path) === null) probes.absent(path);
      else probes.input(path);
      if (directory === repository || directory === dirname(directory)) return;
    }
  }

  #bundlePath(path: string): string {
    return relative(this.#context.repository, path).replaceAll(sep, "/");
  }
}

function defined(record: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}
