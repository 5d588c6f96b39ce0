/**
 * Deployments and their way through the states of model.ts. Every transition is one conditional UPDATE, so two writers
 * cannot both make it, and READY comes in the same transaction as the aliases: whoever reads sees all of it or nothing.
 */
import { sql, type Kysely, type Selectable } from "kysely";
import { MayflyError } from "../errors.ts";
import type { BuildSummary, Deployment, DeploymentRequest, DeploymentState, Digest, GitSource, Target, TimestampMs } from "../model.ts";
import { takeHosts } from "./aliases.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

/** What a client sends to make a call repeatable, and the digest of what it asked for with it. */
export interface IdempotencyKey {
  readonly key: string;
  readonly requestDigest: string;
}

/**
 * Writes a deployment down.
 * @returns it, or the one that was made before with the same key
 * @throws MayflyError conflict: the key was used for another request
 */
export async function insertDeployment(store: Store, deployment: Deployment, idempotency?: IdempotencyKey): Promise<Deployment> {
  return store.db.transaction().execute(async (trx) => {
    if (idempotency !== undefined) {
      const { key, requestDigest } = idempotency;
      const { numInsertedOrUpdatedRows } = await trx
        .insertInto("idempotency_keys")
        .values({
          team_id: deployment.teamId,
          key,
          request_digest: requestDigest,
          deployment_id: deployment.id,
          created_at: deployment.createdAt,
        })
        .onConflict((conflict) => conflict.columns(["team_id", "key"]).doNothing())
        .executeTakeFirst();
      if (numInsertedOrUpdatedRows === 0n) return deploymentOfKey(trx, deployment.teamId, idempotency);
    }
    await insertRow(trx, deployment);
    return deployment;
  });
}

/** The deployment that a key has made; null: the key is new. @throws MayflyError conflict */
export async function findByIdempotencyKey(store: Store, teamId: string, idempotency: IdempotencyKey): Promise<Deployment | null> {
  const row = await store.db
    .selectFrom("idempotency_keys")
    .select("key")
    .where("team_id", "=", teamId)
    .where("key", "=", idempotency.key)
    .executeTakeFirst();
  return row === undefined ? null : deploymentOfKey(store.db, teamId, idempotency);
}

async function deploymentOfKey(db: Kysely<Tables>, teamId: string, { key, requestDigest }: IdempotencyKey): Promise<Deployment> {
  const row = await db
    .selectFrom("idempotency_keys")
    .innerJoin("deployments", "deployments.id", "idempotency_keys.deployment_id")
    .selectAll("deployments")
    .select("idempotency_keys.request_digest")
    .where("idempotency_keys.team_id", "=", teamId)
    .where("key", "=", key)
    .executeTakeFirst();
  if (row === undefined) throw new MayflyError("conflict", "The deployment that this Idempotency-Key made has been deleted.");
  if (row.request_digest !== requestDigest) throw new MayflyError("conflict", "This Idempotency-Key was used for another request.");
  return toDeployment(row);
}

/** Keys made before are forgotten. */
export async function deleteIdempotencyKeys(store: Store, beforeMs: TimestampMs): Promise<void> {
  await store.db.deleteFrom("idempotency_keys").where("created_at", "<", beforeMs).execute();
}

async function insertRow(db: Kysely<Tables>, deployment: Deployment): Promise<void> {
  await db
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
      git: deployment.git === null ? null : JSON.stringify(deployment.git),
      branch: deployment.git === null || deployment.git.fork ? null : deployment.git.branch, // a fork has no say in a branch of ours
      promoted_at: deployment.promotedAt,
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
  readonly states?: readonly DeploymentState[];
  readonly branch?: string;
  readonly creatorId?: string;
  /** Only those with all of these. */
  readonly meta?: Readonly<Record<string, string>>;
  /** Only those made before. */
  readonly untilMs?: TimestampMs;
  /** Only those made at or after. */
  readonly sinceMs?: TimestampMs;
  readonly limit: number;
}

