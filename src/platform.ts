/**
 * The composition root: the only file that picks drivers. Two processes make a node:
 *
 *   data plane (this process)      gateway, functions     answers requests; reads store and blobs
 *   control plane (its child)      api, deploy, build     makes deployments; writes store and blobs
 *
 * They meet in the data directory and on one unix socket, over which the gateway hands API calls on. When the control
 * plane dies it is started again; meanwhile sites serve on.
 */
import { fork, type ChildProcess } from "node:child_process";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { openApi } from "./api/api.ts";
import type { NodeFigures } from "./api/endpoint.ts";
import type { BlobStore } from "./blobs/blob-store.ts";
import { openDiskBlobs } from "./blobs/disk.ts";
import { BuildSandbox, buildLimits, mayflyMounts } from "./build/build-sandbox.ts";
import { warmPlanning } from "./build/plan.ts";
import { BuildStandby } from "./build/standby.ts";
import { BuildCaches } from "./build/build-cache.ts";
import { CompileCache } from "./build/compile-cache.ts";
import { removeTree } from "./build/scratch.ts";
import { createToolchains, type Toolchains } from "./build/toolchain.ts";
import { systemClock, type Clock } from "./clock.ts";
import type { Config } from "./config.ts";
import { Cron } from "./deploy/cron.ts";
import { deploy, supersede, type DeployContext } from "./deploy/deploy.ts";
import { DeploymentNews } from "./deploy/news.ts";
import { Maintenance } from "./deploy/maintenance.ts";
import { finishRotation } from "./deploy/rotation.ts";
import { BuildQueue, concurrencyHere } from "./deploy/queue.ts";
import { MayflyError, messageOf } from "./errors.ts";
import { openPools } from "./functions/pools.ts";
import { openCertificates } from "./gateway/certificates.ts";
import type { ControlPlane as GatewayControl } from "./gateway/control.ts";
import type { FrontPorts } from "./gateway/front.ts";
import { openCacheStore } from "./gateway/cache-store.ts";
import { GatewayFigures } from "./gateway/figures.ts";
import { openGateway } from "./gateway/gateway.ts";
import { openHostIndex, type HostIndex } from "./gateway/host.ts";
import { noPurges, openPurgeLog } from "./gateway/purge-log.ts";
import { StoreRevision } from "./gateway/revision.ts";
import type { GitHost } from "./git/git-host.ts";
import { Git } from "./git/git.ts";
import { createHostFetch } from "./git/host-fetch.ts";
import { Mirrors } from "./git/mirror.ts";
import { parseBaseUrls } from "./git/remote.ts";
import { descriptorOf, type Listeners } from "./handover.ts";
import { openOptimiser, type Optimiser } from "./images/optimiser.ts";
import { isAlive } from "./liveness.ts";
import type { LogStore } from "./logs/log-store.ts";
import { openSqliteLogs } from "./logs/sqlite.ts";
import type { Manifest } from "./model.ts";
import { randomId } from "./names.ts";
import { openBubblewrapSandboxes } from "./sandbox/bubblewrap.ts";
import { openOciSandboxes } from "./sandbox/oci.ts";
import { probe } from "./sandbox/probe.ts";
import { openProcessSandboxes } from "./sandbox/process.ts";
import type { SandboxDriver } from "./sandbox/sandbox.ts";
import { listUnfinished } from "./store/deployments.ts";
import { envPlace, openSeal } from "./store/seal.ts";
import { openSqliteStore } from "./store/sqlite.ts";
import { ensureFirstIdentity } from "./store/teams.ts";
import { createToken, findIdentity, fullGrant } from "./store/tokens.ts";
import { openSqliteUsage } from "./usage/sqlite.ts";

const sourceDirectory = dirname(fileURLToPath(import.meta.url));

/** Largest answer of a Git host's API. */
const gitAnswerBytesMax = 8 * 1024 * 1024;
/** Longest wait for the control plane's first sign of life. */
const controlPlaneStartMsMax = 30_000;
/** Pauses before a dead control plane is started again; the last one repeats. */
const controlPlaneRestartMs = [100, 1000, 5000, 10_000];

