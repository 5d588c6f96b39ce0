/**
 * A build: plan → sandbox → output, or less where the plan needs less. Hides the sandbox (build-sandbox.ts) and its end.
 * Invariants: nothing a build wrote is read before its last process is gone; sandbox and scratch directory are removed in
 * every case; the platform's own environment never reaches a build.
 */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { BlobStore, BlobTarget } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { Deployment, Digest, EntrypointReport, FunctionSpec, Output, Route, SourceTree } from "../model.ts";
import type { Sandbox, SandboxDriver } from "../sandbox/sandbox.ts";
import type { BuildCaches } from "./build-cache.ts";
import { BuildMemory } from "./build-memory.ts";
import { BuildSandbox } from "./build-sandbox.ts";
import { guestPaths, placedPaths } from "./builder.ts";
import type { BuildJob, BuildMessage, BuildReport, BuildStep, PackageManager, PlannedJob, SiteSettings } from "./builder.ts";
import { npm } from "./install-plan.ts";
import type { CompileCache } from "./compile-cache.ts";
import { LogLines } from "./log-lines.ts";
import { Mentions } from "./mentions.ts";
import { openDirectory, openTree, OutputFiles, type FilePlace } from "./output-files.ts";
import { readOutput } from "./output.ts";
import type { OutputParts } from "./output.ts";
import type { Plan } from "./plan.ts";
import {
  findEarlier,
  findReusable,
  keysOf,
  makeRecord,
  mayInstallReadProject,
  parseReport,
  runsScripts,
  type BuildKeys,
  type BuildRecord,
  type RecordEntry,
} from "./reuse.ts";
import { explainByDisk, isRealDirectory, watchDisk } from "./scratch.ts";
import { writeSource } from "./source.ts";
import type { BuildStandby } from "./standby.ts";
import type { Toolchains } from "./toolchain.ts";
import { isStored, keyOfWhole } from "./whole-build.ts";