/** The newest first. */
export async function listDeployments(store: Store, query: DeploymentQuery): Promise<Deployment[]> {
  let select = store.db.selectFrom("deployments").selectAll().where("team_id", "=", query.teamId);
  if (query.projectId !== undefined) select = select.where("project_id", "=", query.projectId);
  if (query.target !== undefined) select = select.where("target", "=", query.target);
  if (query.states !== undefined) select = select.where("state", "in", query.states);
  if (query.branch !== undefined) select = select.where("branch", "=", query.branch);
  if (query.creatorId !== undefined) select = select.where("creator_id", "=", query.creatorId);
  if (query.untilMs !== undefined) select = select.where("created_at", "<", query.untilMs);
  if (query.sinceMs !== undefined) select = select.where("created_at", ">=", query.sinceMs);
  for (const [key, value] of Object.entries(query.meta ?? {})) {
    select = select.where(sql<string>`json_extract(meta, ${`$.${JSON.stringify(key)}`})`, "=", value);
  }
  const rows = await select.orderBy("created_at", "desc").orderBy("id").limit(query.limit).execute();
  return rows.map(toDeployment);
}

/** Of every team, by state. */
export async function countDeployments(store: Store): Promise<Record<string, number>> {
  const rows = await store.db
    .selectFrom("deployments")
    .select(({ fn }) => ["state", fn.countAll<number>().as("count")])
    .groupBy("state")
    .execute();
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
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

/** BUILDING → READY, and it has taken the hosts it may take (aliases.ts); false when it was canceled meanwhile. */
export async function finishReady(
  store: Store,
  id: string,
  done: { manifestDigest: Digest; summary: BuildSummary; branchHost: string | null; productionHost: string | null },
  now: TimestampMs,
): Promise<boolean> {
  return store.db.transaction().execute(async (trx) => {
    const result = await trx
      .updateTable("deployments")
      .set({ state: "READY", ready_at: now, manifest_digest: done.manifestDigest, summary: JSON.stringify(done.summary) })
      .where("id", "=", id)
      .where("state", "=", "BUILDING")
      .returning(["project_id", "created_at", "branch"])
      .executeTakeFirst();
    if (result === undefined) return false;
    const { branchHost, productionHost } = done;
    const { project_id: projectId, created_at: createdAt, branch } = result;
    await takeHosts(trx, { id, projectId, createdAt, branch, branchHost, productionHost }, now);
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

/** Forgets a deployment unless an alias points to it; false: one does, or it is gone already. */
export async function deleteUnaliased(store: Store, id: string): Promise<boolean> {
  const { numDeletedRows } = await store.db
    .deleteFrom("deployments")
    .where("id", "=", id)
    .where(({ not, exists, selectFrom }) => not(exists(selectFrom("aliases").select("host").where("deployment_id", "=", id))))
    .executeTakeFirst();
  return numDeletedRows === 1n;
}

/** Forgets a project with all its deployments and aliases; returns the deployments' ids. */
export async function deleteProject(store: Store, projectId: string): Promise<string[]> {
  return store.db.transaction().execute(async (trx) => {
    const rows = await trx.selectFrom("deployments").select("id").where("project_id", "=", projectId).execute();
    await trx.deleteFrom("aliases").where("project_id", "=", projectId).execute();
    for (const table of ["variables", "project_domains", "cron_runs", "build_records", "deployments"] as const) {
      await trx.deleteFrom(table).where("project_id", "=", projectId).execute();
    }
    await trx.deleteFrom("tokens").where("project_id", "=", projectId).execute();
    await trx.deleteFrom("projects").where("id", "=", projectId).execute();
    return rows.map((row) => row.id);
  });
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
    git: JSON.parse(row.git ?? "null") as GitSource | null,
    promotedAt: row.promoted_at,
  };
}
