/**
 * Aliases: host → deployment, the only mutable thing in serving. Two ways to move one: a deployment that becomes READY
 * takes its hosts by itself, but never from a newer one, from another project, or while production is pinned; a person
 * (`alias`, `promote`, `rollback`) moves them as told.
 */
import type { Selectable, Transaction } from "kysely";
import type { Alias, AliasRequest, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

/** Hosts that point to a deployment, or to any of a project's. */
export async function listAliases(store: Store, of: { deploymentId: string } | { projectId: string }): Promise<Alias[]> {
  const [column, value] = "deploymentId" in of ? (["deployment_id", of.deploymentId] as const) : (["project_id", of.projectId] as const);
  const rows = await store.db.selectFrom("aliases").selectAll().where(column, "=", value).orderBy("host").execute();
  return rows.map(toAlias);
}

export interface AliasQuery {
  readonly teamId: string;
  readonly projectId?: string;
  /** Only those pointed before. */
  readonly untilMs?: TimestampMs;
  readonly limit: number;
}

/** Of a team, the last pointed first. */
export async function listTeamAliases(store: Store, query: AliasQuery): Promise<Alias[]> {
  let select = store.db
    .selectFrom("aliases")
    .innerJoin("projects", "projects.id", "aliases.project_id")
    .selectAll("aliases")
    .where("projects.team_id", "=", query.teamId);
  if (query.projectId !== undefined) select = select.where("aliases.project_id", "=", query.projectId);
  if (query.untilMs !== undefined) select = select.where("aliases.created_at", "<", query.untilMs);
  const rows = await select.orderBy("aliases.created_at", "desc").orderBy("host").limit(query.limit).execute();
  return rows.map(toAlias);
}

/** null when the team has none such. */
export async function findAlias(store: Store, teamId: string, host: string): Promise<Alias | null> {
  const row = await store.db
    .selectFrom("aliases")
    .innerJoin("projects", "projects.id", "aliases.project_id")
    .selectAll("aliases")
    .where("projects.team_id", "=", teamId)
    .where("host", "=", host)
    .executeTakeFirst();
  return row === undefined ? null : toAlias(row);
}

/** Whose hosts a person may move. */
export interface AliasOwner {
  readonly teamId: string;
  /** Of this project only; null: of any of the team's. */
  readonly projectId: string | null;
}

/**
 * Points a host as a person says.
 * @returns the deployment it pointed to, or null; "taken" when the host is not the owner's, or is a deployment's own
 */
export async function setAlias(
  store: Store,
  owner: AliasOwner,
  alias: Omit<Alias, "since" | "createdAt">,
  now: TimestampMs,
): Promise<{ readonly from: string | null } | "taken"> {
  return store.db.transaction().execute(async (trx) => {
    // Written first, so that nobody else writes between what is read and what is written.
    await trx.updateTable("projects").set({ updated_at: now }).where("id", "=", alias.projectId).execute();
    const immutable = await trx.selectFrom("deployments").select("id").where("host", "=", alias.host).executeTakeFirst();
    const before = await trx
      .selectFrom("aliases")
      .innerJoin("projects", "projects.id", "aliases.project_id")
      .select(["deployment_id", "project_id", "team_id"])
      .where("host", "=", alias.host)
      .executeTakeFirst();
    const promised = await trx.selectFrom("project_domains").select("project_id").where("host", "=", alias.host).executeTakeFirst();
    const isBound = (other: string | undefined): boolean => owner.projectId !== null && other !== undefined && other !== owner.projectId;
    if (immutable !== undefined || (before !== undefined && before.team_id !== owner.teamId)) return "taken";
    if (isBound(before?.project_id) || isBound(promised?.project_id)) return "taken";
    await point(trx, { ...alias, createdAt: now, since: now });
    return { from: before?.deployment_id ?? null };
  });
}

/** false when there was none. */
export async function deleteAlias(store: Store, host: string): Promise<boolean> {
  const { numDeletedRows } = await store.db.deleteFrom("aliases").where("host", "=", host).executeTakeFirst();
  return numDeletedRows === 1n;
}

/**
 * Makes a READY deployment production: its project's production host and domains point to it when this has returned.
 * A promote ends a pin, a rollback sets one. Deployments begun before this moment do not undo it.
 * @returns what was done, or null when the deployment is not READY (any more)
 */
export async function switchProduction(
  store: Store,
  change: { readonly type: AliasRequest["type"]; readonly deploymentId: string; readonly projectId: string; readonly host: string },
  now: TimestampMs,
): Promise<AliasRequest | null> {
  return store.db.transaction().execute(async (trx) => {
    const deployment = await trx
      .updateTable("deployments")
      .set({ promoted_at: now })
      .where("id", "=", change.deploymentId)
      .where("project_id", "=", change.projectId)
      .where("state", "=", "READY")
      .returning("id")
      .executeTakeFirst();
    if (deployment === undefined) return null;
    const before = await trx.selectFrom("aliases").select("deployment_id").where("host", "=", change.host).executeTakeFirst();
    const hosts = [change.host, ...(await domainHosts(trx, change.projectId, null))];
    for (const host of hosts) {
      if (!(await isForeign(trx, host, change.projectId))) {
        await point(trx, { host, deploymentId: change.deploymentId, projectId: change.projectId, createdAt: now, since: now });
      }
    }
    const request: AliasRequest = {
      type: change.type,
      jobStatus: "succeeded",
      fromDeploymentId: before?.deployment_id ?? null,
      toDeploymentId: change.deploymentId,
      requestedAt: now,
    };
    await trx
      .updateTable("projects")
      .set({ production_pinned: change.type === "rollback" ? 1 : 0, alias_request: JSON.stringify(request) })
      .where("id", "=", change.projectId)
      .execute();
    return request;
  });
}

export interface ReadyDeployment {
  readonly id: string;
  readonly projectId: string;
  readonly createdAt: TimestampMs;
  /** Of the Git branch it was made from. */
  readonly branch: string | null;
  /** The platform's own host of that branch; null: none. */
  readonly branchHost: string | null;
  /** The project's production host; null: it does not become production by itself. */
  readonly productionHost: string | null;
}

/** A deployment that becomes READY takes its hosts, as far as it may. Part of the transaction that makes it READY. */
export async function takeHosts(trx: Transaction<Tables>, deployment: ReadyDeployment, now: TimestampMs): Promise<void> {
  const { id, projectId, createdAt, branch } = deployment;
  const take = async (host: string): Promise<boolean> => {
    if (await isForeign(trx, host, projectId)) return false;
    const { numInsertedOrUpdatedRows } = await trx
      .insertInto("aliases")
      .values({ host, deployment_id: id, project_id: projectId, created_at: now, since: createdAt })
      .onConflict((conflict) =>
        conflict
          .column("host")
          .doUpdateSet({ deployment_id: id, created_at: now, since: createdAt })
          .where("aliases.since", "<=", createdAt),
      )
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  };
  if (branch !== null) {
    for (const host of await domainHosts(trx, projectId, branch)) await take(host);
    if (deployment.branchHost !== null) await take(deployment.branchHost);
  }
  if (deployment.productionHost === null) return;
  const project = await trx.selectFrom("projects").select("production_pinned").where("id", "=", projectId).executeTakeFirstOrThrow();
  if (project.production_pinned === 1) return;
  if (!(await take(deployment.productionHost))) return;
  await trx.updateTable("deployments").set({ promoted_at: now }).where("id", "=", id).execute();
  for (const host of await domainHosts(trx, projectId, null)) await take(host);
}

async function domainHosts(trx: Transaction<Tables>, projectId: string, branch: string | null): Promise<string[]> {
  const rows = await trx
    .selectFrom("project_domains")
    .select("host")
    .where("project_id", "=", projectId)
    .where("branch", branch === null ? "is" : "=", branch)
    .orderBy("host")
    .execute();
  return rows.map(({ host }) => host);
}

/** Whether the host leads to another project: it is not taken away from it unasked. */
async function isForeign(trx: Transaction<Tables>, host: string, projectId: string): Promise<boolean> {
  const row = await trx.selectFrom("aliases").select("project_id").where("host", "=", host).executeTakeFirst();
  return row !== undefined && row.project_id !== projectId;
}

async function point(trx: Transaction<Tables>, { host, deploymentId, projectId, createdAt, since }: Alias): Promise<void> {
  const target = { deployment_id: deploymentId, project_id: projectId, created_at: createdAt, since };
  await trx
    .insertInto("aliases")
    .values({ host, ...target })
    .onConflict((conflict) => conflict.column("host").doUpdateSet(target))
    .execute();
}

function toAlias(row: Selectable<Tables["aliases"]>): Alias {
  return {
    host: row.host,
    deploymentId: row.deployment_id,
    projectId: row.project_id,
    createdAt: row.created_at,
    since: row.since,
  };
}
