/**
 * What the host is told of a commit: its status, its deployment with the URL, and one comment on the pull request, kept up
 * to date. Made from the store alone, so that a report after a restart or an hour's silence says what is true by then.
 */
import { createHash } from "node:crypto";
import { branchHost } from "../deploy/alias.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { DeploymentState, GitConnection } from "../model.ts";
import { findGitConnection, listRepositoryConnections } from "../store/git-connections.ts";
import {
  findComment,
  markReported,
  newestReportOf,
  postponeReport,
  postponeReportsOf,
  recordComment,
  setHostDeployment,
  type GitReport,
} from "../store/git-reports.ts";
import { findProject } from "../store/projects.ts";
import { accessOf, repositoryOf, type GitContext } from "./context.ts";
import type { GitAccess, GitHost, Report, ReportState } from "./git-host.ts";

/** Hosts take 140 characters. */
const descriptionLengthMax = 140;
/** What the host refuses is tried so often: rights may be granted meanwhile. */
const refusalsMax = 5;
const backOffMs = { first: 1000, max: 600_000, refused: 60_000 } as const;

const stateOf: Readonly<Record<DeploymentState, ReportState>> = {
  QUEUED: "queued",
  BUILDING: "building",
  READY: "ready",
  ERROR: "failed",
  CANCELED: "canceled",
};

/** What the store compares with what was posted. */
const storedState = (report: GitReport): string => report.outcome ?? report.deployment?.state ?? "CANCELED";

function reportState({ outcome, deployment }: GitReport): ReportState {
  if (deployment?.errorCode === "BUILD_SKIPPED") return "skipped";
  return outcome ?? stateOf[deployment?.state ?? "CANCELED"];
}

/** Posts what the host does not know yet; what fails is put off, as long as the host asks or longer and longer. */
export async function post(context: GitContext, due: GitReport): Promise<void> {
  const { store } = context.deploy;
  const state = storedState(due);
  const connection = await findGitConnection(store, due.connectionId);
  if (connection === null) return;
  try {
    const host = await context.host(connection.provider);
    const access = await accessOf(context, connection);
    const report = await reportOf(context, connection, due);
    await host.postStatus(access, report);
    if (host.can.deployments && due.deploymentId !== null) {
      const id = await host.postDeployment(access, report, due.hostDeploymentId);
      if (id !== due.hostDeploymentId) await setHostDeployment(store, due.id, id);
    }
    if (due.pullRequest !== null) await postComment(context, host, access, connection, due.pullRequest);
    await markReported(store, due.id, state);
  } catch (error) {
    await putOff(context, due, state, error);
  }
}

async function putOff({ deploy: { store, clock }, log }: GitContext, due: GitReport, state: string, error: unknown): Promise<void> {
  const message = messageOf(error);
  const refused = error instanceof MayflyError && ["git_host_refused", "git_refused"].includes(error.code);
  if (refused && due.attempts + 1 >= refusalsMax) {
    log(`git: the host was not told that ${due.sha.slice(0, 7)} is ${state}: ${message}`);
    await markReported(store, due.id, state, message);
    return;
  }
  const asked = error instanceof MayflyError ? error.details["retryAfterMs"] : undefined;
  const pause = refused ? backOffMs.refused : Math.min(backOffMs.first * 2 ** due.attempts, backOffMs.max);
  const dueAt = clock.now() + Math.max(pause, typeof asked === "number" ? asked : 0);
  await postponeReport(store, due.id, message, dueAt);
  // A limit is the whole connection's: asking for its other commits would only make it longer.
  if (typeof asked === "number") await postponeReportsOf(store, due.connectionId, dueAt);
}

async function reportOf(context: GitContext, connection: GitConnection, report: GitReport): Promise<Report> {
  const { store, config } = context.deploy;
  const name = (await findProject(store, connection.teamId, connection.projectId))?.name ?? "";
  const state = reportState(report);
  const text = report.description ?? descriptions[state];
  const why = state === "failed" && report.deployment?.errorMessage ? `${text} ${report.deployment.errorMessage.split("\n", 1)[0]!}` : text;
  return {
    repository: repositoryOf(connection),
    sha: report.sha,
    branch: report.branch,
    context: `Mayfly – ${name}`,
    environment: `${report.production ? "Production" : "Preview"} – ${name}`,
    production: report.production,
    state,
    description: why.length > descriptionLengthMax ? `${why.slice(0, descriptionLengthMax - 1)}…` : why,
    url: context.publicUrlOf(report.deployment?.host ?? config.domain),
  };
}

