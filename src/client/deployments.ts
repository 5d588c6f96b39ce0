/**
 * The API's resources as the client sees them: deployments, their outputs and logs, projects. Hides paths, query names
 * and the tolerance for fields that a server leaves out; what it returns is checked and complete.
 */
import { MayflyError } from "../errors.ts";
import type { DeploymentState, Target } from "../model.ts";
import type { ApiClient } from "./client.ts";
import { isObject, number, object, objects, text, texts, type JsonObject } from "./json.ts";
import type { SourceFile } from "./source.ts";

/** How much of a build was re-used. */
export interface BuildSummary {
  readonly functions: number;
  readonly built: number;
  readonly cached: number;
  /** Duration of the build. */
  readonly ms: number;
}

/** A deployment as the API tells it. */
export interface DeploymentFacts {
  readonly id: string;
  /** Bare host, without port. */
  readonly host: string;
  /** The complete URL, with scheme and port. */
  readonly url: string;
  /** The project's name. */
  readonly name: string;
  readonly projectId: string | null;
  readonly state: DeploymentState;
  readonly target: Target;
  readonly aliases: readonly string[];
  readonly creator: string | null;
  readonly createdAtMs: number | null;
  readonly readyAtMs: number | null;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
  readonly buildSummary: BuildSummary | null;
}

export interface CreateRequest {
  readonly name: string;
  /** Id of the project; without it the project is the one of that name, made when there is none. */
  readonly project?: string | undefined;
  readonly files: readonly SourceFile[];
  readonly target: Target;
  readonly prebuilt: boolean;
  /** Build without any cache. */
  readonly force: boolean;
  readonly env: Readonly<Record<string, string>>;
  readonly buildEnv: Readonly<Record<string, string>>;
}

/** One output of a deployment: a static file or a Function. */
export interface OutputFacts {
  readonly path: string;
  readonly kind: "static" | "function";
  /** Bytes; of a Function, its bundle. */
  readonly size: number;
  readonly digest: string | null;
  readonly functionName: string | null;
  readonly runtime: string | null;
  readonly memoryMB: number | null;
  readonly maxDurationS: number | null;
  readonly regions: readonly string[];
}

export interface LogQuery {
  readonly source: "function" | "build";
  readonly functionName?: string | undefined;
  readonly requestId?: string | undefined;
  /** Milliseconds since 1970. */
  readonly since?: number | undefined;
  readonly limit?: number | undefined;
  readonly follow?: boolean | undefined;
}

/** One line of a log, or how many older ones are gone. */
export type LogEntry = LogLineFacts | { readonly dropped: number };

export interface LogLineFacts {
  readonly serial: number;
  readonly timestampMs: number;
  readonly source: string;
  readonly functionName: string;
  readonly invocationId: string;
  readonly stream: string;
  readonly text: string;
}

/**
 * Creates a deployment, unless the server lacks files.
 * @param inline bytes by their SHA-1, of files that are sent with the call
 * @returns the deployment, or the digests to upload before trying again
 */
export async function createDeployment(
  client: ApiClient,
  request: CreateRequest,
  inline: ReadonlyMap<string, Buffer> = new Map(),
): Promise<{ readonly created: DeploymentFacts } | { readonly missing: readonly string[] }> {
  const body = {
    version: 2,
    name: request.name,
    ...(request.project !== undefined && { project: request.project }),
    files: request.files.map(({ path, sha, size, mode }) => {
      const bytes = inline.get(sha);
      return bytes === undefined
        ? { file: path, sha, size, mode }
        : { file: path, mode, data: bytes.toString("base64"), encoding: "base64" };
    }),
    ...(request.target === "production" && { target: "production" }),
    env: request.env,
    build: { env: request.buildEnv },
    meta: {},
    projectSettings: {},
    source: "cli",
  };
  const query = {
    skipAutoDetectionConfirmation: 1,
    forceNew: request.force ? 1 : undefined,
    prebuilt: request.prebuilt ? 1 : undefined,
  };
  try {
    return { created: parseDeployment(client, await client.call("POST", "/v13/deployments", { query, body })) };
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== "missing_files") throw error;
    const missing = error.details["missing"];
    if (!Array.isArray(missing) || !missing.every((sha) => typeof sha === "string")) throw error;
    return { missing };
  }
}

/** A new deployment from the source of an earlier one. @throws MayflyError not_found, conflict */
export async function redeployDeployment(client: ApiClient, earlier: DeploymentFacts, target: Target): Promise<DeploymentFacts> {
  const body = {
    deploymentId: earlier.id,
    name: earlier.name,
    meta: { action: "redeploy" },
    ...(target === "production" && { target }),
  };
  return parseDeployment(client, await client.call("POST", "/v13/deployments", { query: { forceNew: 1 }, body }));
}

