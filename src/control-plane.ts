/**
 * The control plane: API, deployment journey, builds, Git and what runs by itself, put together. Takes up what an earlier
 * control plane left unfinished. A process of its own (control-plane-main.js), kept alive by control-plane-process.ts.
 */
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join, resolve } from "node:path";
import { openApi } from "./api/api.ts";
import type { NodeFigures } from "./api/endpoint.ts";
import { BuildMemory } from "./build/build-memory.ts";
import { BuildSandbox, buildLimits, mayflyMounts } from "./build/build-sandbox.ts";
import { npm } from "./build/install-plan.ts";
import { warmPlanning } from "./build/plan.ts";
import { BuildStandby } from "./build/standby.ts";
import { BuildCaches } from "./build/build-cache.ts";
import { CompileCache } from "./build/compile-cache.ts";
import { removeTree } from "./build/scratch.ts";
import { createToolchains } from "./build/toolchain.ts";
import type { ControlPlaneOrder } from "./control-plane-process.ts";
import { Cron } from "./deploy/cron.ts";
import { deploy, supersede, type DeployContext } from "./deploy/deploy.ts";
import { DeploymentNews } from "./deploy/news.ts";
import { Maintenance } from "./deploy/maintenance.ts";
import { finishRotation } from "./deploy/rotation.ts";
import { BuildQueue, concurrencyHere } from "./deploy/queue.ts";
import { messageOf } from "./errors.ts";
import type { GitHost } from "./git/git-host.ts";
import { Git } from "./git/git.ts";
import { createHostFetch } from "./git/host-fetch.ts";
import { Mirrors } from "./git/mirror.ts";
import { parseBaseUrls } from "./git/remote.ts";
import { isAlive } from "./liveness.ts";
import { randomId } from "./names.ts";
import { gitHosts, openData, openSandboxes, type Log } from "./platform.ts";
import { listUnfinished } from "./store/deployments.ts";
import { ensureFirstIdentity } from "./store/teams.ts";
import { createToken, findIdentity, fullGrant } from "./store/tokens.ts";

/** Largest answer of a Git host's API. */
const gitAnswerBytesMax = 8 * 1024 * 1024;
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
  const memory = openBuildMemory(config.buildMemoryDirectory, builds);
  opened.defer(() => memory?.close());
  const standby = new BuildStandby({
    clock,
    size: config.buildStandby,
    memoryBytesMin: config.buildMemoryMB * 2 ** 20,
    boot: () => BuildSandbox.boot({ sandboxes, compileCache, config, workRoot, memory }, true),
  });
  opened.defer(() => standby.close());
  void compileCache.prepare().then(() => standby.fill());
  const context: DeployContext = {
    ...data,
    config,
    sandboxes,
    toolchains: createToolchains({ directory: join(data.directory, "toolchains"), npmRegistry: config.npmRegistry, clock }),
    compileCache,
    standby,
    news: new DeploymentNews(clock),
    caches: new BuildCaches({
      directory: join(data.directory, "build-caches"),
      laneBytesMax: config.buildCacheBytesMax,
      bytesMax: config.buildCachesBytesMax,
    }),
    workRoot,
    memory,
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
  const cancelWarming = clock.after(warmMs, () => {
    void warmPlanning();
    // Where it cannot be fetched, the build that needs it says so.
    if (config.npmAhead) context.toolchains.directory(npm).catch(() => {});
  });
  opened.defer(cancelWarming);
  const close = opened.move();
  return { socketPath, newToken, close: () => close.disposeAsync() };
}

/** The work on Git hosts. */
export function openGit(context: DeployContext, queue: BuildQueue, publicUrlOf: (host: string) => string, log: Log): Git {
  const { config, clock } = context;
  const fetch = createHostFetch({ deadlineMs: config.gitHostMsMax, answerBytesMax: gitAnswerBytesMax });
  const drivers = gitHosts({ fetch, now: () => clock.now() });
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

/** A directory of this process beside those that earlier ones have left; undefined: there is no such place here. */
function openBuildMemory(place: string, builds: string): BuildMemory | undefined {
  if (place === "") return undefined;
  // As with the builds on disk, each data directory has one, and each of its processes a part of that.
  const root = join(place, `mayfly-builds-${createHash("sha256").update(resolve(builds)).digest("hex").slice(0, 16)}`);
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 });
    // Anybody may make something in such a place, under a name that he expects: a link, or a directory of his own.
    const facts = lstatSync(root);
    if (!facts.isDirectory() || facts.uid !== process.getuid?.() || (facts.mode & 0o022) !== 0) return undefined;
    sweep(root);
    const own = join(root, String(process.pid));
    mkdirSync(own, { recursive: true, mode: 0o700 });
    return new BuildMemory(own);
  } catch {
    return undefined;
  }
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
