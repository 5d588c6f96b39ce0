/**
 * What there is to build, decided outside the sandbox from the uploaded tree alone: framework, routes, static files taken
 * as they are (by digest, no process and no copying), installs and build steps. Runs nothing of the project.
 * Invariant: equal trees and settings give equal plans.
 */
import { createHash } from "node:crypto";
import { extname, posix } from "node:path";
import type { DetectorFilesystem } from "@vercel/fs-detectors";
import { MayflyError, messageOf } from "../errors.ts";
import type { FileRef, ProjectSettings, Route, SourceTree, StaticOutput, Target } from "../model.ts";
import type { BuildStep, FunctionSettings, PlannedJob, SiteSettings } from "./builder.ts";
import { outputDirectory as outputRoot } from "./builder.ts";
import { configurationNames, readConfiguration } from "./configuration.ts";
import { exampleFiles, exampleJob } from "./example.ts";
import { planInstalls } from "./install-plan.ts";
import { openProject } from "./project.ts";
import { mergeStepRoutes, middlewareRoute, serverRoutes } from "./routes.ts";
import { buildScripts } from "./script.ts";
import type { Project } from "./project.ts";
import { isObject, isString, isStrings } from "./shape.ts";
import { findServer, isPlainServer } from "./server-entry.ts";
import { noVercelJson } from "./vercel-json.ts";
import type { BuildEntry, FunctionEntry, VercelJson } from "./vercel-json.ts";

export interface PlanRequest {
  readonly tree: SourceTree;
  /** Bytes of a file of the tree. */
  readonly readFile: (path: string) => Promise<Buffer>;
  readonly settings: ProjectSettings;
  readonly prebuilt: boolean;
  readonly target: Target;
  /** What the program said by which the project is configured, when it is (configuration-program.ts). */
  readonly configuration?: unknown;
}

export interface Plan {
  /** Slug of the framework: `nextjs`; null when there is none. */
  readonly framework: string | null;
  /** Where the project is in the tree: "" or `apps/web`. */
  readonly rootDirectory: string;
  /** Asks, for what comes from a Git host, whether to build at all; null: it is built. */
  readonly ignoreCommand: string | null;
  /** The tree has the finished `.vercel/output`; neither `outputs` nor `routes` nor `job` say anything. */
  readonly prebuilt: boolean;
  /** Output path → file of the source. */
  readonly outputs: Readonly<Record<string, StaticOutput>>;
  /** What the sandbox has to do, null: nothing. */
  readonly job: PlannedJob | null;
  /** Final, unless a step adds its own: one that is neither static nor a plain Function. */
  readonly routes: readonly Route[];
  readonly caseSensitive: boolean;
  /** What vercel.json says of the site; a job's output has it already. */
  readonly site: SiteSettings;
  /** What the configuration says of the environment of Functions and of the build; it is no secret. */
  readonly env: Readonly<Record<string, string>>;
  readonly buildEnv: Readonly<Record<string, string>>;
  /** Where Functions run that do not say it themselves; empty: anywhere. */
  readonly regions: readonly string[];
  /** For the build's log. */
  readonly warnings: readonly string[];
}