export type Log = (line: string) => void;

/** What both planes open: the data directory with database, blobs, logs and key. */
async function openData(config: Config) {
  const directory = resolve(config.data);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new MayflyError("data_directory_unusable", `Cannot make the data directory ${directory}: ${messageOf(error)}`, { cause: error });
  }
  const clock = systemClock;
  const store = await openSqliteStore({ path: join(directory, "mayfly.db") });
  const blobs = openDiskBlobs({ directory: join(directory, "blobs") });
  const logs = await openSqliteLogs({
    path: join(directory, "logs.db"),
    clock,
    linesMax: config.logLinesMax,
    requestsMax: config.logRequestsMax,
    bufferLinesMax: config.logBufferLinesMax,
  });
  const usage = await openSqliteUsage({
    path: join(directory, "usage.db"),
    clock,
    daysMax: config.usageDaysMax,
    bufferRowsMax: config.usageBufferRowsMax,
  });
  const seal = openSeal(join(directory, "secret.key"));
  const close = async () => {
    await usage.close();
    await logs.close();
    await store.close();
    await blobs.close();
  };
  return { directory, clock, store, blobs, logs, usage, seal, close };
}

/**
 * The sandbox that `config.sandbox` asks for; `auto` is the strongest that works here.
 * @throws MayflyError sandbox_unavailable, also when it is too weak for untrusted code and that is what will run
 */
async function openSandboxes(config: Config, log: Log): Promise<SandboxDriver> {
  const sandboxes = await chooseSandboxes(config, log);
  const { fileIsolation, processIsolation, networkIsolation, seccomp, memoryLimit, processLimit } = sandboxes.can;
  const strong = fileIsolation && processIsolation && networkIsolation && seccomp && memoryLimit === "tree" && processLimit;
  if (!config.untrusted || strong) return sandboxes;
  await sandboxes.close();
  throw new MayflyError(
    "sandbox_unavailable",
    `Untrusted code needs a sandbox with its own files, processes and network, seccomp, and limits of memory and processes; "${sandboxes.name}" does not give all of them here. Run Mayfly as root on Linux with crun.`,
  );
}

async function chooseSandboxes(config: Config, log: Log): Promise<SandboxDriver> {
  const options = {
    dataDirectory: resolve(config.data),
    nodeBinary: process.execPath,
    networkAllow: config.networkAllow.split(",").filter((network) => network !== ""),
    log,
  };
  /** The strongest first. */
  const drivers: Readonly<Record<string, () => Promise<SandboxDriver>>> = {
    oci: () => openOciSandboxes({ ...options, runtime: config.ociRuntime as "crun" | "runc" }),
    bubblewrap: () => openBubblewrapSandboxes(options),
    process: () => openProcessSandboxes(options),
  };
  const reasons: string[] = [];
  for (const [name, open] of Object.entries(drivers)) {
    if (config.sandbox !== "auto" && config.sandbox !== name) continue;
    let why: string | null;
    try {
      const sandboxes = await open();
      // What isolates nothing has nothing to prove.
      why = sandboxes.can.fileIsolation ? await probe(sandboxes) : null;
      if (why === null) {
        if (reasons.length > 0) log(`Warning: weaker isolation than "oci" would give. ${reasons.join(" ")}`);
        return sandboxes;
      }
      await sandboxes.close();
    } catch (error) {
      why = messageOf(error);
    }
    reasons.push(`${name}: ${why}`);
  }
  throw new MayflyError("sandbox_unavailable", `The sandbox asked for does not work here. ${reasons.join(" ")}`);
}

/** null, said to whoever starts it: pictures are given as they are. */
function openImages(config: Config, sandboxes: SandboxDriver, log: Log): Optimiser | null {
  const optimiser = openOptimiser({ config, clock: systemClock, sandboxes });
  if (!("missing" in optimiser)) return optimiser;
  log(`Pictures are not made smaller: there is no sharp for ${process.platform}-${process.arch}. (${optimiser.missing})`);
  return null;
}

