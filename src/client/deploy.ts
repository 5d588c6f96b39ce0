/**
 * A deployment's journey as the client makes it: read the source, create, upload what the server lacks, create again,
 * follow until it is final. Hides the order of calls and what is polled when; shows itself to people nowhere.
 */
import { hash } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isErrorCode, MayflyError } from "../errors.ts";
import type { ApiClient } from "./client.ts";
import {
  createDeployment,
  deploymentEvents,
  getDeployment,
  getUser,
  isFinal,
  parseDeployment,
  type CreateRequest,
  type DeploymentFacts,
} from "./deployments.ts";
import { isObject } from "./json.ts";
import { KnownFiles } from "./known-files.ts";
import { linkPath, type ProjectLink } from "./link.ts";
import { readSource, type Source } from "./source.ts";
import { readSmallFiles, unaskedDigests, uploadFiles, type UploadProgress } from "./upload.ts";

export interface DeployRequest extends Omit<CreateRequest, "files" | "project"> {
  readonly directory: string;
  /** What the directory is tied to; it counts where its team is that of the token, else only its project's name does. */
  readonly link?: ProjectLink | undefined;
  /** Directory in which is remembered what was sent where. Absent: every file is read, and the server is asked about each. */
  readonly memory?: string | undefined;
}

/** What happens meanwhile, for who shows it. */
export type DeployEvent =
  | { readonly type: "reading"; readonly files: number; readonly bytes: number }
  | { readonly type: "warning"; readonly text: string }
  | ({ readonly type: "uploading"; readonly filesInAll: number } & UploadProgress)
  | { readonly type: "uploaded"; readonly filesInAll: number; readonly files: number; readonly bytes: number }
  | { readonly type: "created"; readonly deployment: DeploymentFacts }
  | { readonly type: "state"; readonly state: DeploymentFacts["state"] }
  | { readonly type: "log"; readonly stream: "stdout" | "stderr" | "command"; readonly text: string };

export interface DeployOptions {
  readonly onEvent?: (event: DeployEvent) => void;
  /** Ends the waiting; a deployment that was created already goes on until it is canceled. */
  readonly signal?: AbortSignal | undefined;
}

/** Uploads may be evicted between the upload and the creation; more rounds than this mean that something is wrong. */
const createRoundsMax = 3;
/** Time between two polls, in ms; events make them sooner. The official client's steps. */
const pollSteps = [
  { untilMs: 15_000, everyMs: 1000 },
  { untilMs: 60_000, everyMs: 5000 },
  { untilMs: Number.POSITIVE_INFINITY, everyMs: 15_000 },
] as const;
/** Time that the last log lines get to arrive when the deployment is final, in ms. */
const lastLinesMs = 2000;
/** A source that is not read within this time, in ms, may take long: the server is asked meanwhile whether it knows the token. */
const quickMs = 100;
/** Pause before a stream of events that ended too early is opened again, in ms. */
const reopenMs = 500;

/**
 * Reads, uploads and creates.
 * @returns the deployment as created, hardly ever final
 * @throws MayflyError those of {@link readSource}, {@link uploadFiles} and the server
 */
