/**
 * A deployment's journey: begin → plan → build → store → ready → leave. This file lists the steps and nothing else. Each step may
 * be the last of the process: what a step has not finished is done again by the next control plane, and only the last
 * step makes anything visible.
 */
import type { BlobStore, BlobTarget } from "../blobs/blob-store.ts";
import { runBuild, type Build, type BuildResult } from "../build/build.ts";
import { isIgnored } from "../build/ignore.ts";
import { planSource } from "../build/configuration-program.ts";
import type { Plan } from "../build/plan.ts";
import type { BuildCaches } from "../build/build-cache.ts";
import type { BuildMemory } from "../build/build-memory.ts";
import type { CompileCache } from "../build/compile-cache.ts";
import type { BuildStandby } from "../build/standby.ts";
import type { SourceRequest } from "../build/source-command.ts";
import { readRecord, storeRecord, type BuildRecord } from "../build/reuse.ts";
import type { Toolchains } from "../build/toolchain.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError, messageOf, type ErrorCode } from "../errors.ts";
import type { LogStore } from "../logs/log-store.ts";
import type { BuildSummary, Deployment, DeploymentState, Digest, LogLine, Manifest, Sealed, SourceTree } from "../model.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";
import { findBuildRecord, saveBuildRecord } from "../store/build-records.ts";
import { beginBuilding, findDeploymentById, finishReady, finishUnready } from "../store/deployments.ts";
import { findProjectById } from "../store/projects.ts";
import { envPlace, type Seal } from "../store/seal.ts";
import type { Store } from "../store/store.ts";
import type { UsageStore } from "../usage/usage-store.ts";
import { hostsOf } from "./alias.ts";
import { lanesToRead, laneToWrite } from "./build-lane.ts";
import { checkEnv } from "./environment.ts";
import type { DeploymentNews } from "./news.ts";

/** What the control plane's work needs; platform.ts makes it. */
export interface DeployContext {
  readonly config: Config;
  readonly clock: Clock;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly logs: LogStore;
  readonly usage: UsageStore;
  readonly seal: Seal;
  readonly sandboxes: SandboxDriver;
  readonly toolchains: Toolchains;
  readonly caches: BuildCaches;
  readonly compileCache: CompileCache;
  readonly standby: BuildStandby;
  readonly news: DeploymentNews;
  /** Scratch space of builds. */
  readonly workRoot: string;
  readonly memory: BuildMemory | undefined;
}

export const isFinal = (state: DeploymentState): boolean => state === "READY" || state === "ERROR" || state === "CANCELED";

/**
 * Brings a deployment to its final state; its own failures are its state and log, never an exception. An abort leaves
 * it as it is: canceled by whoever aborted, or to be begun again.
 */
export async function deploy(context: DeployContext, id: string, signal: AbortSignal): Promise<void> {
  const deployment = await findDeploymentById(context.store, id);
  if (deployment === null || isFinal(deployment.state)) return;
  try {
    const begin = context.clock.elapsed();
    if (!(await beginStep(context, deployment))) return;
    await using output = context.blobs.batch();
    const source = await openSource(context, deployment, output, signal);
    const plan = await planSource(source, deployment.request);
    const env = addEnvironment(context, deployment, plan, source);
    await using build = await buildStep(context, deployment, plan, source);
    const manifestDigest = await storeStep(output, deployment, env, build.result);
    const summary = await summarize(context, output, build, begin);
    await output.commit();
    if (await readyStep(context, deployment, manifestDigest, summary)) await leaveStep(context, deployment, build);
  } catch (error) {
    if (!signal.aborted) await failStep(context, deployment, error);
  }
}

/** A waiting deployment that will not be built: a newer push to its branch is queued. */
export async function supersede(context: DeployContext, id: string, by: string): Promise<void> {
  const message = `A newer push to the same branch is queued: ${by}.`;
  const isMine = await finishUnready(context.store, id, "CANCELED", { code: "canceled", message }, context.clock.now());
  if (isMine) appendLine(context, { id }, "system", `Canceled. ${message}`);
}

/** QUEUED → BUILDING. A build that the platform's end cut off too often has perhaps caused that end. */
async function beginStep({ store, clock, config }: DeployContext, deployment: Deployment): Promise<boolean> {
  if (deployment.attempts >= config.buildAttemptsMax) {
    throw new MayflyError("BUILD_INTERRUPTED", `The platform ended during each of ${deployment.attempts} attempts to build this.`);
  }
  return beginBuilding(store, deployment.id, clock.now());
}

/** What runs of the project before and in its build runs over this. */
async function openSource(context: DeployContext, deployment: Deployment, output: BlobTarget, signal: AbortSignal): Promise<SourceRequest> {
  const { sandboxes, blobs, config, workRoot, clock, seal } = context;
  const { env, buildEnv, systemEnv } = deployment.request;
  const unseal = (sealed: Readonly<Record<string, Sealed>>) =>
    Object.fromEntries(Object.entries(sealed).map(([name, value]) => [name, seal.open(value, envPlace(deployment.id, name))]));
  return {
    tree: JSON.parse((await blobs.read(deployment.sourceDigest)).toString()) as SourceTree,
    deployment,
    env: unseal(env),
    buildEnv: unseal(buildEnv),
    systemEnv: systemEnv ?? {},
    sandboxes,
    blobs,
    output,
    config,
    workRoot,
    clock,
    signal,
    log: (text, stream) => appendLine(context, deployment, stream, text),
  };
}