export interface BuildRequest {
  readonly plan: Plan;
  readonly tree: SourceTree;
  /** Absent: everything is built, and nothing left for a next build. */
  readonly reuse?: {
    /** What an earlier build has left; null: nothing. */
    readonly record: BuildRecord | null;
    /** Blob of the tree. */
    readonly sourceDigest: Digest;
    /** A digest of the build's environment that tells nothing of its values. */
    readonly environmentDigest: string;
    readonly caches: BuildCaches;
    /** Whose caches may be read, the build's own first. */
    readonly lanesToRead: readonly string[];
    /** Where this build leaves its own; null: nowhere. */
    readonly laneToWrite: string | null;
  };
  readonly deployment: Pick<Deployment, "id" | "host" | "projectId" | "target">;
  /** Environment of the build, to be masked in the log; over what the plan has of its own, which is no secret. */
  readonly buildEnv: Readonly<Record<string, string>>;
  /** Of the platform, no secrets: `VERCEL_GIT_COMMIT_SHA` and its like. */
  readonly systemEnv?: Readonly<Record<string, string>>;
  /** Environment of the Functions: only to be masked in the log. */
  readonly env: Readonly<Record<string, string>>;
  readonly sandboxes: SandboxDriver;
  /** Absent: every build boots its own sandbox. */
  readonly standby?: BuildStandby;
  /** Absent: no build has its files in memory. */
  readonly memory?: BuildMemory | undefined;
  /** Has the source. */
  readonly blobs: BlobStore;
  /** Takes what the build yields; that is stored when the caller has committed it. */
  readonly output: BlobTarget;
  readonly toolchains: Toolchains;
  /** Absent: every build compiles the worker anew. */
  readonly compileCache?: Pick<CompileCache, "directory">;
  readonly config: Config;
  /** Directory for scratch directories, on a disk with room; made when absent. What is in it at start-up is left over. */
  readonly workRoot: string;
  /** Takes lines of at most `logLineBytesMax` bytes. */
  readonly log: (line: string, stream: "stdout" | "stderr" | "system") => void;
  /** Its abort destroys the sandbox. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** The parts of a manifest that a build decides. */
export interface BuildResult extends SiteSettings {
  readonly framework: string | null;
  readonly routes: readonly Route[];
  readonly caseSensitive: boolean;
  readonly outputs: Readonly<Record<string, Output>>;
  readonly functions: Readonly<Record<string, FunctionSpec>>;
}

/** Disposed of when nobody waits for it any more: it then leaves to the next build what that may use, and removes the rest. */
export interface Build extends AsyncDisposable {
  readonly result: BuildResult;
  /** Of each entrypoint: whether it was built or taken from an earlier build, and how long that took. */
  readonly entrypoints: readonly EntrypointReport[];
  /** For the next build; null: there is nothing that it could re-use. */
  readonly record: BuildRecord | null;
}

const reportBytesMax = 64 * 1024 * 1024;
/** After a sandbox's end its last lines may take so long to arrive. */
const lastLinesMs = 2000;
const looksAtOnce = 16;
/** Codes that a worker may end with; any other is taken as BUILD_FAILED. */
const workerCodes: readonly ErrorCode[] = [
  "BUILDER_NOT_FOUND",
  "BUILD_FAILED",
  "BUILD_OUT_OF_MEMORY",
  "BUILD_OUTPUT_INVALID",
  "BUILD_OUTPUT_UNSUPPORTED",
  "INSTALL_FAILED",
];

/**
 * @throws MayflyError BUILD_FAILED, BUILD_TIMEOUT, BUILD_OUT_OF_MEMORY, INSTALL_FAILED, BUILD_OUTPUT_INVALID,
 * BUILD_OUTPUT_UNSUPPORTED, FUNCTION_TOO_LARGE, disk_full, sandbox_unavailable, or canceled when `signal` aborts
 */
export async function runBuild(request: BuildRequest): Promise<Build> {
  const { plan, config } = request;
  const lines = new LogLines({
    log: request.log,
    lineBytesMax: config.logLineBytesMax,
    secrets: [...Object.values(request.env), ...Object.values(request.buildEnv)],
  });
  for (const warning of plan.warnings) lines.system(warning);
  const facts = { framework: plan.framework, caseSensitive: plan.caseSensitive };
  if (!plan.prebuilt && plan.job === null) {
    const result = { ...facts, ...plan.site, routes: plan.routes, outputs: plan.outputs, functions: {} };
    return { result, entrypoints: [], record: null, [Symbol.asyncDispose]: async () => {} };
  }
  await using opened = new AsyncDisposableStack();
  try {
    const { parts, entrypoints, record } =
      plan.job === null ? await readPrebuilt(request) : await buildJob(request, plan.job, lines, opened);
    for (const warning of parts.warnings) lines.system(warning);
    const { routes, outputs, functions, site, framework } = parts;
    const result = {
      ...facts,
      framework: plan.framework ?? framework,
      ...site,
      routes,
      outputs: { ...plan.outputs, ...outputs },
      functions: inRegions(functions, plan.regions),
    };
    const ending = opened.move();
    return { result, entrypoints, record, [Symbol.asyncDispose]: () => ending.disposeAsync() };
  } catch (error) {
    // A build's own words may carry what its log may not.
    if (error instanceof MayflyError && lines.mask(error.message) !== error.message)
      throw new MayflyError(error.code, lines.mask(error.message));
    throw error;
  }
}

/** Edge Functions run wherever they are asked, unless they say it themselves. */
function inRegions(functions: BuildResult["functions"], regions: readonly string[]): BuildResult["functions"] {
  if (regions.length === 0) return functions;
  const placed = Object.entries(functions).map(([id, spec]) => {
    return [id, spec.regions.length > 0 || spec.runtime === "edge" ? spec : { ...spec, regions }] as const;
  });
  return Object.fromEntries(placed);
}

interface BuiltParts extends Pick<Build, "entrypoints" | "record"> {
  readonly parts: OutputParts;
}

async function readPrebuilt(request: BuildRequest): Promise<BuiltParts> {
  const { plan, tree, output, config } = request;
  const parts = await readOutput({ place: openTree(tree, output), rootDirectory: plan.rootDirectory, blobs: output, config });
  return { parts, entrypoints: [], record: null };
}

/**
 * Takes what an earlier build has made, builds the rest, and leaves a record of both.
 * @param opened takes what is to be done when nobody waits for it
 */
async function buildJob(request: BuildRequest, job: PlannedJob, lines: LogLines, opened: AsyncDisposableStack): Promise<BuiltParts> {
  const { plan, tree, blobs, config, reuse } = request;
  const keys = reuse === undefined ? null : keysOf({ ...reuse, tree, job, config });
  const record = reuse?.record ?? null;
  const wholeKey = keys === null || !job.runsCommands ? null : keyOfWhole(keys.everything, request.systemEnv ?? {});
  if (record?.whole !== undefined && record.whole.key === wholeKey && (await isStored(record.whole, blobs))) {
    lines.system("Nothing has changed since the last build, and that one asked nobody: its output is taken.");
    const entrypoints = record.whole.entrypoints.map((entrypoint) => ({ ...entrypoint, reused: true, ms: 0 }));
    return { parts: { ...record.whole.parts, warnings: [] }, entrypoints, record };
  }
  const found = keys === null || record === null ? new Map<BuildStep, RecordEntry>() : await findReusable(record, keys, job, tree, blobs);
  const isAllReused = found.size === job.steps.length;
  const built: SandboxBuild = isAllReused
    ? {
        parts: { routes: plan.routes, outputs: {}, functions: {}, site: plan.site, framework: null, warnings: [] },
        report: null,
        reused: found,
        unchanged: new Set<string>(),
        readsProject: record!.installReadsProject,
        isAlone: false,
      }
    : await buildInSandbox(request, job, keys, found, lines, opened);
  const { reused } = built;
  const entries = [...reused.values()];
  const functions = entries.flatMap((entry) => entry.functions.map((spec) => [spec.id, spec] as const));
  const parts: OutputParts = {
    ...built.parts,
    outputs: Object.assign({}, built.parts.outputs, ...entries.map((entry) => entry.outputs)) as Readonly<Record<string, Output>>,
    functions: { ...built.parts.functions, ...Object.fromEntries(functions) },
  };
  const entrypoints = job.steps.map((step, index) => {
    const output = parts.outputs[step.output];
    const spec = output !== undefined && "functionId" in output ? parts.functions[output.functionId] : undefined;
    return {
      entrypoint: step.entrypoint,
      builder: step.use === "" ? step.builder : step.use,
      reused: reused.has(step),
      ms: built.report?.steps[index]?.ms ?? 0,
      bytes: step.builder === "node" ? (spec?.bundleSize ?? null) : null,
    };
  });
  if (keys === null) return { parts, entrypoints, record: null };
  const own = makeRecord({
    keys,
    job,
    sourceDigest: reuse!.sourceDigest,
    reused,
    report: built.report,
    outputs: parts.outputs,
    functions: parts.functions,
    installReadsProject: built.readsProject,
    unchanged: built.unchanged,
  });
  const whole = wholeKey !== null && built.isAlone ? { key: wholeKey, parts, entrypoints } : null;
  return { parts, entrypoints, record: whole === null ? own : { ...own, whole } };
}

interface SandboxBuild {
  readonly parts: OutputParts;
  readonly report: BuildReport | null;
  /** Steps whose output is taken from an earlier build. */
  readonly reused: ReadonlyMap<BuildStep, RecordEntry>;
  /** Paths among the inputs of traces that still are what was uploaded. */
  readonly unchanged: ReadonlySet<string>;
  /** Installing may have read files of the project. */
  readonly readsProject: boolean;
  /** It asked nobody, and its output names its deployment nowhere. */
  readonly isAlone: boolean;
}

async function buildInSandbox(
  request: BuildRequest,
  job: PlannedJob,
  keys: BuildKeys | null,
  found: ReadonlyMap<BuildStep, RecordEntry>,
  lines: LogLines,
  opened: AsyncDisposableStack,
): Promise<SandboxBuild> {
  const { plan, tree, blobs, output, config, deployment, reuse } = request;
  const at = (await request.standby?.take()) ?? (await BuildSandbox.boot(request, false));
  opened.defer(() => at.dispose());
  const inMemory = at.memory !== null && (await request.memory?.takes(at.memory, job, tree)) === true;
  const scratch = inMemory ? at.memory : at.scratch;
  const repository = join(scratch, placedPaths.repository);
  const kept = { scratch, repository, rootDirectory: plan.rootDirectory, framework: plan.framework };
  for (const path of await writeSource(tree, repository, blobs))
    lines.system(`The link "${path}" leads out of the source; it is left out.`);
  let installed: Digest | null = null;
  // Without either there is nothing to keep, and what the lane has stays for a build that wants it.
  const usesCaches = job.installs.length > 0 || job.runsCommands;
  opened.defer(async () => {
    const lane = usesCaches ? (reuse?.laneToWrite ?? null) : null;
    await at.sandbox.kill();
    if (lane !== null && (await isRealDirectory(repository))) await reuse!.caches.keep(deployment.projectId, lane, kept, installed);
  });
  const key =
    reuse === undefined || !usesCaches ? null : await reuse.caches.take(deployment.projectId, reuse.lanesToRead, reuse.laneToWrite, kept);
  const isInstalled = key !== null && keys !== null && [keys.install, keys.everything].includes(key);
  await mkdir(at.hostPath(guestPaths.downloads), { recursive: true });
  const installs = job.installs.map((install) => ({ ...install, done: isInstalled && install.command === null }));
  const places = job.steps.flatMap((step, index) => (found.has(step) ? [index] : []));
  const record = reuse?.record ?? null;
  const offered = record === null || keys === null ? [] : await findEarlier(record, keys, job, blobs);
  await runWorker(request, { ...job, installs, inMemory, reused: places, earlier: offered.map(({ earlier }) => earlier) }, lines, at);
  if (request.signal.aborted) throw new MayflyError("canceled");
  if (!(await isRealDirectory(repository))) {
    throw new MayflyError("BUILD_OUTPUT_INVALID", "The build has put something else in the place of its source directory.");
  }
  const mentions = new Mentions(deployment);
  const place = openDirectory(repository, output, mentions);
  const report = await readReport(openDirectory(scratch, output), output);
  const met = offered.filter(({ earlier }) => report?.steps[earlier.index]?.reused === true);
  const reused = new Map([...found, ...met.map(({ earlier, entry }) => [job.steps[earlier.index]!, entry] as const)]);
  const paths = new Set([...reused.values()].flatMap((entry) => Object.keys(entry.outputs)));
  const parts = await readOutput({ place, rootDirectory: plan.rootDirectory, blobs: output, config, reused: paths });
  const traced = new Set(report?.steps.flatMap((step) => (step.fingerprint === null ? (step.trace?.inputs ?? []) : [])));
  const unchanged = await findUnchanged(traced, tree, new OutputFiles(place, output));
  const readsProject = runsScripts(report) || (await mayInstallReadProject(tree, job, (path) => blobs.read(tree[path]!.digest)));
  installed = keys === null ? null : readsProject ? keys.everything : keys.install;
  mentions.look(Buffer.from(JSON.stringify(parts)));
  const isAlone = report?.connected === false && request.sandboxes.can.networkIsolation && !readsProject && !mentions.found;
  return { parts, report, reused, unchanged, readsProject, isAlone };
}

/** null: it left none that can be understood. */
async function readReport(place: FilePlace, blobs: BlobTarget): Promise<BuildReport | null> {
  const path = placedPaths.report;
  try {
    const found = await new OutputFiles(place, blobs).entry(path);
    return found?.entry.kind === "file" ? parseReport((await place.read(path, reportBytesMax)).toString("utf8")) : null;
  } catch {
    return null;
  }
}

/** Which files are, now that the build is over, still those that were uploaded. */
async function findUnchanged(paths: ReadonlySet<string>, tree: SourceTree, files: OutputFiles): Promise<ReadonlySet<string>> {
  const unchanged = new Set<string>();
  const isUnchanged = async (path: string): Promise<boolean> => {
    const file = Object.hasOwn(tree, path) ? tree[path] : undefined;
    const found = file === undefined ? null : await files.entry(path);
    if (found === null || found.at !== path) return false;
    const { entry } = found;
    const isLink = (file!.mode & 0o170000) === 0o120000;
    if (entry.kind === "link") return isLink && sha256(entry.target) === file!.digest;
    if (entry.kind !== "file" || isLink || entry.mode !== file!.mode || entry.size !== file!.size) return false;
    return sha256(await files.read(path, file!.size)) === file!.digest;
  };
  const remaining = paths.values();
  const look = async (): Promise<void> => {
    for (const path of remaining) if (await isUnchanged(path).catch(() => false)) unchanged.add(path);
  };
  await Promise.all(Array.from({ length: looksAtOnce }, look));
  return unchanged;
}

const sha256 = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Resolves when the worker is done and everything it started is gone. */
async function runWorker(
  request: BuildRequest,
  planned: PlannedJob & Pick<BuildJob, "reused" | "earlier" | "inMemory">,
  lines: LogLines,
  at: BuildSandbox,
): Promise<void> {
  const { config, signal } = request;
  const { sandbox } = at;
  const output = Promise.all([lines.follow(sandbox.stdout, "stdout"), lines.follow(sandbox.stderr, "stderr")]);
  const end = async (): Promise<void> => {
    await sandbox.kill();
    await Promise.race([output, sleep(lastLinesMs, undefined, { ref: false })]);
  };
  try {
    const programs = await at.addToolchains(managersOf(planned), request.toolchains);
    if (signal.aborted) throw new MayflyError("canceled");
    await sandbox.give();
    const env = buildEnvironment(request);
    const message = await supervise(at, { ...planned, bundleBytesMax: config.functionBundleBytesMax, programs, env }, request);
    if (message.type === "failed")
      throw new MayflyError(workerCodes.find((code) => code === message.code) ?? "BUILD_FAILED", message.message);
  } catch (error) {
    await end();
    if (!(error instanceof MayflyError) || !workerCodes.includes(error.code)) throw error;
    throw (await explainByDisk(at.scratch, [...lines.last, error.message].join("\n"), config)) ?? error;
  } finally {
    await end();
  }
}

/** The worker's message, or whatever ends the build before it. */
async function supervise(at: BuildSandbox, job: BuildJob, request: BuildRequest): Promise<BuildMessage> {
  const { config, clock, signal } = request;
  const { sandbox, scratch, memory } = at;
  const { promise, resolve, reject } = Promise.withResolvers<BuildMessage>();
  const cancel = (): void => reject(new MayflyError("canceled"));
  signal.addEventListener("abort", cancel, { once: true });
  const stopClock = clock.after(config.buildTimeoutMs, () => {
    reject(new MayflyError("BUILD_TIMEOUT", `The build took longer than ${Math.round(config.buildTimeoutMs / 1000)} s.`));
  });
  const stopDisk = watchDisk({ directory: scratch, clock, config, onOver: reject });
  const stopMemory =
    memory === null
      ? undefined
      : watchDisk({
          directory: memory,
          clock,
          config: { ...config, buildDiskBytesMax: BuildMemory.bytesMax, diskFreeBytesMin: 0 },
          onOver: reject,
        });
  if (signal.aborted) cancel();
  void explainEnd(sandbox, config).then(reject);
  at.message().then(resolve, reject);
  sandbox.control.write(`${JSON.stringify(job)}\n`);
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", cancel);
    stopClock();
    stopDisk();
    stopMemory?.();
  }
}