export async function startDeployment(client: ApiClient, request: DeployRequest, options: DeployOptions = {}): Promise<DeploymentFacts> {
  const { link, directory, memory, ...rest } = request;
  const place = hash("sha1", `${client.api}\n${directory}`);
  const known = memory === undefined ? undefined : await KnownFiles.open(join(memory, `${place}.json`));
  const { source, teamId } = await readWithAccess(client, request, known, options);
  for (const text of source.warnings) options.onEvent?.({ type: "warning", text });
  const project = link !== undefined && link.orgId === teamId ? link.projectId : undefined;
  if (link !== undefined && project === undefined) {
    const text = `${linkPath} belongs to another server; deploying to the project "${request.name}" of this one.`;
    options.onEvent?.({ type: "warning", text });
  }
  const create: CreateRequest = { ...rest, project, files: source.files };
  const filesInAll = source.files.length;
  let inline = await readSmallFiles(source, known === undefined ? [] : unaskedDigests(source, known));
  let uploaded = { files: inline.size, bytes: bytesOf(inline) };
  if (inline.size > 0) {
    const { files: filesTotal, bytes: bytesTotal } = uploaded;
    options.onEvent?.({ type: "uploading", filesInAll, files: 0, filesTotal, bytes: 0, bytesTotal });
  }
  for (let round = 0; ; round++) {
    if (options.signal?.aborted === true) throw new MayflyError("canceled");
    // Without the signal: who gives up in the middle could not know the deployment to cancel.
    const answer = await createDeployment(client, create, inline);
    if ("created" in answer) {
      options.onEvent?.({ type: "uploaded", filesInAll, ...uploaded });
      options.onEvent?.({ type: "created", deployment: answer.created });
      void known?.keep();
      return answer.created;
    }
    if (round === createRoundsMax) {
      throw new MayflyError("missing_files", `The server still lacks ${answer.missing.length} files after ${round} uploads of them.`);
    }
    inline = new Map([...inline, ...(await readSmallFiles(source, answer.missing))]);
    const inlineBytes = bytesOf(inline);
    const onProgress = (progress: UploadProgress): void => {
      const filesTotal = progress.filesTotal + inline.size;
      const bytesTotal = progress.bytesTotal + inlineBytes;
      uploaded = { files: filesTotal, bytes: bytesTotal };
      options.onEvent?.({ type: "uploading", filesInAll, ...progress, filesTotal, bytesTotal });
    };
    const large = answer.missing.filter((sha) => !inline.has(sha));
    await uploadFiles(client, source, large, { signal: options.signal, onProgress });
  }
}

/**
 * Follows a deployment until it is READY.
 * @throws MayflyError the deployment's own error code and message (deployment_failed when the code is unknown), canceled
 */
export async function followDeployment(client: ApiClient, id: string, options: DeployOptions = {}): Promise<DeploymentFacts> {
  const news = new News();
  const ended = new AbortController();
  const final = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal;
  let shown: DeploymentFacts["state"] = "QUEUED";
  const tellState = (state: DeploymentFacts["state"]): void => {
    if (state === shown || isFinal(shown)) return;
    shown = state;
    options.onEvent?.({ type: "state", state });
  };
  const onLog: FollowOptions["onLog"] = (stream, text) => {
    tellState("BUILDING");
    options.onEvent?.({ type: "log", stream, text });
  };
  const events = followEvents(client, id, news, { signal, final: final.signal, onLog });
  try {
    const deployment = await pollUntilFinal(client, id, news, tellState, options.signal);
    final.abort();
    await Promise.race([events, sleep(lastLinesMs, undefined, { signal }).catch(() => undefined)]);
    tellState(deployment.state);
    if (deployment.state === "READY") return deployment;
    throw failureOf(deployment);
  } finally {
    ended.abort();
    await events;
  }
}

const bytesOf = (files: ReadonlyMap<string, Buffer>): number => files.values().reduce((sum, bytes) => sum + bytes.byteLength, 0);

/**
 * Reads the source while the server is asked whether it knows this token: a refusal should not wait for the hashing. What
 * is read at once waits for no answer.
 * @returns the token's team too, where the link is to be compared with it
 */
async function readWithAccess(
  client: ApiClient,
  request: DeployRequest,
  known: KnownFiles | undefined,
  options: DeployOptions,
): Promise<{ source: Source; teamId: string | undefined }> {
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const { directory, link, prebuilt, target } = request;
  const onProgress = (files: number, bytes: number): void => options.onEvent?.({ type: "reading", files, bytes });
  const reading = readSource(directory, { prebuilt, target, known, signal, onProgress });
  try {
    if (link === undefined) {
      const late = sleep(quickMs, undefined, { signal }).catch(() => undefined);
      const quick = await Promise.race([reading, late]);
      if (quick !== undefined) return { source: quick, teamId: undefined };
    }
    const [source, { teamId }] = await Promise.all([reading, getUser(client, signal)]);
    return { source, teamId };
  } finally {
    stop.abort();
    await reading.catch(() => undefined);
  }
}