/** @throws MayflyError not_found and the client's own */
export async function getDeployment(client: ApiClient, idOrHost: string, signal?: AbortSignal): Promise<DeploymentFacts> {
  return parseDeployment(client, await client.call("GET", `/v13/deployments/${encodeURIComponent(idOrHost)}`, { signal }));
}

/** The newest deployments first; `project` is a name. */
export async function listDeployments(client: ApiClient, project: string | undefined, limit: number): Promise<readonly DeploymentFacts[]> {
  const answer = await client.call("GET", "/v6/deployments", { query: { limit, app: project } });
  return objects(answer["deployments"]).map((deployment) => parseDeployment(client, deployment));
}

/** Whether a deployment in this state changes no more. */
export function isFinal(state: DeploymentState): boolean {
  return state === "READY" || state === "ERROR" || state === "CANCELED";
}

/** Stops a deployment that is not final yet. @throws MayflyError conflict when it is */
export async function cancelDeployment(client: ApiClient, id: string): Promise<void> {
  await client.call("PATCH", `/v12/deployments/${encodeURIComponent(id)}/cancel`, { body: {}, idempotent: true });
}

/** Removes a deployment for good. @throws MayflyError not_found */
export async function deleteDeployment(client: ApiClient, id: string): Promise<void> {
  await client.call("DELETE", `/now/deployments/${encodeURIComponent(id)}`);
}

/** Removes a project and all its deployments for good. @throws MayflyError not_found */
export async function deleteProject(client: ApiClient, idOrName: string): Promise<void> {
  await client.call("DELETE", `/v9/projects/${encodeURIComponent(idOrName)}`);
}

export interface UserFacts {
  readonly id: string;
  readonly username: string;
  readonly email: string;
  /** Whose the projects are. */
  readonly teamId: string;
}

/** Whom the token stands for. */
export async function getUser(client: ApiClient, signal?: AbortSignal): Promise<UserFacts> {
  const answer = await client.call("GET", "/v2/user", { signal });
  const user = isObject(answer["user"]) ? answer["user"] : answer;
  return {
    id: text(user["id"]) ?? "",
    username: text(user["username"]) ?? "",
    email: text(user["email"]) ?? "",
    teamId: text(user["defaultTeamId"]) ?? "",
  };
}

/** What a deployment's build did and yielded. */
export interface BuildFacts {
  /** Sorted by path. */
  readonly outputs: readonly OutputFacts[];
  /** What was built and what taken from an earlier build, the longest first. */
  readonly entrypoints: readonly EntrypointFacts[];
}

export interface EntrypointFacts {
  /** `api/date.ts` */
  readonly entrypoint: string;
  readonly builder: string;
  /** Taken from an earlier build. */
  readonly reused: boolean;
  readonly ms: number;
  /** Of its bundle. */
  readonly bytes: number | null;
}

export async function readBuild(client: ApiClient, id: string): Promise<BuildFacts> {
  const builds = objects((await client.call("GET", `/v11/deployments/${encodeURIComponent(id)}/builds`))["builds"]);
  return {
    outputs: builds
      .flatMap((build) => objects(build["output"]))
      .map(parseOutput)
      .sort((a, b) => (a.path < b.path ? -1 : 1)),
    entrypoints: builds
      .flatMap((build) => objects(build["entrypoints"]))
      .map((json) => ({
        entrypoint: text(json["entrypoint"]) ?? "",
        builder: text(json["builder"]) ?? "",
        reused: json["reused"] === true,
        ms: number(json["ms"]) ?? 0,
        bytes: number(json["bytes"]) ?? null,
      }))
      .sort((a, b) => b.ms - a.ms || (a.entrypoint < b.entrypoint ? -1 : 1)),
  };
}

/** The events of a deployment's build, from its beginning: each has a `type` and perhaps a `text`. */
export function deploymentEvents(client: ApiClient, id: string, signal?: AbortSignal): AsyncGenerator<JsonObject> {
  const query = { direction: "forward", follow: 1, format: "lines" };
  return client.lines(`/v3/now/deployments/${encodeURIComponent(id)}/events`, { query, signal });
}

/** A request to a deployment. */
export interface RequestFacts {
  /** {@link LogLineFacts.invocationId} of its lines. */
  readonly requestId: string;
  readonly status: number;
  readonly method: string;
  readonly path: string;
  readonly host: string;
  /** Milliseconds since 1970. */
  readonly timestampMs: number;
  readonly durationMs: number;
  /** `x-vercel-cache`; empty: none. */
  readonly cache: string;
  /** What answered: `static`, `serverless`, `redirect`, … */
  readonly source: string;
}

/** Requests per page, and pages that are read at most. */
const requestPagesMax = 20;