/** Why a sandbox ended although its worker waits to be ended. */
async function explainEnd(sandbox: Sandbox, config: Config): Promise<MayflyError> {
  const end = await sandbox.ended;
  if (end.reason === "out-of-memory") {
    return new MayflyError("BUILD_OUT_OF_MEMORY", `The build needed more than ${config.buildMemoryMB} MB of memory.`);
  }
  // A message may have been sent just before; it says more.
  await sleep(50);
  return new MayflyError("BUILD_FAILED", `The build's process ended with exit code ${end.exitCode ?? "unknown"}.`);
}

/** Those of the installs, and npm for scripts. */
function managersOf(job: PlannedJob): readonly PackageManager[] {
  const managers = new Map<string, PackageManager>();
  for (const { manager } of job.installs) if (!managers.has(manager.name)) managers.set(manager.name, manager);
  const runsScripts = job.steps.some((step) => step.builder !== "node" || step.server);
  if ((managers.size > 0 || runsScripts) && !managers.has("npm")) managers.set("npm", npm);
  return [...managers.values()];
}

export interface EnvironmentFacts extends Pick<BuildRequest, "deployment" | "config" | "buildEnv" | "systemEnv"> {
  /** Absent before there is one. */
  readonly plan?: Pick<Plan, "buildEnv">;
}