async function pollUntilFinal(
  client: ApiClient,
  id: string,
  news: News,
  tellState: (state: DeploymentFacts["state"]) => void,
  signal: AbortSignal | undefined,
): Promise<DeploymentFacts> {
  const startMs = performance.now();
  // It was just created: there will be news of it, or it is looked at soon.
  await news.wait(pollSteps[0].everyMs, signal);
  for (;;) {
    const deployment = news.final ?? (await getDeployment(client, id, signal));
    if (isFinal(deployment.state)) return deployment;
    // A deployment goes forward only: a line of its log may have told more than this answer, which was under way.
    if (deployment.state === "BUILDING") tellState("BUILDING");
    const waitedMs = performance.now() - startMs;
    const step = pollSteps.find(({ untilMs }) => waitedMs < untilMs) ?? pollSteps[2];
    await news.wait(step.everyMs, signal);
  }
}

interface FollowOptions {
  readonly signal: AbortSignal;
  /** Aborted when the deployment is final: its stream ends by itself and is not opened again. */
  readonly final: AbortSignal;
  readonly onLog: (stream: "stdout" | "stderr" | "command", text: string) => void;
}

/** Passes log lines on; never fails, since polling alone tells the outcome. A stream that ends too early is opened again. */
async function followEvents(client: ApiClient, id: string, news: News, options: FollowOptions): Promise<void> {
  const { signal, final, onLog } = options;
  let lastSerial = Number.NEGATIVE_INFINITY;
  for (;;) {
    try {
      for await (const event of deploymentEvents(client, id, signal)) {
        const { type, text } = event;
        if (type === "deployment-state")
          news.tell(isObject(event["deployment"]) ? parseDeployment(client, event["deployment"]) : undefined);
        else if (type === "alias-assigned") news.tell();
        // A stream that was opened again begins with the first line.
        const serial = Number(event["serial"] ?? Number.NaN);
        if (serial <= lastSerial) continue;
        if (!Number.isNaN(serial)) lastSerial = serial;
        if ((type === "stdout" || type === "stderr" || type === "command") && typeof text === "string") {
          onLog(type, text);
        }
      }
      news.tell();
    } catch (error) {
      if (!(error instanceof MayflyError && error.code === "server_unreachable")) return;
    }
    await sleep(reopenMs, undefined, { signal: AbortSignal.any([signal, final]) }).catch(() => undefined);
    if (signal.aborted || final.aborted) return;
  }
}

function failureOf(deployment: DeploymentFacts): MayflyError {
  const { id, url, errorCode } = deployment;
  const details = { id, url, ...(errorCode !== null && { errorCode }) };
  if (deployment.state === "CANCELED") return new MayflyError("canceled", `The deployment ${id} was canceled.`, { details });
  const code = errorCode !== null && isErrorCode(errorCode) ? errorCode : "deployment_failed";
  return new MayflyError(code, deployment.errorMessage ?? undefined, { details });
}

/** Wakes the poller when an event says that there is something to see. */
class News {
  #told = false;
  #wake: (() => void) | undefined;
  #final: DeploymentFacts | undefined;

  /** @param deployment as the event itself shows it */
  tell(deployment?: DeploymentFacts): void {
    if (deployment !== undefined && isFinal(deployment.state)) this.#final = deployment;
    this.#told = true;
    this.#wake?.();
  }

  /** The deployment, when it was told that it changes no more. */
  get final(): DeploymentFacts | undefined {
    return this.#final;
  }

  /** Until something is told, at most `ms`. @throws MayflyError canceled */
  async wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#told) {
      const early = new AbortController();
      this.#wake = () => early.abort();
      const either = signal ? AbortSignal.any([signal, early.signal]) : early.signal;
      await sleep(ms, undefined, { signal: either }).catch(() => undefined);
    }
    this.#told = false;
    if (signal?.aborted === true) throw new MayflyError("canceled");
  }
}