/** The requests to a deployment, the newest first. `statusCode`: `500`, or `5xx`. */
export async function listRequests(
  client: ApiClient,
  deployment: DeploymentFacts,
  query: {
    readonly statusCode: string | undefined;
    readonly since: number | undefined;
    readonly search?: string | undefined;
    readonly requestId?: string | undefined;
    readonly limit?: number | undefined;
  },
): Promise<readonly RequestFacts[]> {
  const requests: RequestFacts[] = [];
  for (let page = 0; page < requestPagesMax; page++) {
    const answer = await client.call("GET", "/api/logs/request-logs", {
      query: {
        projectId: deployment.projectId ?? deployment.name,
        deploymentId: deployment.id,
        page,
        startDate: query.since === undefined ? undefined : Math.floor(query.since),
        statusCode: query.statusCode,
        search: query.search,
        requestId: query.requestId,
      },
    });
    for (const row of objects(answer["rows"])) {
      requests.push({
        requestId: text(row["requestId"]) ?? "",
        status: number(row["statusCode"]) ?? 0,
        method: text(row["requestMethod"]) ?? "",
        path: text(row["requestPath"]) ?? "",
        host: text(row["domain"]) ?? "",
        timestampMs: Date.parse(text(row["timestamp"]) ?? ""),
        durationMs: number(row["requestDurationMs"]) ?? 0,
        cache: text(row["cache"]) ?? "",
        source: text(objects(row["events"])[0]?.["source"]) ?? "",
      });
    }
    if (answer["hasMoreRows"] !== true || (query.limit !== undefined && requests.length >= query.limit)) break;
  }
  return requests.slice(0, query.limit);
}

/** A deployment's captured lines, oldest first; with `follow`, new ones as they come. */
export async function* readLogs(client: ApiClient, idOrHost: string, query: LogQuery, signal?: AbortSignal): AsyncGenerator<LogEntry> {
  const { follow, ...rest } = query;
  const path = `/v1/mayfly/deployments/${encodeURIComponent(idOrHost)}/logs`;
  for await (const line of client.lines(path, { query: { ...rest, follow: follow === true ? 1 : undefined }, signal })) {
    if (typeof line["dropped"] === "number") yield { dropped: line["dropped"] };
    else if (typeof line["text"] === "string") yield parseLogLine(line, line["text"]);
  }
}

function parseLogLine(line: JsonObject, lineText: string): LogLineFacts {
  return {
    serial: number(line["serial"]) ?? 0,
    timestampMs: number(line["timestampMs"]) ?? 0,
    source: text(line["source"]) ?? "function",
    functionName: text(line["functionName"]) ?? "",
    invocationId: text(line["invocationId"]) ?? "",
    stream: text(line["stream"]) ?? "stdout",
    text: lineText,
  };
}

const states: ReadonlySet<string> = new Set<DeploymentState>(["QUEUED", "BUILDING", "READY", "ERROR", "CANCELED"]);

/** @throws MayflyError server_unreachable when it is none */
export function parseDeployment(client: ApiClient, json: JsonObject): DeploymentFacts {
  const id = text(json["id"]) ?? text(json["uid"]);
  const host = text(json["url"]);
  if (id === undefined || host === undefined) {
    throw new MayflyError("server_unreachable", `What answers at ${client.api} is not Mayfly's API: a deployment has no id or url.`);
  }
  const state = text(json["readyState"]) ?? text(json["state"]) ?? "QUEUED";
  return {
    id,
    host,
    url: text(json["publicUrl"]) ?? `https://${host}`,
    name: text(json["name"]) ?? "",
    projectId: text(json["projectId"]) ?? null,
    // INITIALIZING and the like are not final, which is all that matters here.
    state: states.has(state) ? (state as DeploymentState) : "QUEUED",
    target: json["target"] === "production" ? "production" : "preview",
    aliases: texts(json["alias"]),
    creator: text(object(json["creator"])["username"]) ?? null,
    createdAtMs: number(json["createdAt"]) ?? number(json["created"]) ?? null,
    readyAtMs: number(json["ready"]) ?? number(json["readyAt"]) ?? null,
    errorCode: text(json["errorCode"]) ?? null,
    errorMessage: text(json["errorMessage"]) ?? null,
    buildSummary: parseSummary(json["buildSummary"]),
  };
}

function parseSummary(json: unknown): BuildSummary | null {
  if (!isObject(json)) return null;
  const [functions, built, cached, ms] = [json["functions"], json["built"], json["cached"], json["ms"]].map(number);
  return { functions: functions ?? 0, built: built ?? 0, cached: cached ?? 0, ms: ms ?? 0 };
}

function parseOutput(json: JsonObject): OutputFacts {
  const lambda = object(json["lambda"]);
  return {
    path: text(json["path"]) ?? "",
    kind: json["type"] === "lambda" ? "function" : "static",
    size: number(json["size"]) ?? 0,
    digest: text(json["digest"]) ?? null,
    functionName: text(lambda["functionName"]) ?? null,
    runtime: text(lambda["runtime"]) ?? null,
    memoryMB: number(lambda["memory"]) ?? null,
    maxDurationS: number(lambda["maxDuration"]) ?? null,
    regions: texts(lambda["deployedTo"]),
  };
}