/** What the project's commands and builders see; the worker itself sees nothing of it before it is at work. */
export function buildEnvironment(request: EnvironmentFacts): Readonly<Record<string, string>> {
  const { deployment, config } = request;
  const own = Object.entries({ ...request.plan?.buildEnv, ...request.buildEnv }).filter(
    ([key]) => !["PATH", "HOME", "TMPDIR"].includes(key),
  );
  const registry = config.npmRegistry;
  return {
    ...Object.fromEntries(own),
    ...request.systemEnv,
    CI: "1",
    VERCEL: "1",
    NOW_BUILDER: "1",
    VERCEL_ENV: deployment.target,
    VERCEL_TARGET_ENV: deployment.target,
    VERCEL_URL: deployment.host,
    VERCEL_PROJECT_ID: deployment.projectId,
    VERCEL_DEPLOYMENT_ID: deployment.id,
    VERCEL_REGION: config.region,
    NEXT_TELEMETRY_DISABLED: "1",
    ASTRO_TELEMETRY_DISABLED: "1",
    NO_UPDATE_NOTIFIER: "1",
    COREPACK_ENABLE_STRICT: "0",
    npm_config_update_notifier: "false",
    npm_config_fund: "false",
    npm_config_audit: "false",
    YARN_ENABLE_TELEMETRY: "0",
    // Traces follow node_modules, not Plug'n'Play.
    YARN_NODE_LINKER: "node-modules",
    ...(registry === "" ? {} : { npm_config_registry: registry, YARN_NPM_REGISTRY_SERVER: registry, YARN_REGISTRY: registry }),
  };
}