/** Builders for servers: ours takes their place. */
const serverBuilders = ["express", "hono", "h3", "koa", "nestjs", "elysia", "fastify", "backends"].map((name) => `@vercel/${name}`);
/** Vercel builders that are dependencies of Mayfly. */
const ownBuilders = ["@vercel/next"];
/** Vercel builders that frameworks need and a build fetches: the versions that were tried. */
const fetchedBuilders: Readonly<Record<string, string>> = {
  "@vercel/remix-builder": "24.0.0",
  "@vercel/redwood": "21.0.0",
  "@vercel/hydrogen": "20.0.0",
};
/** Their Functions run on what there is not here. */
const foreignBuilders = /^@vercel\/(?:go|python|ruby|rust|php|container|deno|bun)$/;
const packageName = /^(?:@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*$/;
const packageVersion = /^[\w.^~+-]{1,100}$/;

/**
 * @throws MayflyError INVALID_VERCEL_JSON, BUILDER_NOT_FOUND, BUILD_OUTPUT_UNSUPPORTED, or BUILD_FAILED with what is wrong in the project
 */
export async function planBuild(request: PlanRequest): Promise<Plan> {
  const project = openProject(request.tree, request.readFile, request.prebuilt ? null : request.settings.rootDirectory);
  const { rootDirectory } = project;
  const vercelJson = request.prebuilt ? noVercelJson : await readConfiguration(project, request.configuration);
  const ignoreCommand = { ...request.settings, ...vercelJson.settings }.commandForIgnoringBuildStep ?? null;
  const { caseSensitive, site, env, buildEnv, regions } = vercelJson;
  const base = { rootDirectory, caseSensitive, site, env, buildEnv, regions, ignoreCommand };
  if (request.prebuilt) {
    if (!project.has(`${outputRoot}/config.json`)) {
      throw new MayflyError("BUILD_OUTPUT_INVALID", `There is no ${outputRoot}/config.json: run the build before a prebuilt deployment.`);
    }
    return { ...base, framework: null, prebuilt: true, outputs: {}, job: null, routes: [], warnings: [] };
  }
  const packageJson = await readPackageJson(project);
  const chosen = await chooseSettings(request.settings, vercelJson, project, packageJson);
  const { settings, framework } = chosen;
  const detected =
    vercelJson.builds.length > 0
      ? { builders: expandBuilds(vercelJson.builds, project.files), routes: [], warnings: [] }
      : await detect({ project, packageJson, settings, framework, vercelJson });
  const warnings = [...vercelJson.warnings, ...chosen.warnings, ...detected.warnings];
  if (await usesPlugAndPlay(project)) warnings.push(noPlugAndPlay);
  const outputs: (readonly [string, StaticOutput])[] = [];
  const steps: BuildStep[] = [];
  const hasFunctions = detected.builders.some(
    ({ use, src }) => use === "@vercel/node" || (use !== "@vercel/static" && src.startsWith("api/")),
  );
  for (const builder of detected.builders) {
    if (builder.use === "@vercel/static") {
      const options = { hasFunctions, cleanUrls: vercelJson.cleanUrls === true };
      for (const output of await takeStatic(builder, project, options, warnings)) outputs.push(output);
    } else {
      steps.push(await toStep(builder, project, packageJson, vercelJson.functions));
    }
  }
  const user = vercelJson.routes;
  const routes = await mergeStepRoutes(
    { user, detected: detected.routes },
    steps.map((step) => ({ step, routes: step.routes })),
  );
  const job =
    steps.length === 0
      ? null
      : {
          rootDirectory,
          settings,
          installs: await planInstalls({ project, settings, steps }),
          steps,
          runsCommands: steps.some(({ builder, server }) => builder !== "node" || (server && hasBuildCommand(settings, packageJson))),
          routes: { user, detected: detected.routes },
          cleanUrls: vercelJson.cleanUrls === true,
          site: vercelJson.site,
          target: request.target,
        };
  return { ...base, framework, prebuilt: false, outputs: Object.fromEntries(outputs), job, routes, warnings };
}

/** Loads what detection needs, a quarter of a second's work, ahead of the first deployment. */
export async function warmPlanning(): Promise<void> {
  const names = Object.keys(exampleFiles);
  const tree = Object.fromEntries(names.map((name) => [name, { digest: name, size: exampleFiles[name]!.length, mode: 0o100644 }]));
  const readFile = async (path: string): Promise<Buffer> => Buffer.from(exampleFiles[path]!);
  await planBuild({ tree, readFile, settings: exampleJob.settings, prebuilt: false, target: exampleJob.target });
}

/** What script.ts would run. */
function hasBuildCommand(settings: ProjectSettings, packageJson: PackageJson | null): boolean {
  if (settings.buildCommand !== null) return settings.buildCommand.trim() !== "";
  const scripts = packageJson?.["scripts"];
  return typeof scripts === "object" && scripts !== null && buildScripts.some((name) => name in scripts);
}

// ── files that say what to do ─────────────────────────────────────────────────────────────────────────────────────────

type PackageJson = Readonly<Record<string, unknown>>;

async function readPackageJson(project: Project): Promise<PackageJson | null> {
  if (!project.has("package.json")) return null;
  try {
    const value: unknown = JSON.parse((await project.read("package.json")).toString("utf8").replace(/^\uFEFF/, ""));
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("it must hold an object");
    return value as PackageJson;
  } catch (error) {
    throw new MayflyError("BUILD_FAILED", `package.json is not valid: ${messageOf(error)}.`, { cause: error });
  }
}

// ── detection ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** vercel.json wins over the project's settings; a framework that neither names is detected. */
async function chooseSettings(
  settings: ProjectSettings,
  vercelJson: VercelJson,
  project: Project,
  packageJson: PackageJson | null,
): Promise<{ settings: ProjectSettings; framework: string | null; warnings: readonly string[] }> {
  const merged = { ...settings, ...vercelJson.settings };
  let { framework } = merged;
  const warnings: string[] = [];
  if (framework === null && vercelJson.settings.framework === undefined && vercelJson.builds.length === 0)
    framework = (await detectFramework(project)) ?? ((await isPlainServer(project, packageJson)) ? "node" : null);
  if (merged.buildCommand === null && vercelJson.builds.length === 0) {
    const monorepo = await detectMonorepo(project);
    if (monorepo !== null) {
      merged.buildCommand = monorepo.buildCommand;
      warnings.push(`The repository is built by ${monorepo.manager}: the build command is "${monorepo.buildCommand}".`);
    }
  }
  return { settings: { ...merged, framework }, framework, warnings };
}

/**
 * How Turborepo or Nx build a project with the packages of the repository that it needs; null: neither does. Vercel has
 * them installed; here the repository's package.json has to ask for it. Installs are planned as for any workspace.
 */
async function detectMonorepo(project: Project): Promise<{ readonly manager: string; readonly buildCommand: string } | null> {
  const has = (name: string): boolean => Object.hasOwn(project.tree, name);
  if (!has("package.json") || !["turbo.json", "turbo.jsonc", "nx.json"].some(has)) return null;
  const repository = openProject(project.tree, (path) => project.readFromTree(path), null);
  const packageJson = await readPackageJson(repository);
  const { getMonorepoDefaultSettings, DetectorFilesystem } = await import("@vercel/fs-detectors");
  const { rootDirectory } = project;
  const toRoot = posix.relative(rootDirectory, "");
  const fs = projectFilesystem(DetectorFilesystem, repository);
  // What its own configuration lacks is no fault of the project's: it is built as if it had none.
  const found = await getMonorepoDefaultSettings(posix.basename(rootDirectory), rootDirectory || "/", toRoot, fs).catch(() => null);
  if (!isString(found?.buildCommand)) return null;
  const asked = ["dependencies", "devDependencies"].some(
    (key) => isObject(packageJson?.[key]) && found.monorepoManager in packageJson[key],
  );
  return asked ? { manager: found.monorepoManager === "nx" ? "Nx" : "Turborepo", buildCommand: found.buildCommand } : null;
}

async function detectFramework(project: Project): Promise<string | null> {
  const [{ detectFrameworkRecord, DetectorFilesystem }, { frameworkList }] = await Promise.all([
    import("@vercel/fs-detectors"),
    import("@vercel/frameworks"),
  ]);
  const fs = projectFilesystem(DetectorFilesystem, project);
  const record = await detectFrameworkRecord({ fs, frameworkList, useExperimentalFrameworks: false });
  return record?.slug ?? null;
}

/** The tree as fs-detectors wants to see one. The class comes late, with its package: importing that takes long. */
function projectFilesystem(Base: typeof DetectorFilesystem, project: Project): DetectorFilesystem {
  type Entry = { name: string; path: string; type: "file" | "dir" };
  const directories = new Map<string, Map<string, Entry>>([["", new Map()]]);
  for (const path of project.files) {
    const parts = path.split("/");
    for (let depth = 0; depth < parts.length; depth++) {
      const parent = parts.slice(0, depth).join("/");
      const own = parts.slice(0, depth + 1).join("/");
      const isFile = depth === parts.length - 1;
      directories.get(parent)?.set(parts[depth]!, { name: parts[depth]!, path: own, type: isFile ? "file" : "dir" });
      if (!isFile && !directories.has(own)) directories.set(own, new Map());
    }
  }
  class ProjectFilesystem extends Base {
    readonly #directory: string;
    constructor(directory: string) {
      super();
      this.#directory = directory;
    }
    #at(name: string): string {
      const path = posix.join("/", this.#directory, name).slice(1);
      return path.replace(/\/$/, "");
    }
    protected async _hasPath(name: string): Promise<boolean> {
      return project.has(this.#at(name)) || directories.has(this.#at(name));
    }
    protected async _isFile(name: string): Promise<boolean> {
      return project.has(this.#at(name));
    }
    protected async _readFile(name: string): Promise<Buffer> {
      return project.read(this.#at(name));
    }
    protected async _readdir(name: string): Promise<Entry[]> {
      return [...(directories.get(this.#at(name))?.values() ?? [])];
    }
    protected _chdir(name: string): DetectorFilesystem {
      return new ProjectFilesystem(this.#at(name));
    }
  }
  return new ProjectFilesystem("");
}

interface DetectedBuilder {
  /** Name of a package. */
  readonly use: string;
  /** As it was asked for: `1.2.3`; empty when it was not. */
  readonly version: string;
  readonly src: string;
  readonly config: Readonly<Record<string, unknown>>;
}
interface Detected {
  readonly builders: readonly DetectedBuilder[];
  readonly routes: readonly Route[];
  readonly warnings: readonly string[];
}

/** Detection compares each file of `api/` with every other; a project that is deployed again mostly has the same files. */
const detections = new Map<string, string>();
const detectionsMax = 256;
const detectionCharsMax = 256 * 1024;

async function detect(facts: {
  project: Project;
  packageJson: PackageJson | null;
  settings: ProjectSettings;
  framework: string | null;
  vercelJson: VercelJson;
}): Promise<Detected> {
  const { project, packageJson, settings, framework, vercelJson } = facts;
  const files = filesThatDecide(project.files, settings.outputDirectory);
  const options = {
    functions: vercelJson.functions,
    ...(vercelJson.cleanUrls === undefined ? {} : { cleanUrls: vercelJson.cleanUrls }),
    ...(vercelJson.trailingSlash === undefined ? {} : { trailingSlash: vercelJson.trailingSlash }),
    // Detection takes an empty command to mean that all files are the site: not those of a server.
    projectSettings: {
      ...settings,
      framework,
      ...((await isServer(framework)) ? { buildCommand: settings.buildCommand || null } : {}),
    },
    ignoreBuildScript: true,
    featHandleMiss: true,
  };
  const key = createHash("sha256")
    .update(JSON.stringify([files, packageJson, options]))
    .digest("base64");
  const text = detections.get(key) ?? JSON.stringify(await detectAnew(files, packageJson, options));
  if (text.length <= detectionCharsMax) detections.set(key, text);
  if (detections.size > detectionsMax) detections.delete(detections.keys().next().value!);
  return JSON.parse(text) as Detected;
}

async function detectAnew(files: string[], packageJson: PackageJson | null, options: object): Promise<Detected> {
  const [{ detectBuilders }, { appendRoutesToPhase }] = await Promise.all([
    import("@vercel/fs-detectors"),
    import("@vercel/routing-utils"),
  ]);
  const result = await detectBuilders(files, packageJson as never, options as never);
  const [failure] = result.errors ?? [];
  if (failure !== undefined) {
    const code = /function/.test(failure.code) ? "INVALID_VERCEL_JSON" : "BUILD_FAILED";
    throw new MayflyError(code, failure.message);
  }
  // The order is that of `vercel build`: redirects, rewrites after the file system, errors, then the defaults (miss).
  let routes = appendRoutesToPhase({ routes: [], newRoutes: result.rewriteRoutes ?? [], phase: "filesystem" });
  routes = appendRoutesToPhase({
    routes: [...(result.redirectRoutes ?? []), ...routes],
    newRoutes: result.errorRoutes ?? [],
    phase: "error",
  });
  routes.push(...(result.defaultRoutes ?? []));
  const builders = (result.builders ?? [{ use: "@vercel/static", src: "**", config: { zeroConfig: true } }]).map((builder) => ({
    ...splitVersion(builder.use),
    src: builder.src ?? "package.json",
    config: (builder.config ?? {}) as Readonly<Record<string, unknown>>,
  }));
  return { builders, routes: routes as readonly Route[], warnings: result.warnings.map((warning) => warning.message) };
}

/** Some tens of seconds: 5,000 files in `api/`. */
const comparisonsMax = 25_500_000;

/** How many pairs of files detection will compare, for the project below `root` ("" or `apps/web/`). */
export function comparisonsOf(paths: readonly string[], root: string): number {
  let inApi = 0;
  let atTop = 0;
  for (const path of paths) {
    if (path.startsWith("api/", root.length) && path.startsWith(root)) inApi++;
    else if (path.startsWith(root) && !path.includes("/", root.length)) atTop++;
  }
  return inApi * (inApi + atTop);
}

async function isServer(framework: string | null): Promise<boolean> {
  const { frameworkList } = await import("@vercel/frameworks");
  return serverBuilders.includes(frameworkList.find(({ slug }) => slug === framework)?.useRuntime?.use ?? "");
}

/**
 * Detection compares every `api/` file with every file: with 10,000 static ones that is too long for a process that also
 * serves. These are the files that its answer can depend on.
 */
function filesThatDecide(files: readonly string[], outputDirectory: string | null): string[] {
  const kept: string[] = [];
  const seen = new Set<string>();
  const representatives = [`${outputDirectory || "public"}/`, "pages/api", "src/pages/api", ""];
  for (const path of files) {
    if (path.startsWith("api/") || !path.includes("/")) kept.push(path);
    else {
      const prefix = representatives.find((prefix) => path.startsWith(prefix))!;
      if (!seen.has(prefix)) kept.push(path);
      seen.add(prefix);
    }
  }
  const inApi = kept.filter((path) => path.startsWith("api/")).length;
  if (inApi * kept.length > comparisonsMax) {
    throw new MayflyError(
      "BUILD_FAILED",
      `There are ${inApi} files in api/ and ${kept.length - inApi} at the top of the source: too many to compare each with each. Put what is no Function elsewhere, and static files in a directory.`,
    );
  }
  return kept;
}

const noPlugAndPlay = "Yarn's Plug'n'Play is not used: packages are installed into node_modules, as nodeLinker: node-modules would.";

/** The default of Yarn from version 2 on; its lock file tells that version. */
async function usesPlugAndPlay({ tree, readFromTree }: Project): Promise<boolean> {
  if (Object.hasOwn(tree, ".pnp.cjs")) return true;
  const text = async (path: string): Promise<string> => (Object.hasOwn(tree, path) ? (await readFromTree(path)).toString("utf8") : "");
  return /^__metadata:/m.test(await text("yarn.lock")) && !/^nodeLinker:\s*["']?(?:node-modules|pnpm)\b/m.test(await text(".yarnrc.yml"));
}

/** Legacy `builds`: one builder for each file that `src` matches; the output keeps its extension. */
function expandBuilds(builds: readonly BuildEntry[], files: readonly string[]): readonly DetectedBuilder[] {
  return builds.flatMap((build) => {
    const { use, version } = splitVersion(build.use.replace(/^@now\//, "@vercel/"));
    if (use === "@vercel/static") return [{ use, version, src: build.src, config: build.config }];
    const sources = files.filter((path) => path === build.src || posix.matchesGlob(path, build.src));
    return sources.map((src) => ({ use, version, src, config: build.config }));
  });
}

// ── builders → static files and steps ─────────────────────────────────────────────────────────────────────────────────

/** Never published, as is what configures the project: they may hold secrets. */
const privateFile = /^(?:\.vercelignore|\.nowignore|\.gitignore|\.npmrc|\.yarnrc(?:\.yml)?|\.env.*)$/;
const packageFile =
  /^(?:package\.json|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|pnpm-workspace\.yaml|bun\.lockb?)$/;

function isPublished(path: string, hasFunctions: boolean): boolean {
  if (
    configurationNames.has(path) ||
    privateFile.test(path) ||
    packageFile.test(path) ||
    path.startsWith(".git/") ||
    path.startsWith(".vercel/")
  )
    return false;
  if (/(?:^|\/)node_modules\//.test(path)) return false;
  return !(hasFunctions && (path.startsWith("api/") || path === "README.md" || /^middleware\.[jt]s$/.test(path)));
}

async function takeStatic(
  builder: DetectedBuilder,
  project: Project,
  options: { readonly hasFunctions: boolean; readonly cleanUrls: boolean },
  warnings: string[],
): Promise<readonly (readonly [string, StaticOutput])[]> {
  const directory = builder.config["outputDirectory"];
  const prefix = typeof directory === "string" && directory !== "" ? `${directory.replace(/^\.?\/|\/+$/g, "")}/` : "";
  // Detection's own globs say no more than the prefix and the exceptions above; only a glob of `builds` does.
  const glob = builder.config["zeroConfig"] === true ? undefined : builder.src;
  const outputs: (readonly [string, StaticOutput])[] = [];
  for (const path of project.files) {
    if (!path.startsWith(prefix) || (prefix === "" && !isPublished(path, options.hasFunctions))) continue;
    if (glob !== undefined && path !== glob && !posix.matchesGlob(path, glob)) continue;
    const file = await followLink(path, project);
    if (file === undefined) {
      warnings.push(`"${path}" is a symbolic link to nothing in the project; it is left out.`);
      continue;
    }
    const output = path.slice(prefix.length);
    if (options.cleanUrls && output.endsWith(".html")) {
      outputs.push([output.slice(0, -".html".length), { kind: "static", file, contentType: "text/html; charset=utf-8" }]);
    } else outputs.push([output, { kind: "static", file }]);
  }
  return outputs;
}

/** The file itself, or the one that a symbolic link leads to; undefined when that is no file of the project. */
async function followLink(path: string, project: Project): Promise<FileRef | undefined> {
  let at = path;
  for (let hops = 0; hops < 8; hops++) {
    const file = project.ref(at);
    if (file === undefined || (file.mode & 0o170000) !== 0o120000) return file;
    at = posix.join(posix.dirname(at), (await project.read(at)).toString("utf8"));
  }
  return undefined;
}

async function toStep(
  builder: DetectedBuilder,
  project: Project,
  packageJson: PackageJson | null,
  functions: Readonly<Record<string, FunctionEntry>>,
): Promise<BuildStep> {
  const { use, version, src, config } = builder;
  const base = { use: "", useVersion: "", entrypoint: src, output: "", server: false, routes: [], config, functionSettings: {} };
  if (use === "@vercel/node") {
    const output = config["zeroConfig"] === true ? src.slice(0, -extname(src).length) : src;
    const isMiddleware = config["middleware"] === true;
    const routes = isMiddleware ? [await middlewareRoute(src, output, (await project.read(src)).toString("utf8"))] : [];
    return { ...base, builder: "node", output, routes, functionSettings: { ...settingsIn(config), ...settingsOf(src, functions) } };
  }
  if (serverBuilders.includes(use)) {
    const entrypoint = await findServer(project, packageJson, use.slice("@vercel/".length));
    const functionSettings = settingsOf(entrypoint, functions);
    return { ...base, builder: "node", entrypoint, output: "index", server: true, routes: serverRoutes, functionSettings };
  }
  if (use === "@vercel/static-build") return { ...base, builder: "script" };
  if (ownBuilders.includes(use)) return { ...base, builder: "vercel", use };
  const useVersion = version || fetchedBuilders[use] || "latest";
  if (foreignBuilders.test(use) || !packageName.test(use) || !packageVersion.test(useVersion)) {
    throw new MayflyError(
      "BUILDER_NOT_FOUND",
      `"${src}" needs the builder "${use}", which Mayfly does not have: Functions run on Node.js.`,
    );
  }
  return { ...base, builder: "vercel", use, useVersion };
}

/** `@vercel/next@4.0.0` → name and version. */
function splitVersion(spec: string): { readonly use: string; readonly version: string } {
  const at = spec.indexOf("@", 1);
  return at === -1 ? { use: spec, version: "" } : { use: spec.slice(0, at), version: spec.slice(at + 1) };
}

/** Those that are of the right kind; vercel.json's own are checked already. */
function settingsIn({
  memory,
  maxDuration,
  includeFiles,
  excludeFiles,
  regions,
}: Readonly<Partial<Record<keyof FunctionEntry, unknown>>>): FunctionSettings {
  const globs = (value: unknown): readonly string[] | undefined => {
    const found = [value].flat().filter(isString);
    return found.length === 0 ? undefined : found;
  };
  const settings = {
    memory: typeof memory === "number" ? memory : undefined,
    maxDuration: typeof maxDuration === "number" || maxDuration === "max" ? maxDuration : undefined,
    includeFiles: globs(includeFiles),
    excludeFiles: globs(excludeFiles),
    regions: isStrings(regions) ? regions : undefined,
  };
  return JSON.parse(JSON.stringify(settings)) as FunctionSettings;
}

function settingsOf(path: string, functions: unknown): FunctionSettings {
  for (const [glob, entry] of Object.entries((functions ?? {}) as Readonly<Record<string, FunctionEntry>>)) {
    if (glob !== path && !posix.matchesGlob(path, glob)) continue;
    return settingsIn(entry);
  }
  return {};
}