/** The environment of the Functions: what the configuration says, unless project or create call say otherwise. */
function addEnvironment(
  { seal, config }: DeployContext,
  { id, request }: Deployment,
  plan: Plan,
  source: SourceRequest,
): Deployment["request"]["env"] {
  for (const env of [
    { ...plan.env, ...source.env },
    { ...plan.buildEnv, ...source.buildEnv },
  ])
    checkEnv(env, config.envBytesMax);
  const added = Object.entries(plan.env).map(([name, value]) => [name, seal.close(value, envPlace(id, name))]);
  return { ...Object.fromEntries(added), ...request.env };
}

async function buildStep(context: DeployContext, deployment: Deployment, plan: Plan, source: SourceRequest): Promise<Build> {
  const { toolchains, compileCache, standby, memory, seal } = context;
  const { force } = deployment.request;
  const buildEnv = Object.entries({ ...plan.buildEnv, ...source.buildEnv }).toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (plan.ignoreCommand !== null && deployment.git !== null && !force) {
    if (await isIgnored({ ...source, plan }, plan.ignoreCommand)) throw new MayflyError("BUILD_SKIPPED");
  }
  return runBuild({
    ...source,
    plan,
    reuse: {
      record: await readEarlier(context, deployment),
      sourceDigest: deployment.sourceDigest,
      caches: context.caches,
      lanesToRead: force ? [] : lanesToRead(deployment),
      laneToWrite: laneToWrite(deployment),
      environmentDigest: seal.digest(JSON.stringify(buildEnv)),
    },
    toolchains,
    compileCache,
    standby,
    memory,
  });
}

/** What an earlier build has left for this one. */
async function readEarlier({ store, blobs }: DeployContext, deployment: Deployment): Promise<BuildRecord | null> {
  if (deployment.request.force) return null;
  for (const lane of lanesToRead(deployment)) {
    const digest = await findBuildRecord(store, deployment.projectId, lane);
    const record = digest === null ? null : await readRecord(digest, blobs);
    if (record !== null) return record;
  }
  return null;
}

async function storeStep(output: BlobTarget, deployment: Deployment, env: Manifest["env"], result: BuildResult): Promise<Digest> {
  const { framework: _, ...parts } = result;
  const manifest: Manifest = {
    version: 1,
    deploymentId: deployment.id,
    projectId: deployment.projectId,
    teamId: deployment.teamId,
    name: deployment.name,
    host: deployment.host,
    target: deployment.target,
    createdAt: deployment.createdAt,
    ...parts,
    env,
    ...(deployment.request.systemEnv === undefined ? {} : { systemEnv: deployment.request.systemEnv }),
    ...(deployment.request.settings.directoryListing ? { directoryListing: true } : {}),
  };
  return (await output.put(JSON.stringify(manifest))).digest;
}

async function summarize(
  { clock }: DeployContext,
  output: BlobTarget,
  { result, entrypoints }: Build,
  begin: number,
): Promise<BuildSummary> {
  const functions = Object.keys(result.functions).length;
  const reused = entrypoints.filter((entrypoint) => entrypoint.reused).length;
  // An entrypoint may be many Functions.
  const cached = reused > 0 && reused === entrypoints.length ? functions : reused;
  const report = entrypoints.length === 0 ? {} : { reportDigest: (await output.put(JSON.stringify(entrypoints))).digest };
  return {
    functions,
    built: Math.max(0, functions - cached),
    cached: Math.min(functions, cached),
    ms: Math.round(clock.elapsed() - begin),
    ...report,
  };
}

/** false: it was canceled meanwhile. */
async function readyStep(context: DeployContext, deployment: Deployment, manifestDigest: Digest, summary: BuildSummary): Promise<boolean> {
  const { store, logs, clock, config, news } = context;
  await logs.flush(); // whoever sees READY can read the whole log
  const project = await findProjectById(store, deployment.projectId); // it may have another name by now
  const hosts = hostsOf(deployment, project?.name ?? deployment.name, config.domain);
  const isReady = await finishReady(store, deployment.id, { manifestDigest, summary, ...hosts }, clock.now());
  news.tell(deployment.id);
  return isReady;
}

/** For the next build. The deployment is ready: whatever goes wrong here costs that build time, and nothing else. */
async function leaveStep({ store, blobs, clock }: DeployContext, deployment: Deployment, { record }: Build): Promise<void> {
  const lane = laneToWrite(deployment);
  if (record === null || lane === null) return;
  try {
    const digest = await storeRecord(record, blobs);
    if (digest !== null) await saveBuildRecord(store, deployment.projectId, lane, digest, clock.now());
  } catch (error) {
    console.error(`Deployment ${deployment.id}: nothing is left for the next build: ${messageOf(error)}`);
  }
}

async function failStep(context: DeployContext, deployment: Deployment, error: unknown): Promise<void> {
  const code: ErrorCode = error instanceof MayflyError ? error.code : "internal_error";
  const message = error instanceof MayflyError ? error.message : `Something went wrong inside Mayfly: ${messageOf(error)}`;
  if (!(error instanceof MayflyError)) console.error(`Deployment ${deployment.id}:`, error);
  for (const line of message.split("\n")) appendLine(context, deployment, "system", line);
  await context.logs.flush();
  const state = code === "BUILD_SKIPPED" ? "CANCELED" : "ERROR";
  await finishUnready(context.store, deployment.id, state, { code, message }, context.clock.now());
  context.news.tell(deployment.id);
}

function appendLine({ logs, clock }: DeployContext, deployment: Pick<Deployment, "id">, stream: LogLine["stream"], text: string): void {
  const place = { deploymentId: deployment.id, source: "build", functionName: "", invocationId: "" } as const;
  logs.append([{ ...place, stream, timestampMs: clock.now(), text }]);
}

/** The manifest of a READY deployment. */
export async function readManifest(blobs: BlobStore, digest: Digest): Promise<Manifest> {
  return JSON.parse((await blobs.read(digest)).toString()) as Manifest;
}
