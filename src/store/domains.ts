/** Domains of teams, and the hosts that were given to projects. A name belongs to one team, a host to one project. */
import type { Selectable } from "kysely";
import type { ProjectDomain, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

export interface Domain {
  readonly name: string;
  readonly teamId: string;
  readonly createdAt: TimestampMs;
}

/** The team's domain of that name, made when nobody has it; null when another team has it. */
export async function ensureDomain(store: Store, teamId: string, name: string, now: TimestampMs): Promise<Domain | null> {
  await store.db
    .insertInto("domains")
    .values({ name, team_id: teamId, created_at: now })
    .onConflict((conflict) => conflict.column("name").doNothing())
    .execute();
  return findDomain(store, teamId, name);
}

export async function findDomain(store: Store, teamId: string, name: string): Promise<Domain | null> {
  const row = await store.db.selectFrom("domains").selectAll().where("name", "=", name).where("team_id", "=", teamId).executeTakeFirst();
  return row === undefined ? null : toDomain(row);
}

export async function listDomains(store: Store, teamId: string, limit: number): Promise<Domain[]> {
  const rows = await store.db.selectFrom("domains").selectAll().where("team_id", "=", teamId).orderBy("name").limit(limit).execute();
  return rows.map(toDomain);
}

/** Forgets a domain, what projects had of it, and the aliases at it and below it. */
export async function deleteDomain(store: Store, teamId: string, name: string): Promise<void> {
  await store.db.transaction().execute(async (trx) => {
    await trx.deleteFrom("domains").where("name", "=", name).where("team_id", "=", teamId).execute();
    const projects = trx.selectFrom("projects").select("id").where("team_id", "=", teamId);
    for (const table of ["project_domains", "aliases"] as const) {
      await trx
        .deleteFrom(table)
        .where("project_id", "in", projects)
        .where((where) => where.or([where("host", "=", name), where("host", "like", `%.${name}`)]))
        .execute();
    }
  });
}

/** false when another project has the host. With a `deploymentId` the host points to it at once. */
export async function addProjectDomain(
  store: Store,
  domain: ProjectDomain,
  deployment: { readonly id: string; readonly createdAt: TimestampMs } | null,
): Promise<boolean> {
  return store.db.transaction().execute(async (trx) => {
    const { host, projectId, branch, createdAt } = domain;
    await trx
      .insertInto("project_domains")
      .values({ host, project_id: projectId, branch, created_at: createdAt })
      .onConflict((conflict) => conflict.column("host").doUpdateSet({ branch }).where("project_domains.project_id", "=", projectId))
      .execute();
    const row = await trx.selectFrom("project_domains").select("project_id").where("host", "=", host).executeTakeFirst();
    if (row?.project_id !== projectId) return false;
    await trx.deleteFrom("aliases").where("host", "=", host).execute();
    if (deployment !== null) {
      await trx
        .insertInto("aliases")
        .values({ host, deployment_id: deployment.id, project_id: projectId, created_at: createdAt, since: deployment.createdAt })
        .execute();
    }
    return true;
  });
}

/** null when the project has none such. */
export async function findProjectDomain(store: Store, projectId: string, host: string): Promise<ProjectDomain | null> {
  const row = await store.db
    .selectFrom("project_domains")
    .selectAll()
    .where("project_id", "=", projectId)
    .where("host", "=", host)
    .executeTakeFirst();
  return row === undefined ? null : toProjectDomain(row);
}

export async function listProjectDomains(store: Store, projectId: string): Promise<ProjectDomain[]> {
  const rows = await store.db.selectFrom("project_domains").selectAll().where("project_id", "=", projectId).orderBy("host").execute();
  return rows.map(toProjectDomain);
}

/** Takes a host from a project, and the alias with it. */
export async function deleteProjectDomain(store: Store, projectId: string, host: string): Promise<void> {
  await store.db.transaction().execute(async (trx) => {
    await trx.deleteFrom("project_domains").where("project_id", "=", projectId).where("host", "=", host).execute();
    await trx.deleteFrom("aliases").where("project_id", "=", projectId).where("host", "=", host).execute();
  });
}

const toDomain = (row: Selectable<Tables["domains"]>): Domain => ({ name: row.name, teamId: row.team_id, createdAt: row.created_at });

const toProjectDomain = (row: Selectable<Tables["project_domains"]>): ProjectDomain => ({
  host: row.host,
  projectId: row.project_id,
  branch: row.branch,
  createdAt: row.created_at,
});