export interface DataPlane extends FrontPorts {
  /** Certificate of the local authority that people may trust; null: there is none. */
  readonly authorityPath: string | null;
  /** What it has done, and what lives now. */
  readonly figures: () => NodeFigures;
  /** Takes no more connections; resolves when those that there are have ended, or their time has. */
  readonly drain: () => Promise<void>;
  /** For the node that takes this one's place. */
  readonly listeners: () => Listeners;
  readonly sandbox: SandboxDriver;
  close(): Promise<void>;
}

/** Gateway and Functions. The control plane may come and go. @param inherited sockets that listen already */
export async function openDataPlane(
  config: Config,
  control: GatewayControl,
  log: Log,
  inherited: Listeners | undefined,
): Promise<DataPlane> {
  await using opened = new AsyncDisposableStack();
  const data = await openData(config);
  opened.defer(data.close);
  const { clock, store, blobs, logs, usage, seal } = data;
  const sandbox = await openSandboxes(config, log);
  opened.defer(() => sandbox.close());
  const unseal = (manifest: Manifest) =>
    Object.fromEntries(
      Object.entries(manifest.env).map(([name, value]) => [name, seal.open(value, envPlace(manifest.deploymentId, name))]),
    );
  const functions = await openPools({
    config,
    clock,
    sandboxes: sandbox,
    blobs,
    logs,
    usage,
    dataDirectory: data.directory,
    runtimeDirectory: join(sourceDirectory, "runtime"),
    nodeGuestPath: "/var/lang/bin/node",
    unseal,
  });
  opened.defer(() => functions.close(0));
  const revision = new StoreRevision(store);
  const hosts = openHostIndex({ store, revision, blobs, config, environment: unseal });
  const serves = async (host: string): Promise<boolean> => (await hosts.resolve(host)) !== null;
  const certificates =
    config.httpsPort === 0 ? null : await openCertificates({ config, clock, directory: join(data.directory, "tls"), serves });
  const purges = openPurgeLog(store, revision);
  const cache = openCacheStore({ config, purges, directory: data.directory });
  opened.defer(() => cache.close());
  const optimiser = openImages(config, sandbox, log);
  opened.defer(async () => optimiser?.close());
  const figures = new GatewayFigures();
  const gateway = openGateway({
    config,
    clock,
    certificates,
    figures,
    functions,
    hosts,
    blobs,
    logs,
    cache,
    purges,
    optimiser,
    inspection: { store, seal, logs, blobs, hosts, config, clock },
    control,
  });
  const ports = await gateway.listen(inherited);
  const drain = (): Promise<void> => gateway.close(config.drainMs);
  opened.defer(drain);
  const close = opened.move();
  const listeners = (): Listeners => {
    const { http, https } = gateway.servers;
    return { http: descriptorOf(http), https: https === null ? null : descriptorOf(https) };
  };
  const figuresNow = (): NodeFigures => {
    const { instances, resting, standby, functions: known, waiting, memoryMB } = functions.status;
    return { ...figures, instances: { live: instances, resting, standby }, functions: known, waiting, memoryMB };
  };
  return {
    ...ports,
    figures: figuresNow,
    drain,
    listeners,
    authorityPath: certificates?.authorityPath ?? null,
    sandbox,
    close: () => close.disposeAsync(),
  };
}

/** What a build on this machine needs. */
export interface BuildPlace extends AsyncDisposable {
  readonly blobs: BlobStore;
  readonly sandboxes: SandboxDriver;
  readonly toolchains: Toolchains;
  readonly clock: Clock;
}

