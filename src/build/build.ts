/**
 * A build: plan → sandbox → output, or less where the plan needs less. Hides the sandbox, its scratch directory and its
 * end. Invariants: nothing a build wrote is read before its last process is gone; the scratch directory is removed in
 * every case; the platform's own environment never reaches a build.
 */
import { execFile } from "node:child_process";
import { mkdir, rm, statfs } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { ErrorCode } from "../errors.ts";
import type { Deployment, FunctionSpec, Output, Route, SourceTree } from "../model.ts";
import { randomId } from "../names.ts";
import type { Sandbox, SandboxDriver, SandboxMount } from "../sandbox/sandbox.ts";
import { guestPaths } from "./builder.ts";
import type { BuildJob, BuildMessage, PackageManager, PlannedJob, SiteSettings } from "./builder.ts";
import { npm } from "./install-plan.ts";
import { LogLines } from "./log-lines.ts";
import { openDirectory, openTree } from "./output-files.ts";
import { readOutput } from "./output.ts";
import type { OutputParts } from "./output.ts";
import type { Plan } from "./plan.ts";
import { writeSource } from "./source.ts";
import type { Toolchains } from "./toolchain.ts";

export interface BuildRequest {
  readonly plan: Plan;
  readonly tree: SourceTree;
  readonly deployment: Pick<Deployment, "id" | "host" | "projectId" | "target">;
  /** Environment of the build. */
  readonly buildEnv: Readonly<Record<string, string>>;
  /** Of the platform, no secrets: `VERCEL_GIT_COMMIT_SHA` and its like. */
  readonly systemEnv?: Readonly<Record<string, string>>;
  /** Environment of the Functions: only to be masked in the log. */
  readonly env: Readonly<Record<string, string>>;
  readonly sandboxes: SandboxDriver;
  readonly blobs: BlobStore;
  readonly toolchains: Toolchains;
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

/** The package's root: what the worker is run from. */
const mayflyDirectory = resolve(import.meta.dirname, "../..");
const messageBytesMax = 65_536;
const diskCheckMs = 2000;
/** After a sandbox's end its last lines may take so long to arrive. */
const lastLinesMs = 2000;
/** Codes that a worker may end with; any other is taken as BUILD_FAILED. */
const workerCodes: readonly ErrorCode[] = [
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
export async function runBuild(request: BuildRequest): Promise<BuildResult> {
  const { plan, config } = request;
  const lines = new LogLines({
    log: request.log,
    lineBytesMax: config.logLineBytesMax,
    secrets: [...Object.values(request.env), ...Object.values(request.buildEnv)],
  });
  for (const warning of plan.warnings) lines.system(warning);
  const facts = { framework: plan.framework, caseSensitive: plan.caseSensitive };
  if (!plan.prebuilt && plan.job === null) return { ...facts, ...plan.site, routes: plan.routes, outputs: plan.outputs, functions: {} };
  try {
    const parts = plan.prebuilt ? await readPrebuilt(request) : await buildInSandbox(request, lines);
    for (const warning of parts.warnings) lines.system(warning);
    const { routes, outputs, functions, site, framework } = parts;
    return { ...facts, framework: plan.framework ?? framework, ...site, routes, outputs: { ...plan.outputs, ...outputs }, functions };
  } catch (error) {
    // A build's own words may carry what its log may not.
    if (error instanceof MayflyError && lines.mask(error.message) !== error.message)
      throw new MayflyError(error.code, lines.mask(error.message));
    throw error;
  }
}

function readPrebuilt(request: BuildRequest): Promise<OutputParts> {
  const { plan, tree, blobs, config } = request;
  return readOutput({ place: openTree(tree, blobs), rootDirectory: plan.rootDirectory, blobs, config });
}

async function buildInSandbox(request: BuildRequest, lines: LogLines): Promise<OutputParts> {
  const { plan, tree, blobs, config, deployment } = request;
  const scratch = join(resolve(request.workRoot), `${deployment.id}-${randomId(6)}`);
  const repository = join(scratch, guestPaths.repository.slice(guestPaths.scratch.length));
  try {
    await mkdir(resolve(request.workRoot), { recursive: true, mode: 0o700 });
    for (const path of [guestPaths.home, guestPaths.temporary])
      await mkdir(scratch + path.slice(guestPaths.scratch.length), { recursive: true });
    for (const path of await writeSource(tree, repository, blobs))
      lines.system(`The link "${path}" leads out of the source; it is left out.`);
    await runSandbox(request, lines, scratch);
    if (request.signal.aborted) throw new MayflyError("canceled");
    return await readOutput({ place: openDirectory(repository, blobs), rootDirectory: plan.rootDirectory, blobs, config });
  } finally {
    await removeTree(scratch);
  }
}

/** Resolves when the worker is done and everything it started is gone. */
async function runSandbox(request: BuildRequest, lines: LogLines, scratch: string): Promise<void> {
  const { config, sandboxes, signal } = request;
  const managers = managersOf(request.plan.job!);
  const mounts: SandboxMount[] = [
    { source: scratch, target: guestPaths.scratch, writable: true },
    ...["src", "node_modules", "package.json"].map((name) => ({
      source: join(mayflyDirectory, name),
      target: `${guestPaths.mayfly}/${name}`,
      writable: false,
    })),
  ];
  for (const manager of managers) {
    mounts.push({
      source: await request.toolchains.directory(manager),
      target: `${guestPaths.toolchains}/${manager.name}`,
      writable: false,
    });
  }
  if (signal.aborted) throw new MayflyError("canceled");
  const sandbox = await sandboxes.create({
    purpose: "build",
    argv: ["/var/lang/bin/node", `${guestPaths.mayfly}/src/build/worker.ts`, guestPaths.repository],
    env: {
      PATH: [
        ...managers.map((manager) => `${guestPaths.toolchains}/${manager.name}/bin`),
        "/var/lang/bin",
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
      ].join(":"),
      HOME: guestPaths.home,
      TMPDIR: guestPaths.temporary,
      LANG: "C.UTF-8",
    },
    cwd: guestPaths.scratch,
    mounts,
    limits: { memoryMB: config.buildMemoryMB, cpuByMemory: false },
    tmpBytes: config.tmpBytesMax,
    processesMax: config.processesMax,
    openFilesMax: config.buildOpenFilesMax,
    network: "internet",
  });
  const output = Promise.all([lines.follow(sandbox.stdout, "stdout"), lines.follow(sandbox.stderr, "stderr")]);
  try {
    const job: BuildJob = { ...request.plan.job!, bundleBytesMax: config.functionBundleBytesMax, env: buildEnvironment(request) };
    const message = await supervise(sandbox, job, request);
    if (message.type === "failed")
      throw new MayflyError(workerCodes.find((code) => code === message.code) ?? "BUILD_FAILED", message.message);
  } finally {
    await sandbox.destroy();
    await Promise.race([output, sleep(lastLinesMs, undefined, { ref: false })]);
  }
}

/** The worker's message, or whatever ends the build before it. */
async function supervise(sandbox: Sandbox, job: BuildJob, request: BuildRequest): Promise<BuildMessage> {
  const { config, clock, signal } = request;
  const { promise, resolve, reject } = Promise.withResolvers<BuildMessage>();
  const cancel = (): void => reject(new MayflyError("canceled"));
  signal.addEventListener("abort", cancel, { once: true });
  const stopClock = clock.after(config.buildTimeoutMs, () => {
    reject(new MayflyError("BUILD_TIMEOUT", `The build took longer than ${Math.round(config.buildTimeoutMs / 1000)} s.`));
  });
  const stopDisk = watchDisk(request, reject);
  if (signal.aborted) cancel();
  void explainEnd(sandbox, config).then(reject);
  receive(sandbox.control, resolve, reject);
  sandbox.control.write(`${JSON.stringify(job)}\n`);
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", cancel);
    stopClock();
    stopDisk();
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

/** The first line of the control channel; it is hostile. */
function receive(control: Duplex, resolve: (message: BuildMessage) => void, reject: (error: Error) => void): void {
  let text = "";
  control.on("error", () => {});
  control.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    const end = text.indexOf("\n");
    if (end === -1 && text.length <= messageBytesMax) return;
    control.removeAllListeners("data");
    control.resume();
    try {
      resolve(parseMessage(Buffer.from(text.slice(0, end), "latin1").toString("utf8")));
    } catch {
      reject(new MayflyError("BUILD_FAILED", "The build's process sent a message that cannot be understood."));
    }
  });
}

function parseMessage(line: string): BuildMessage {
  const value: unknown = JSON.parse(line);
  const { type, code, message } = value as Readonly<Record<string, unknown>>;
  if (type === "done") return { type };
  if (type === "failed" && typeof code === "string" && typeof message === "string") return { type, code, message };
  throw new Error("unknown message");
}

/** A build may fill its scratch directory, never the disk that everything else needs. */
function watchDisk(request: BuildRequest, reject: (error: Error) => void): () => void {
  const { clock, config, workRoot } = request;
  let stop = (): void => {};
  let stopped = false;
  const check = async (): Promise<void> => {
    const { bavail, bsize } = await statfs(workRoot);
    if (stopped) return;
    if (bavail * bsize < config.diskFreeBytesMin) reject(new MayflyError("disk_full", "The build filled the server's disk."));
    else schedule();
  };
  const schedule = (): void => {
    stop = clock.after(diskCheckMs, () => void check().catch(() => {}));
  };
  schedule();
  return () => {
    stopped = true;
    stop();
  };
}

/** Those of the installs, and npm for scripts. */
function managersOf(job: PlannedJob): readonly PackageManager[] {
  const managers = new Map<string, PackageManager>();
  for (const { manager } of job.installs) if (!managers.has(manager.name)) managers.set(manager.name, manager);
  const runsScripts = job.steps.some((step) => step.builder !== "node" || step.server);
  if ((managers.size > 0 || runsScripts) && !managers.has("npm")) managers.set("npm", npm);
  return [...managers.values()];
}

/** What the project's commands and builders see; the worker itself sees nothing of it before it is at work. */
function buildEnvironment(request: BuildRequest): Readonly<Record<string, string>> {
  const { deployment, config } = request;
  const own = Object.entries(request.buildEnv).filter(([key]) => !["PATH", "HOME", "TMPDIR"].includes(key));
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

/** Also when a build took the rights off its own directories, or nested them deeper than a path can say: `rm` walks. */
async function removeTree(directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  } catch {
    const run = promisify(execFile);
    await run("chmod", ["-R", "u+rwX", "--", directory]).catch(() => {});
    await run("rm", ["-rf", "--", directory]);
  }
}
