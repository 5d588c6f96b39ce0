/**
 * What Git hosts are told of commits: a row for each commit of a connection says which state the host knows of. Whoever
 * reports compares it with the deployment's state, so nothing is lost by a restart and no queue can overflow: the newest
 * state is all there is to say.
 */
import { sql } from "kysely";
import type { DeploymentState, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";

/** A commit without a deployment has an outcome of its own. */
export type GitOutcome = "waiting" | "skipped" | "failed";

export interface NewGitReport {
  readonly id: string;
  readonly connectionId: string;
  readonly deploymentId: string | null;
  readonly sha: string;
  readonly branch: string;
  readonly pullRequest: number | null;
  readonly production: boolean;
  readonly fork: boolean;
  readonly outcome: GitOutcome | null;
  /** Why there is no deployment. */
  readonly description: string | null;
  readonly createdAt: TimestampMs;
}

export interface GitReport extends NewGitReport {
  /** Of the connection. */
  readonly baseUrl: string;
  readonly repositoryId: string;
  /** null: there is no deployment, or it has been deleted. */
  readonly deployment: {
    readonly state: DeploymentState;
    readonly host: string;
    readonly errorCode: string | null;
    readonly errorMessage: string | null;
    readonly buildingAt: TimestampMs | null;
    readonly readyAt: TimestampMs | null;
  } | null;
  /** The last state that the host knows of. */
  readonly posted: string | null;
  readonly hostDeploymentId: string | null;
  readonly attempts: number;
  readonly error: string | null;
}

export async function insertGitReport(store: Store, report: NewGitReport): Promise<void> {
  await store.db
    .insertInto("git_reports")
    .values({
      id: report.id,
      connection_id: report.connectionId,
      deployment_id: report.deploymentId,
      sha: report.sha,
      branch: report.branch,
      pull_request: report.pullRequest,
      production: report.production ? 1 : 0,
      fork: report.fork ? 1 : 0,
      outcome: report.outcome,
      description: report.description,
      posted: null,
      host_deployment_id: null,
      attempts: 0,
      due_at: report.createdAt,
      error: null,
      created_at: report.createdAt,
    })
    .execute();
}

/** Reports whose state the host does not know yet and whose time has come, the oldest first. */
export async function listDueReports(store: Store, now: TimestampMs, limit: number): Promise<GitReport[]> {
  const rows = await reports(store)
    .where("git_reports.due_at", "<=", now)
    .where(sql<boolean>`coalesce(git_reports.posted, '') <> coalesce(git_reports.outcome, deployments.state, 'CANCELED')`)
    .orderBy("git_reports.due_at")
    .limit(limit)
    .execute();
  return rows.map(toReport);
}

/** The newest report of a connection for a pull request; null when there is none. */
export async function newestReportOf(store: Store, connectionId: string, pullRequest: number): Promise<GitReport | null> {
  const row = await reports(store)
    .where("git_reports.connection_id", "=", connectionId)
    .where("git_reports.pull_request", "=", pullRequest)
    .orderBy("git_reports.created_at", "desc")
    .limit(1)
    .executeTakeFirst();
  return row === undefined ? null : toReport(row);
}

/** Of a connection, the newest first. */
export async function listReports(store: Store, connectionId: string, limit: number): Promise<GitReport[]> {
  const rows = await reports(store)
    .where("git_reports.connection_id", "=", connectionId)
    .orderBy("git_reports.created_at", "desc")
    .limit(limit)
    .execute();
  return rows.map(toReport);
}

/** When a postponed report is due next; null: none is. */
export async function nextReportAt(store: Store, now: TimestampMs): Promise<TimestampMs | null> {
  const row = await store.db
    .selectFrom("git_reports")
    .select((select) => select.fn.min("due_at").as("at"))
    .where("due_at", ">", now)
    .executeTakeFirst();
  return row === undefined || row.at === null ? null : Number(row.at);
}

/** The host knows this state now; or, with an error, it will never. */
export async function markReported(store: Store, id: string, posted: string, error: string | null = null): Promise<void> {
  await store.db.updateTable("git_reports").set({ posted, attempts: 0, error, due_at: 0 }).where("id", "=", id).execute();
}

export async function setHostDeployment(store: Store, id: string, hostDeploymentId: string): Promise<void> {
  await store.db.updateTable("git_reports").set({ host_deployment_id: hostDeploymentId }).where("id", "=", id).execute();
}

export async function postponeReport(store: Store, id: string, error: string, dueAt: TimestampMs): Promise<void> {
  await store.db
    .updateTable("git_reports")
    .set((set) => ({ error, due_at: dueAt, attempts: set("attempts", "+", 1) }))
    .where("id", "=", id)
    .execute();
}

/** A connection whose host asks for patience: none of its reports before `dueAt`. */
export async function postponeReportsOf(store: Store, connectionId: string, dueAt: TimestampMs): Promise<void> {
  await store.db
    .updateTable("git_reports")
    .set({ due_at: dueAt })
    .where("connection_id", "=", connectionId)
    .where("due_at", "<", dueAt)
    .execute();
}

/** A pull request has been opened for a branch: reports of its commit belong to it from now on, and are posted again. */
export async function attachPullRequest(store: Store, connectionId: string, sha: string, pullRequest: number): Promise<void> {
  await store.db
    .updateTable("git_reports")
    .set({ pull_request: pullRequest, posted: null, due_at: 0 })
    .where("connection_id", "=", connectionId)
    .where("sha", "=", sha)
    .where((where) => where.or([where("pull_request", "is", null), where("pull_request", "!=", pullRequest)]))
    .execute();
}

/** A newer word about the same commit takes an older one's place. */
export async function deleteOutcomes(store: Store, connectionId: string, sha: string): Promise<void> {
  await store.db
    .deleteFrom("git_reports")
    .where("connection_id", "=", connectionId)
    .where("sha", "=", sha)
    .where("outcome", "is not", null)
    .execute();
}

export async function deleteReportsBefore(store: Store, time: TimestampMs): Promise<void> {
  await store.db.deleteFrom("git_reports").where("created_at", "<", time).execute();
}

/** Where a pull request's one comment is. */
export interface CommentPlace {
  readonly baseUrl: string;
  readonly repositoryId: string;
  readonly pullRequest: number;
}

export interface CommentRecord {
  readonly commentId: string | null;
  readonly textDigest: string | null;
}

export async function findComment(store: Store, place: CommentPlace): Promise<CommentRecord> {
  const row = await store.db
    .selectFrom("git_comments")
    .select(["comment_id", "text_digest"])
    .where("base_url", "=", place.baseUrl)
    .where("repository_id", "=", place.repositoryId)
    .where("pull_request", "=", place.pullRequest)
    .executeTakeFirst();
  return { commentId: row?.comment_id ?? null, textDigest: row?.text_digest ?? null };
}

export async function recordComment(store: Store, place: CommentPlace, record: CommentRecord): Promise<void> {
  const set = { comment_id: record.commentId, text_digest: record.textDigest };
  await store.db
    .insertInto("git_comments")
    .values({ base_url: place.baseUrl, repository_id: place.repositoryId, pull_request: place.pullRequest, ...set })
    .onConflict((conflict) => conflict.columns(["base_url", "repository_id", "pull_request"]).doUpdateSet(set))
    .execute();
}

function reports(store: Store) {
  return store.db
    .selectFrom("git_reports")
    .innerJoin("git_connections", "git_connections.id", "git_reports.connection_id")
    .leftJoin("deployments", "deployments.id", "git_reports.deployment_id")
    .selectAll("git_reports")
    .select(["git_connections.base_url", "git_connections.repository_id"])
    .select([
      "deployments.state",
      "deployments.host",
      "deployments.error_code",
      "deployments.error_message",
      "deployments.building_at",
      "deployments.ready_at",
    ]);
}

type ReportRow = Awaited<ReturnType<ReturnType<typeof reports>["execute"]>>[number];

function toReport(row: ReportRow): GitReport {
  return {
    id: row.id,
    connectionId: row.connection_id,
    baseUrl: row.base_url,
    repositoryId: row.repository_id,
    deploymentId: row.deployment_id,
    sha: row.sha,
    branch: row.branch,
    pullRequest: row.pull_request,
    production: row.production === 1,
    fork: row.fork === 1,
    outcome: row.outcome as GitOutcome | null,
    description: row.description,
    createdAt: row.created_at,
    deployment:
      row.state === null || row.host === null
        ? null
        : {
            state: row.state as DeploymentState,
            host: row.host,
            errorCode: row.error_code,
            errorMessage: row.error_message,
            buildingAt: row.building_at,
            readyAt: row.ready_at,
          },
    posted: row.posted,
    hostDeploymentId: row.host_deployment_id,
    attempts: row.attempts,
    error: row.error,
  };
}