/** `config.data` is a scratch directory that is the caller's to remove. */
export async function openBuildPlace(config: Config, log: Log): Promise<BuildPlace> {
  await using opened = new AsyncDisposableStack();
  const directory = resolve(config.data);
  const blobs = openDiskBlobs({ directory: join(directory, "blobs") });
  opened.defer(() => blobs.close());
  const sandboxes = await openSandboxes(config, log);
  opened.defer(() => sandboxes.close());
  const toolchains = createToolchains({ directory: join(directory, "toolchains"), npmRegistry: config.npmRegistry });
  const stack = opened.move();
  return { blobs, sandboxes, toolchains, clock: systemClock, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** What serves a directory under development: gateway and Functions without a store, and what its builds need. */
export interface DevPlane extends BuildPlace {
  readonly port: number;
  readonly directory: string;
}

export interface DevParts {
  readonly hosts: HostIndex;
  /** Takes what Functions write. */
  readonly append: LogStore["append"];
  readonly appendRequest: LogStore["appendRequest"];
  /** Of every Function. */
  readonly environment: () => Readonly<Record<string, string>>;
  readonly log: Log;
}

/** `config.data` is a scratch directory that is the caller's to remove. */
export async function openDevPlane(config: Config, parts: DevParts): Promise<DevPlane> {
  await using opened = new AsyncDisposableStack();
  const place = opened.use(await openBuildPlace(config, parts.log));
  const { blobs, sandboxes, clock } = place;
  const directory = resolve(config.data);
  const logs = { append: parts.append, appendRequest: parts.appendRequest };
  const functions = await openPools({
    config,
    clock,
    sandboxes,
    blobs,
    logs,
    usage: { append: () => {} }, // there is nobody to bill
    dataDirectory: directory,
    runtimeDirectory: join(sourceDirectory, "runtime"),
    nodeGuestPath: "/var/lang/bin/node",
    unseal: parts.environment,
  });
  opened.defer(() => functions.close(0));
  const cache = openCacheStore({ config, purges: noPurges, directory });
  opened.defer(() => cache.close());
  const optimiser = openImages(config, sandboxes, parts.log);
  opened.defer(async () => optimiser?.close());
  const gateway = openGateway({
    config,
    clock,
    certificates: null,
    functions,
    hosts: parts.hosts,
    blobs,
    logs,
    cache,
    purges: noPurges,
    optimiser,
    inspection: null,
    control: null,
  });
  const { port } = await gateway.listen();
  opened.defer(() => gateway.close(0));
  const stack = opened.move();
  return { ...place, port, directory, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** What the data plane tells its control plane first. */
export interface ControlPlaneOrder {
  readonly config: Config;
  /** The port that people reach the gateway at. */
  readonly port: number;
  /** A token this machine's user has, if any. */
  readonly token: string | null;
}

export interface ControlPlane {
  readonly socketPath: string;
  /** A new token for this machine's user when it had none that is valid. */
  readonly newToken: string | null;
  close(): Promise<void>;
}

/** So long after its start a control plane that has nothing to do gets ready for the first deployment. */
const warmMs = 200;

/** API, deployment journey and builds. Takes up what an earlier control plane left unfinished. */
export async function openControlPlane(
  { config, port, token }: ControlPlaneOrder,
  log: Log,
  figures: () => Promise<NodeFigures | null>,
): Promise<ControlPlane> {
  await using opened = new AsyncDisposableStack();
  const data = await openData(config);
  opened.defer(data.close);
  const { clock, store } = data;
  const sandboxes = await openSandboxes(config, log);
  opened.defer(() => sandboxes.close());
  const run = join(data.directory, "run");
  const builds = join(data.directory, "builds");
  sweep(run);
  sweep(builds);
  const compileCache = new CompileCache({
    directory: join(data.directory, "compiled"),
    sandboxes,
    mounts: mayflyMounts,
    limits: buildLimits(config),
  });
  opened.defer(() => compileCache.close());
  const workRoot = join(builds, String(process.pid));
  opened.defer(() => removeTree(workRoot));
  const standby = new BuildStandby({
    clock,
    size: config.buildStandby,
    memoryBytesMin: config.buildMemoryMB * 2 ** 20,
    boot: () => BuildSandbox.boot({ sandboxes, compileCache, config, workRoot }, true),
  });
  opened.defer(() => standby.close());
  void compileCache.prepare().then(() => standby.fill());
  const context: DeployContext = {
    ...data,
    config,
    sandboxes,
    toolchains: createToolchains({ directory: join(data.directory, "toolchains"), npmRegistry: config.npmRegistry }),
    compileCache,
    standby,
    news: new DeploymentNews(clock),
    caches: new BuildCaches({
      directory: join(data.directory, "build-caches"),
      laneBytesMax: config.buildCacheBytesMax,
      bytesMax: config.buildCachesBytesMax,
    }),
    workRoot,
  };
  const queue = new BuildQueue({
    concurrency: concurrencyHere(config.buildsMax, config.buildMemoryMB),
    waitingMax: config.buildQueueMax,
    run: (id, signal) => deploy(context, id, signal).finally(() => standby.refill()),
    supersede: (id, by) => supersede(context, id, by),
    log,
  });
  opened.defer(() => queue.close());
  for (const deployment of await listUnfinished(store)) queue.enqueue(deployment);

  const identity = await ensureFirstIdentity(store, userInfo().username);
  const known = token !== null && (await findIdentity(store, token, clock.now())) !== null;
  const newToken = known ? null : (await createToken(store, identity, fullGrant("this machine"), clock.now())).text;

  const publicUrlOf = (host: string) => `http://${host}${port === 80 ? "" : `:${port}`}`;
  const git = openGit(context, queue, publicUrlOf, log);
  opened.defer(() => git.close());
  git.start();

  const socketPath = controlSocketPath(run);
  const cron = new Cron({ ...context, gateway: { host: reachable(config.host), port }, log });
  opened.defer(() => cron.close());
  cron.start();
  const maintenance = new Maintenance(context, log);
  opened.defer(() => maintenance.close());
  maintenance.start();
  await finishRotation(context); // one that was cut off
  const api = await openApi({ context, queue, git, cron, maintenance, figures, socketPath, publicUrlOf, log });
  opened.defer(() => api.close());
  clock.after(warmMs, () => void warmPlanning());
  const close = opened.move();
  return { socketPath, newToken, close: () => close.disposeAsync() };
}

/** The work on Git hosts. A host's driver is loaded when it is first needed: GitLab's client takes a fifth of a second. */
export function openGit(context: DeployContext, queue: BuildQueue, publicUrlOf: (host: string) => string, log: Log): Git {
  const { config, clock } = context;
  const fetch = createHostFetch({ deadlineMs: config.gitHostMsMax, answerBytesMax: gitAnswerBytesMax });
  const options = { fetch, now: () => clock.now() };
  const drivers = {
    github: async () => (await import("./git/github.ts")).createGithub(options),
    gitlab: async () => (await import("./git/gitlab.ts")).createGitlab(options),
  };
  const loaded = new Map<keyof typeof drivers, Promise<GitHost>>();
  const mirrors = new Mirrors({
    directory: join(resolve(config.data), "git"),
    clock,
    fetchMsMax: config.gitFetchMsMax,
    repositoryBytesMax: config.gitRepositoryBytesMax,
    bytesMax: config.gitMirrorsBytesMax,
  });
  return new Git({
    deploy: context,
    queue,
    host(provider) {
      const host = loaded.get(provider) ?? drivers[provider]();
      loaded.set(provider, host);
      return host;
    },
    mirrors,
    addresses: {
      github: parseBaseUrls("MAYFLY_GITHUB_URLS", config.githubUrls),
      gitlab: parseBaseUrls("MAYFLY_GITLAB_URLS", config.gitlabUrls),
    },
    fetch,
    publicUrlOf,
    log,
  });
}

/** Where this machine reaches what listens on `host`. */
const reachable = (host: string): string => (host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host);

/** A socket's path may have 107 bytes: a data directory with a long name has it in the temporary directory. */
function controlSocketPath(runDirectory: string): string {
  const path = join(runDirectory, `${process.pid}.sock`);
  if (path.length <= 100) return path;
  for (const name of readdirSync(tmpdir())) {
    const pid = /^mayfly-(\d+)\.sock$/.exec(name)?.[1];
    if (pid !== undefined && (pid === String(process.pid) || !isAlive(Number(pid)))) rmSync(join(tmpdir(), name), { force: true });
  }
  return join(tmpdir(), `mayfly-${process.pid}.sock`);
}

/**
 * Removes what control planes that ended without closing have left: sockets and scratch directories, named by pid. A
 * build's may have a million files, so they are out of the way at once and gone some time later.
 */
function sweep(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(directory)) {
    const pid = Number.parseInt(name, 10);
    if (pid !== process.pid && isAlive(pid)) continue;
    const aside = join(directory, `gone-${randomId(12)}`);
    renameSync(join(directory, name), aside);
    removeTree(aside).catch((error: unknown) => process.emitWarning(`Cannot remove ${aside}: ${messageOf(error)}`));
  }
}

/** Keeps one control plane process alive beside the data plane. */
export class ControlPlaneProcess {
  readonly #order: ControlPlaneOrder;
  readonly #log: Log;
  readonly #figures: () => NodeFigures;
  #child: ChildProcess | null = null;
  #socketPath: string | null = null;
  #restarts = 0;
  #closing = false;

  constructor(order: ControlPlaneOrder, log: Log, figures: () => NodeFigures) {
    this.#order = order;
    this.#log = log;
    this.#figures = figures;
  }

  /** Of the running control plane; null while there is none. */
  get socketPath(): string | null {
    return this.#socketPath;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Starts it and waits until it answers.
   * @returns a new token for this machine's user, if one was made
   * @throws MayflyError with the reason for which it could not start
   */
  async start(): Promise<string | null> {
    const child = fork(join(sourceDirectory, "control-plane.ts"), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child = child;
    child.on("message", (message) => {
      const { type, number } = message as Partial<FiguresQuestion>;
      if (type === "figures") child.send({ type, number: number!, figures: this.#figures() } satisfies FiguresAnswer, () => {});
    });
    const ready = await new Promise<ControlPlaneSign>((answer) => {
      const deadline = setTimeout(
        () => answer({ type: "failed", code: "timeout", message: "The control plane did not start in time." }),
        controlPlaneStartMsMax,
      );
      const settle = (sign: ControlPlaneSign) => {
        clearTimeout(deadline);
        answer(sign);
      };
      child.once("message", (sign) => settle(sign as ControlPlaneSign));
      child.once("exit", (code) => settle({ type: "failed", code: "internal_error", message: `The control plane ended with ${code}.` }));
      child.send(this.#order);
    });
    if (ready.type === "failed") {
      child.removeAllListeners("exit");
      child.kill("SIGKILL");
      throw new MayflyError(ready.code, ready.message);
    }
    this.#socketPath = ready.socketPath;
    child.once("exit", () => this.#restart());
    return ready.newToken;
  }

  async close(): Promise<void> {
    this.#closing = true;
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((answer) => child.once("exit", answer));
    child.disconnect(); // its sign to close
    const deadline = setTimeout(() => child.kill("SIGKILL"), this.#order.config.drainMs + 5000);
    await ended;
    clearTimeout(deadline);
  }

  #restart(): void {
    this.#socketPath = null;
    if (this.#closing) return;
    const pause = controlPlaneRestartMs[Math.min(this.#restarts++, controlPlaneRestartMs.length - 1)]!;
    this.#log(`The control plane has ended; it is started again in ${pause} ms. Sites serve on.`);
    setTimeout(() => {
      if (this.#closing) return;
      this.start().then(
        () => (this.#restarts = 0),
        (error: unknown) => {
          this.#log(messageOf(error));
          this.#restart();
        },
      );
    }, pause);
  }
}

/** The control plane's first message. */
export type ControlPlaneSign =
  | { readonly type: "ready"; readonly socketPath: string; readonly newToken: string | null }
  | { readonly type: "failed"; readonly code: MayflyError["code"]; readonly message: string };

/** Asked by the control plane while it runs. */
export interface FiguresQuestion {
  readonly type: "figures";
  readonly number: number;
}

export interface FiguresAnswer extends FiguresQuestion {
  readonly figures: NodeFigures;
}
