/**
 * Deployments and their way through the states of model.ts. Every transition is one conditional UPDATE, so two writers
 * cannot both make it, and READY comes in the same transaction as the aliases: whoever reads sees all of it or nothing.
 */
import type { Selectable, Transaction } from "kysely";
import type { Alias, BuildSummary, Deployment, DeploymentRequest, DeploymentState, Digest, Target, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

export async function insertDeployment(store: Store, deployment: Deployment): Promise<void> {
  await store.db
    .insertInto("deployments")
    .values({
      id: deployment.id,
      team_id: deployment.teamId,
      project_id: deployment.projectId,
      name: deployment.name,
      host: deployment.host,
      target: deployment.target,
      state: deployment.state,
      creator_id: deployment.creatorId,
      meta: JSON.stringify(deployment.meta),
      created_at: deployment.createdAt,
      building_at: deployment.buildingAt,
      ready_at: deployment.readyAt,
      error_code: deployment.errorCode,
      error_message: deployment.errorMessage,
      source_digest: deployment.sourceDigest,
      manifest_digest: deployment.manifestDigest,
      request: JSON.stringify(deployment.request),
      summary: JSON.stringify(deployment.summary),
      attempts: deployment.attempts,
    })
    .execute();
}

/** By id, immutable host, or alias; null when the team has none such. */
export async function findDeployment(store: Store, teamId: string, idOrHost: string): Promise<Deployment | null> {
  const row = await store.db
    .selectFrom("deployments")
    .selectAll()
    .where("team_id", "=", teamId)
    .where((where) =>
      where.or([
        where("id", "=", idOrHost),
        where("host", "=", idOrHost),
        where("id", "in", where.selectFrom("aliases").select("deployment_id").where("host", "=", idOrHost)),
      ]),
    )
    .executeTakeFirst();
  return row === undefined ? null : toDeployment(row);
}

/** Of whatever team: for the platform itself. */
export async function findDeploymentById(store: Store, id: string): Promise<Deployment | null> {
  const row = await store.db.selectFrom("deployments").selectAll().where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : toDeployment(row);
}

export interface DeploymentQuery {
  readonly teamId: string;
  readonly projectId?: string;
  readonly target?: Target;
  readonly state?: DeploymentState;
  /** Only those made before. */
  readonly untilMs?: TimestampMs;
  readonly limit: number;
}

/** The newest first. */
export async function listDeployments(store: Store, query: DeploymentQuery): Promise<Deployment[]> {
  let select = store.db.selectFrom("deployments").selectAll().where("team_id", "=", query.teamId);
  if (query.projectId !== undefined) select = select.where("project_id", "=", query.projectId);
  if (query.target !== undefined) select = select.where("target", "=", query.target);
  if (query.state !== undefined) select = select.where("state", "=", query.state);
  if (query.untilMs !== undefined) select = select.where("created_at", "<", query.untilMs);
  const rows = await select.orderBy("created_at", "desc").orderBy("id").limit(query.limit).execute();
  return rows.map(toDeployment);
}

/** Of every team, the oldest first: what a control plane finds when it starts. */
export async function listUnfinished(store: Store): Promise<Deployment[]> {
  const rows = await store.db
    .selectFrom("deployments")
    .selectAll()
    .where("state", "in", ["QUEUED", "BUILDING"])
    .orderBy("created_at")
    .orderBy("id")
    .execute();
  return rows.map(toDeployment);
}

/** QUEUED (or BUILDING, cut off) → BUILDING; false when it is neither any more. */
export async function beginBuilding(store: Store, id: string, now: TimestampMs): Promise<boolean> {
  const result = await store.db
    .updateTable("deployments")
    .set((set) => ({ state: "BUILDING", building_at: now, attempts: set("attempts", "+", 1) }))
    .where("id", "=", id)
    .where("state", "in", ["QUEUED", "BUILDING"])
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** BUILDING → READY, and its aliases point to it; false when it was canceled meanwhile. */
export async function finishReady(
  store: Store,
  id: string,
  done: { manifestDigest: Digest; summary: BuildSummary; aliasHosts: readonly string[] },
  now: TimestampMs,
): Promise<boolean> {
  return store.db.transaction().execute(async (trx) => {
    const result = await trx
      .updateTable("deployments")
      .set({ state: "READY", ready_at: now, manifest_digest: done.manifestDigest, summary: JSON.stringify(done.summary) })
      .where("id", "=", id)
      .where("state", "=", "BUILDING")
      .returning(["project_id"])
      .executeTakeFirst();
    if (result === undefined) return false;
    for (const host of done.aliasHosts) {
      await pointAlias(trx, { host, deploymentId: id, projectId: result.project_id, createdAt: now });
    }
    return true;
  });
}

/** QUEUED or BUILDING → ERROR or CANCELED; false when it is final already. */
export async function finishUnready(
  store: Store,
  id: string,
  state: "ERROR" | "CANCELED",
  error: { code: string; message: string } | null,
  now: TimestampMs,
): Promise<boolean> {
  const result = await store.db
    .updateTable("deployments")
    .set({ state, ready_at: now, error_code: error?.code ?? null, error_message: error?.message ?? null })
    .where("id", "=", id)
    .where("state", "in", ["QUEUED", "BUILDING"])
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** Forgets deployments and their aliases. Their blobs stay for others that share them. */
export async function deleteDeployments(store: Store, ids: readonly string[]): Promise<void> {
  await store.db.transaction().execute(async (trx) => {
    await trx.deleteFrom("aliases").where("deployment_id", "in", ids).execute();
    await trx.deleteFrom("deployments").where("id", "in", ids).execute();
  });
}

/** Forgets a project with all its deployments and aliases; returns the deployments' ids. */
export async function deleteProject(store: Store, projectId: string): Promise<string[]> {
  return store.db.transaction().execute(async (trx) => {
    const rows = await trx.selectFrom("deployments").select("id").where("project_id", "=", projectId).execute();
    await trx.deleteFrom("aliases").where("project_id", "=", projectId).execute();
    await trx.deleteFrom("deployments").where("project_id", "=", projectId).execute();
    await trx.deleteFrom("projects").where("id", "=", projectId).execute();
    return rows.map((row) => row.id);
  });
}

/** Hosts that point to a deployment, or to any of a project's. */
export async function listAliases(store: Store, of: { deploymentId: string } | { projectId: string }): Promise<Alias[]> {
  const [column, value] = "deploymentId" in of ? (["deployment_id", of.deploymentId] as const) : (["project_id", of.projectId] as const);
  const rows = await store.db.selectFrom("aliases").selectAll().where(column, "=", value).orderBy("host").execute();
  return rows.map((row) => ({ host: row.host, deploymentId: row.deployment_id, projectId: row.project_id, createdAt: row.created_at }));
}

/** Whether a deployment of the project has ever been READY for production: the first one becomes production by itself. */
export async function hasProduction(store: Store, projectId: string): Promise<boolean> {
  const row = await store.db
    .selectFrom("deployments")
    .select("id")
    .where("project_id", "=", projectId)
    .where("target", "=", "production")
    .where("state", "in", ["QUEUED", "BUILDING", "READY"])
    .executeTakeFirst();
  return row !== undefined;
}

async function pointAlias(trx: Transaction<Tables>, alias: Alias): Promise<void> {
  await trx
    .insertInto("aliases")
    .values({ host: alias.host, deployment_id: alias.deploymentId, project_id: alias.projectId, created_at: alias.createdAt })
    .onConflict((conflict) =>
      conflict.column("host").doUpdateSet({
        deployment_id: alias.deploymentId,
        project_id: alias.projectId,
        created_at: alias.createdAt,
      }),
    )
    .execute();
}

function toDeployment(row: Selectable<Tables["deployments"]>): Deployment {
  return {
    id: row.id,
    teamId: row.team_id,
    projectId: row.project_id,
    name: row.name,
    host: row.host,
    target: row.target as Target,
    state: row.state as DeploymentState,
    creatorId: row.creator_id,
    meta: JSON.parse(row.meta) as Record<string, string>,
    createdAt: row.created_at,
    buildingAt: row.building_at,
    readyAt: row.ready_at,
    errorCode: row.error_code,
    errorMessage: row.error_message,
    sourceDigest: row.source_digest,
    manifestDigest: row.manifest_digest,
    request: JSON.parse(row.request) as DeploymentRequest,
    summary: JSON.parse(row.summary ?? "null") as BuildSummary | null,
    attempts: row.attempts,
  };
}
