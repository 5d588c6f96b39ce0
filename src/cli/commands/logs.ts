/** `mayfly logs`: the captured lines of a deployment's Functions or build, or its requests, once or as they come. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "../../client/client.ts";
import {
  getDeployment,
  isFinal,
  listRequests,
  type DeploymentFacts,
  type RequestFacts,
  readLogs,
  type LogEntry,
  type LogLineFacts,
  type LogQuery,
} from "../../client/deployments.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command, type Invocation } from "../command.ts";
import { parseSince, usageError } from "../flags.ts";
import { formatDuration, formatTime, type Terminal } from "../output.ts";
import { chosenDeployment } from "../project.ts";
import { openSession } from "../session.ts";

/** Pause before a stream that the server ended is opened again, in ms. */
const reopenMs = 1000;
/** How often a followed build is asked whether it is final, in ms. */
const buildPollMs = 500;
/** How often a server is asked for new requests, in ms, and how late one may be written down. */
const requestPollMs = 1000;
const requestLateMs = 5000;
/** A server that is gone for so many pauses in a row is not coming back. */
const reopenMax = 30;

export const logs: Command = {
  name: "logs",
  summary: "Show what Functions and builds have logged.",
  usage: "logs [DEPLOYMENT] [options]",
  description:
    "Prints a deployment's captured lines, oldest first: time, Function, invocation, text. DEPLOYMENT is an id, a host or a URL; without " +
    "one it is the production of the project that this directory is linked to. The server keeps the last 1,000 lines of each Function and each build; how many are gone is said on stderr. With --requests it prints requests instead, to files and Functions alike: time, status, method, host and path, what answered, cache, duration. With --json: one object a line.",
  flags: {
    follow: { type: "boolean", short: "f", doc: "Go on with new lines as they come, until Ctrl-C." },
    function: { type: "string", value: "NAME", doc: "Only this Function: api/date." },
    "request-id": { type: "string", value: "ID", doc: "Only the invocation that answered with this request id (x-vercel-id)." },
    requests: { type: "boolean", doc: "Requests instead of lines, to files and Functions alike." },
    status: { type: "string", value: "CODE", doc: "Only of requests that were answered so: 500, or 5xx; lines not with --follow." },
    search: { type: "string", value: "TEXT", doc: "Only lines that have this text; upper and lower case are the same." },
    since: { type: "string", value: "WHEN", doc: "Only younger lines: 30s, 10m, 2h, 1d, or a date (2026-11-22T04:00)." },
    limit: { type: "string", value: "N", doc: "At most the last N lines." },
    build: { type: "boolean", doc: "The log of the build." },
    ...apiFlags,
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly logs shop.localhost -f", does: "Watch production." },
    { run: "mayfly logs shop.localhost --requests --status 4xx", does: "What is asked for and not there?" },
    { run: "mayfly logs dpl_8kq2… --function api/date --since 10m", does: "One Function's last ten minutes." },
    { run: "mayfly logs shop.localhost --status 5xx --since 1h", does: "What went wrong in the last hour." },
    { run: "mayfly logs dpl_8kq2… --build", does: "Why did it fail to build?" },
    { run: "mayfly logs shop.localhost --json | jq 'select(.stream == \"stderr\")'", does: "For machines." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const status = invocation.value("status");
    if (status !== undefined && !/^[1-5](\d\d|xx)$/.test(status))
      throw usageError(logs, `--status is "${status}"; it looks like 500 or 5xx.`);
    const wantsRequests = invocation.has("requests");
    if (status !== undefined && !wantsRequests && (invocation.has("follow") || invocation.has("build"))) {
      throw usageError(logs, "--status is of requests that were answered: it goes with neither --follow nor --build.");
    }
    if (wantsRequests && (invocation.has("build") || invocation.has("function"))) {
      throw usageError(logs, "--requests goes with neither --build nor --function.");
    }
    const search = invocation.value("search")?.toLowerCase();
    const since = parseSince(logs, invocation.value("since"));
    const limit = parseLimit(invocation.value("limit"));
    const query: LogQuery = {
      source: invocation.has("build") ? "build" : "function",
      functionName: invocation.value("function"),
      requestId: invocation.value("request-id"),
      since,
      limit,
      follow: invocation.has("follow"),
    };
    using client = await openSession(invocation);
    const ref = await chosenDeployment(invocation, client);
    if (wantsRequests) {
      const asked = { statusCode: status, since, search: invocation.value("search"), requestId: query.requestId, limit };
      return showRequests(invocation, client, await getDeployment(client, ref), asked);
    }
    const answered =
      status === undefined ? undefined : await listRequests(client, await getDeployment(client, ref), { statusCode: status, since });
    const requests = answered && new Set(answered.map(({ requestId }) => requestId));
    const json = invocation.has("json");
    let shown = 0;
    const show = (entry: LogEntry): void => {
      if (!("dropped" in entry)) {
        if (requests?.has(entry.invocationId) === false) return;
        if (search !== undefined && !entry.text.toLowerCase().includes(search)) return;
      }
      shown++;
      if (json) terminal.json(entry);
      if ("dropped" in entry) terminal.note(terminal.paintNote("yellow", `${entry.dropped} older lines were dropped.`));
      else if (!json) terminal.out(formatLine(entry, terminal));
    };
    if (query.follow !== true) {
      for await (const entry of readLogs(client, ref, query)) show(entry);
      if (shown === 0) terminal.note("There is no such line.");
      return 0;
    }
    const signal = invocation.interruption();
    try {
      if (query.source === "build") await followBuild(client, ref, query, signal, show);
      else await followLogs(client, ref, query, signal, show);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    return signal.aborted ? 1 : 0;
  },
};

type AskedRequests = Parameters<typeof listRequests>[2];

/** Prints requests, the oldest first; with --follow, new ones as they come. */
async function showRequests(invocation: Invocation, client: ApiClient, deployment: DeploymentFacts, asked: AskedRequests): Promise<number> {
  const { terminal } = invocation;
  const show = (request: RequestFacts): void => {
    if (invocation.has("json")) terminal.json(request);
    else terminal.out(formatRequest(request, terminal));
  };
  const follows = invocation.has("follow");
  const first = await listRequests(client, deployment, follows ? { ...asked, limit: undefined } : asked);
  for (const request of first.slice(0, asked.limit).toReversed()) show(request);
  if (!follows) {
    if (first.length === 0) terminal.note("There is no such request.");
    return 0;
  }
  const signal = invocation.interruption();
  // Of the last seconds only: requests are written down when they are over.
  let shown = new Map(first.map(({ requestId, timestampMs }) => [requestId, timestampMs]));
  for (let failures = 0; !signal.aborted;) {
    await sleep(requestPollMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) break;
    const newest = Math.max(asked.since ?? 0, ...shown.values());
    try {
      const found = await listRequests(client, deployment, { ...asked, since: Math.max(0, newest - requestLateMs), limit: undefined });
      failures = 0;
      for (const request of found.toReversed()) {
        if (!shown.has(request.requestId)) show(request);
        shown.set(request.requestId, request.timestampMs);
      }
      shown = new Map([...shown].filter(([, at]) => at >= newest - requestLateMs));
    } catch (error) {
      const isOutage = error instanceof MayflyError && (error.code === "server_unreachable" || error.code === "server_closing");
      if (!isOutage || ++failures > reopenMax) throw error;
    }
  }
  return 1;
}

function formatRequest(request: RequestFacts, terminal: Terminal): string {
  const { status } = request;
  const columns = [
    terminal.paint("dim", formatTime(request.timestampMs)),
    terminal.paint(status >= 500 ? "red" : status >= 400 ? "yellow" : "green", String(status)),
    request.method,
    terminal.foreign(`${request.host}${request.path}`),
    terminal.paint("cyan", request.source),
    request.cache === "" ? "-" : request.cache,
    terminal.paint("dim", formatDuration(request.durationMs)),
  ];
  return columns.join("  ");
}

/** Follows a build until it is final. What the stream had not brought by then is read at the end. */
async function followBuild(
  client: ApiClient,
  ref: string,
  query: LogQuery,
  signal: AbortSignal,
  show: (entry: LogEntry) => void,
): Promise<void> {
  let lastSerial = 0;
  const showNew = (entry: LogEntry): void => {
    if (!("dropped" in entry)) {
      if (entry.serial <= lastSerial) return;
      lastSerial = entry.serial;
    } else if (lastSerial > 0) return;
    show(entry);
  };
  const final = new AbortController();
  const following = followLogs(client, ref, query, AbortSignal.any([signal, final.signal]), showNew);
  // Told apart from the polling's own failure below; a rejection must not go unheard meanwhile.
  following.catch(() => undefined);
  try {
    while (!isFinal((await getDeployment(client, ref, signal)).state)) await sleep(buildPollMs, undefined, { signal });
  } finally {
    final.abort();
  }
  await following.catch((error: unknown) => {
    if (!(error instanceof MayflyError && error.code === "canceled")) throw error;
  });
  for await (const entry of readLogs(client, ref, { ...query, follow: false, limit: lastSerial === 0 ? query.limit : undefined }))
    showNew(entry);
}

/** Follows across restarts of the server; the log of a finished build ends by itself. */
async function followLogs(
  client: ApiClient,
  ref: string,
  query: LogQuery,
  signal: AbortSignal,
  show: (entry: LogEntry) => void,
): Promise<void> {
  let last: LogLineFacts | undefined;
  // A deployment or a server that was never there is an error now; one that goes away later may come back.
  await getDeployment(client, ref, signal);
  for (let failures = 0; !signal.aborted;) {
    try {
      const resumed = last === undefined ? query : { ...query, since: last.timestampMs, limit: undefined };
      for await (const entry of readLogs(client, ref, resumed, signal)) {
        if ("dropped" in entry) {
          if (last === undefined) show(entry);
          continue;
        }
        if (last !== undefined && entry.serial <= last.serial) continue;
        last = entry;
        failures = 0;
        show(entry);
      }
    } catch (error) {
      const isOutage = error instanceof MayflyError && (error.code === "server_unreachable" || error.code === "server_closing");
      if (!isOutage || ++failures > reopenMax) throw error;
    }
    await sleep(reopenMs, undefined, { signal }).catch(() => undefined);
  }
}

function formatLine(line: LogLineFacts, terminal: Terminal): string {
  const text = terminal.foreign(line.text);
  const columns = [
    terminal.paint("dim", formatTime(line.timestampMs)),
    terminal.paint("cyan", line.functionName || (line.source === "build" ? "build" : "-")),
    terminal.paint("dim", line.invocationId || "-"),
    line.stream === "stderr" ? terminal.paint("red", text) : line.stream === "system" ? terminal.paint("yellow", text) : text,
  ];
  return columns.join("  ");
}

function parseLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,6}$/.test(text)) throw usageError(logs, `--limit is "${text}"; it is a whole number from 1.`);
  return Number(text);
}