const descriptions: Readonly<Record<ReportState, string>> = {
  waiting: "It waits for a member's approval.",
  queued: "It waits for its build.",
  building: "It is being built.",
  ready: "It is ready.",
  failed: "It failed.",
  canceled: "It was canceled.",
  skipped: "Nothing was to be deployed.",
};

const words: Readonly<Record<ReportState, string>> = {
  waiting: "🔒 Waits for approval",
  queued: "⏳ Queued",
  building: "🔨 Building",
  ready: "✅ Ready",
  failed: "❌ Failed",
  canceled: "⏹️ Canceled",
  skipped: "⏭️ Skipped",
};

/** One comment for all projects of the repository: written when its text has changed. */
async function postComment(
  context: GitContext,
  host: GitHost,
  access: GitAccess,
  connection: GitConnection,
  pullRequest: number,
): Promise<void> {
  const { store, config } = context.deploy;
  const { baseUrl, repositoryId } = connection;
  const place = { baseUrl, repositoryId, pullRequest };
  const marker = `<!-- mayfly ${config.domain} ${connection.teamId} -->`;
  const rows: string[] = [];
  for (const each of await listRepositoryConnections(store, connection)) {
    const newest = await newestReportOf(store, each.id, pullRequest);
    if (newest !== null) rows.push(await commentRow(context, each, newest));
  }
  const text = `${marker}\n| Project | State | Preview | Commit | Built in | Updated (UTC) |\n|---|---|---|---|---|---|\n${rows.join("\n")}\n`;
  const textDigest = createHash("sha256").update(text).digest("hex");
  const known = await findComment(store, place);
  if (known.textDigest === textDigest) return;
  let commentId: string;
  try {
    commentId = await host.postComment(access, repositoryOf(connection), pullRequest, { text, marker }, known.commentId);
  } catch (error) {
    const gone = known.commentId !== null && error instanceof MayflyError && error.details["hostStatus"] === 404;
    if (!gone) throw error;
    commentId = await host.postComment(access, repositoryOf(connection), pullRequest, { text, marker }, null); // somebody removed it
  }
  await recordComment(store, place, { commentId, textDigest });
}

async function commentRow(context: GitContext, connection: GitConnection, report: GitReport): Promise<string> {
  const { store, config } = context.deploy;
  const name = (await findProject(store, connection.teamId, connection.projectId))?.name ?? "";
  const { deployment } = report;
  const state = reportState(report);
  const fork = report.outcome === "waiting" || report.fork;
  const hosts = [
    ...(deployment === null ? [] : [`[this commit](${context.publicUrlOf(deployment.host)})`]),
    ...(fork || state !== "ready" ? [] : [`[branch](${context.publicUrlOf(branchHost(name, report.branch, config.domain))})`]),
  ];
  const built = deployment?.buildingAt != null && deployment.readyAt !== null ? seconds(deployment.readyAt - deployment.buildingAt) : "";
  const at = new Date(deployment?.readyAt ?? deployment?.buildingAt ?? report.createdAt).toISOString().slice(0, 16).replace("T", " ");
  const why = report.description === null ? "" : `: ${plain(report.description)}`;
  return `| **${name}** | ${words[state]}${why} | ${hosts.join(" · ")} | \`${report.sha.slice(0, 7)}\` | ${built} | ${at} |`;
}

const seconds = (ms: number): string =>
  ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;

/** Text as a cell of a table, without a meaning in Markdown; a zero-width space keeps hosts from telling whoever is named. */
const plain = (text: string): string =>
  text
    .replaceAll(/[\r\n]+/g, " ")
    .replaceAll(/[\\|<>[\]`*_~#]/g, (character) => `\\${character}`)
    .replaceAll("@", "@\u200b");
