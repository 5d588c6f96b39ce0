/** What was captured: build events and Function lines, as newline-delimited JSON that may be followed; requests by page. */
import { Readable } from "node:stream";
import { isFinal } from "../deploy/deploy.ts";
import { MayflyError } from "../errors.ts";
import type { LogQuery } from "../logs/log-store.ts";
import type { Deployment, LoggedRequest, LogLine, StoredLogLine } from "../model.ts";
import { listAliases } from "../store/aliases.ts";
import { findDeployment, listDeployments } from "../store/deployments.ts";
import { deploymentJson } from "./deployments.ts";
import { ofDeployment, ofProjects, theDeployment, theProject, type DeploymentCall, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { count, oneOf, string, time, timeOf } from "./schema.ts";

/** How often the log of a followed deployment is looked at: the longest that a line is late. */
const linesPollMs = 50;
/** Every so many of these looks the deployment too is looked at; its end is told, unless another control plane has made it. */
const looksOfState = 10;
/** Of `request-logs`: rows in a page, and the newest deployments of a project that are looked at. */
const requestPageSize = 50;
const requestDeploymentsMax = 100;

export const logEndpoints: readonly Endpoint[] = [
  ofDeployment({
    // The official client opens it beside its poll, and again after a failure until the line with the error has come.
    method: "GET",
    path: "/deployments/:deployment/events",
    summary: "Lines of a deployment's build; with `follow=1` until it is final",
    access: "read",
    query: { follow: string, format: string, direction: string, limit: string, name: string },
    async handle(call) {
      const { deployment } = call;
      if (call.query["follow"] === "1") return ndjson(followBuild(call, deployment));
      const { lines } = await call.context.logs.query({ deploymentId: deployment.id, source: "build" });
      const events = lines.map((line) => eventJson(line, deployment));
      return call.query["format"] === "lines" ? ndjson(Readable.from(events)) : events;
    },
  }),
  ofDeployment({
    method: "GET",
    path: "/projects/:project/deployments/:deployment/runtime-logs",
    summary: "Lines of a deployment's Functions as they come",
    access: "read",
    query: { format: string },
    handle: async (call) =>
      ndjson(follow(call, { deploymentId: call.deployment.id, source: "function" }, (line) => runtimeLogJson(line, call.deployment))),
  }),
  ofProjects({
    // What `vercel logs` shows: requests with their lines, the newest first.
    method: "GET",
    path: "/api/logs/request-logs",
    summary: "Requests to a project's deployments with the lines that Functions wrote in each, in pages",
    access: "read",
    query: {
      projectId: string,
      ownerId: string,
      page: count,
      startDate: time,
      endDate: time,
      deploymentId: string,
      environment: string,
      level: string,
      statusCode: { type: "string", pattern: "^[1-5]([0-9]{2}|xx)$" },
      source: string,
      search: string,
      requestId: string,
      branch: string,
    },
    handle: (call) => requestLogs(call),
  }),
  ofDeployment({
    // Our own client's: build and Function lines alike, as they are kept.
    method: "GET",
    path: "/mayfly/deployments/:deployment/logs",
    summary: "Lines of a deployment's build and Functions as they are kept; with `follow=1` as they come",
    access: "read",
    query: {
      source: oneOf("build", "function"),
      functionName: string,
      requestId: string,
      since: time,
      limit: count,
      follow: oneOf("0", "1"),
    },
    async handle(call) {
      const query = parseLogQuery(call);
      const { lines, dropped } = await call.context.logs.query(query);
      const head = [...(dropped > 0 ? [{ dropped }] : []), ...lines];
      if (call.query["follow"] !== "1") return ndjson(Readable.from(head));
      const afterSerial = lines.at(-1)?.serial ?? 0;
      return ndjson(
        (async function* () {
          yield* head;
          yield* follow(call, { ...query, afterSerial }, (line) => line);
        })(),
      );
    },
  }),
];

async function requestLogs(call: EndpointCall) {
  const { context, query } = call;
  const asked = query["deploymentId"];
  const projectId = query["projectId"] ?? call.identity.token.projectId;
  if (projectId === null) throw new MayflyError("bad_request", "Query parameter `projectId` is missing.");
  const project = await theProject(call, projectId);
  const { environment, branch } = query;
  const deployments =
    asked !== undefined
      ? [await theDeployment(call, asked)]
      : await listDeployments(context.store, {
          teamId: project.teamId,
          projectId: project.id,
          limit: requestDeploymentsMax,
          states: ["READY"],
          ...(environment === "production" || environment === "preview" ? { target: environment } : {}),
          ...(branch === undefined ? {} : { branch }),
        });
  const byId = new Map(deployments.filter(({ projectId }) => projectId === project.id).map((deployment) => [deployment.id, deployment]));
  const sinceMs = timeOf(query, "startDate");
  const untilMs = timeOf(query, "endDate");
  const { search, requestId, statusCode, level } = query;
  const requests = await context.logs.queryRequests({
    deploymentIds: [...byId.keys()],
    offset: Number(query["page"] ?? 0) * requestPageSize,
    limit: requestPageSize + 1,
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(untilMs === undefined ? {} : { untilMs }),
    ...(search === undefined ? {} : { search }),
    ...(requestId === undefined ? {} : { requestId: requestId.slice(requestId.lastIndexOf(":") + 1) }),
    ...(statusCode === undefined ? {} : { status: statusCode }),
  });
  const levels = level?.split(",");
  const rows = [];
  for (const request of requests.slice(0, requestPageSize)) {
    const { lines } = await context.logs.query({ deploymentId: request.deploymentId, invocationId: request.requestId });
    const logs = lines.map((line) => ({ level: levelOf(line), message: line.text, messageTruncated: false }));
    if (levels !== undefined && !logs.some((line) => levels.includes(line.level))) continue;
    rows.push(requestJson(request, byId.get(request.deploymentId)!, logs));
  }
  return { rows, hasMoreRows: requests.length > requestPageSize };
}

function requestJson(request: LoggedRequest, deployment: Deployment, logs: readonly object[]) {
  const timestamp = new Date(request.timestampMs).toISOString();
  const { method, path, status, host } = request;
  return {
    requestId: request.requestId,
    timestamp,
    deploymentId: request.deploymentId,
    deploymentDomain: deployment.host,
    requestMethod: method,
    requestPath: path,
    statusCode: status,
    environment: deployment.target,
    branch: deployment.git?.branch ?? "",
    domain: host,
    cache: request.cache,
    requestDurationMs: request.durationMs,
    logs,
    events: [{ ...eventOf(request), timestamp, httpStatus: status, region: "" }],
  };
}

/** What answered, in the words of Vercel's clients. */
function eventOf({ answeredBy, functionName, path }: LoggedRequest) {
  switch (answeredBy) {
    case "function":
    case "cache":
      return { source: "serverless", route: `/${functionName}`, pathType: "func" };
    case "middleware":
      return { source: "edge-middleware", route: `/${functionName}`, pathType: "middleware" };
    case "redirect":
    case "external":
      return { source: answeredBy, route: path, pathType: answeredBy };
    default:
      return { source: "static", route: path, pathType: answeredBy };
  }
}

const levelOf = ({ stream }: Pick<LogLine, "stream">): string => (stream === "stdout" ? "info" : stream === "stderr" ? "error" : "warning");

function parseLogQuery({ deployment, query }: DeploymentCall): LogQuery {
  const sinceMs = timeOf(query, "since");
  return {
    deploymentId: deployment.id,
    ...(query["source"] === "build" || query["source"] === "function" ? { source: query["source"] } : {}),
    ...(query["functionName"] === undefined ? {} : { functionName: query["functionName"] }),
    ...(query["requestId"] === undefined ? {} : { invocationId: query["requestId"] }),
    ...(sinceMs === undefined ? {} : { sinceMs }),
    ...(Number(query["limit"]) > 0 ? { limit: Number(query["limit"]) } : {}),
  };
}

/** A stream of JSON lines, ended when the client goes or the server closes. */
function ndjson(events: AsyncIterable<unknown>): Readable {
  return Readable.from(
    (async function* () {
      for await (const event of events) yield JSON.stringify(event) + "\n";
    })(),
    { objectMode: false },
  );
}

async function* follow(call: EndpointCall, query: LogQuery, toJson: (line: StoredLogLine) => unknown): AsyncIterable<unknown> {
  for await (const line of call.context.logs.follow(query, call.signal)) yield toJson(line);
}

/** Build lines until the deployment is final; then what is left of them and how it ended. */
async function* followBuild(call: EndpointCall, deployment: Deployment): AsyncIterable<unknown> {
  const { logs, store, clock, news } = call.context;
  let afterSerial = 0;
  let isTold = true;
  let now: Deployment | null = deployment;
  for (let look = 0; ; look++) {
    // What is told from here on is news of after the look.
    const told = news.wait(deployment.id, linesPollMs);
    // Before the lines: a deployment that is final has no more of them.
    if (isTold || look % looksOfState === 0) now = await findDeployment(store, deployment.teamId, deployment.id);
    const { lines } = await logs.query({ deploymentId: deployment.id, source: "build", afterSerial });
    for (const line of lines) yield eventJson(line, now ?? deployment);
    afterSerial = lines.at(-1)?.serial ?? afterSerial;
    if (now === null || call.signal.aborted) return;
    if (isFinal(now.state)) {
      const aliases = await listAliases(store, { deploymentId: deployment.id });
      yield* endEvents(now, deploymentJson(call, now, aliases), clock.now());
      return;
    }
    isTold = await told;
  }
}

/** @param json the deployment, as it is given: with it our own client has no more to ask */
function* endEvents(deployment: Deployment, json: ReturnType<typeof deploymentJson>, date: number) {
  const of = { deploymentId: deployment.id, created: date, date };
  yield {
    type: "deployment-state",
    ...of,
    payload: { readyState: deployment.state },
    info: { readyState: deployment.state },
    deployment: json,
  };
  // With this line the official client stops waiting at once.
  if (deployment.state === "READY")
    yield { type: "alias-assigned", ...of, alias: [deployment.host, ...json.alias], aliasError: null, aliasWarning: null };
}

function eventJson(line: StoredLogLine, deployment: Deployment) {
  // The platform's own lines are warnings, but for those that say why the deployment failed.
  const level = line.stream !== "system" ? {} : { level: deployment.errorMessage?.includes(line.text) === true ? "error" : "warning" };
  return {
    type: line.stream === "stderr" ? "stderr" : "stdout",
    created: line.timestampMs,
    date: line.timestampMs,
    deploymentId: line.deploymentId,
    id: String(line.serial),
    serial: String(line.serial),
    text: line.text,
    info: { type: "build", name: `bld_${line.deploymentId.slice(4)}`, entrypoint: "." },
    ...level,
  };
}

function runtimeLogJson(line: LogLine & { serial: number }, deployment: Deployment) {
  return {
    level: levelOf(line),
    message: line.text,
    messageTruncated: false,
    rowId: String(line.serial),
    requestId: line.invocationId,
    source: "serverless",
    timestampInMs: line.timestampMs,
    domain: deployment.host,
    requestMethod: "",
    requestPath: `/${line.functionName}`,
    responseStatusCode: 0,
  };
}
