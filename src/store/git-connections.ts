/** Connections of projects to repositories, and the team's Apps. Secrets are kept sealed and handed out as they are kept. */
import type { Selectable } from "kysely";
import type { GitApp, GitConnection, Sealed, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

/** What opens a connection's repository and proves its webhooks: sealed, see {@link gitSecretPlace}. null: the App's. */
export interface GitConnectionSecrets {
  readonly token: Sealed | null;
  readonly webhookSecret: Sealed | null;
}

export interface GitAppSecrets {
  readonly privateKey: Sealed;
  readonly webhookSecret: Sealed;
}

/** The place of a connection's or App's secret for `Seal`. */
export const gitSecretPlace = (id: string, name: "token" | "webhookSecret" | "privateKey"): string => `${id}/${name}`;

/** false: the project has one already. */
export async function insertGitConnection(store: Store, connection: GitConnection, secrets: GitConnectionSecrets): Promise<boolean> {
  const result = await store.db
    .insertInto("git_connections")
    .values({
      id: connection.id,
      team_id: connection.teamId,
      project_id: connection.projectId,
      creator_id: connection.creatorId,
      provider: connection.provider,
      base_url: connection.baseUrl,
      repository: connection.repository,
      repository_id: connection.repositoryId,
      production_branch: connection.productionBranch,
      app_id: connection.appId,
      installation_id: connection.installationId,
      webhook_id: connection.webhookId,
      token: secrets.token,
      webhook_secret: secrets.webhookSecret,
      created_at: connection.createdAt,
    })
    .onConflict((conflict) => conflict.column("project_id").doNothing())
    .executeTakeFirst();
  return result.numInsertedOrUpdatedRows === 1n;
}

/** By its own id, of any team; null when there is none. */
export async function findGitConnection(store: Store, id: string): Promise<GitConnection | null> {
  const row = await store.db.selectFrom("git_connections").selectAll().where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : toConnection(row);
}

export async function findGitSecrets(store: Store, id: string): Promise<GitConnectionSecrets | null> {
  const row = await store.db.selectFrom("git_connections").select(["token", "webhook_secret"]).where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : { token: row.token, webhookSecret: row.webhook_secret };
}

/** All of a team, or of one of its projects. */
export async function listGitConnections(store: Store, teamId: string, projectId?: string): Promise<GitConnection[]> {
  let query = store.db.selectFrom("git_connections").selectAll().where("team_id", "=", teamId);
  if (projectId !== undefined) query = query.where("project_id", "=", projectId);
  return (await query.orderBy("created_at").execute()).map(toConnection);
}

/** Whose webhooks come by this App, for this repository. */
export async function listAppConnections(store: Store, appId: string, repositoryId: string): Promise<GitConnection[]> {
  const rows = await store.db
    .selectFrom("git_connections")
    .selectAll()
    .where("app_id", "=", appId)
    .where("repository_id", "=", repositoryId)
    .execute();
  return rows.map(toConnection);
}

/** Connections of a server's projects to one repository: a monorepo has several. */
export async function listRepositoryConnections(
  store: Store,
  of: Pick<GitConnection, "teamId" | "baseUrl" | "repositoryId">,
): Promise<GitConnection[]> {
  const rows = await store.db
    .selectFrom("git_connections")
    .selectAll()
    .where("team_id", "=", of.teamId)
    .where("base_url", "=", of.baseUrl)
    .where("repository_id", "=", of.repositoryId)
    .orderBy("created_at")
    .execute();
  return rows.map(toConnection);
}

/** The host's id of its webhook, once it is made; or the repository's new path. */
export async function updateGitConnection(
  store: Store,
  id: string,
  change: { readonly webhookId?: string; readonly repository?: string },
): Promise<void> {
  const set = {
    ...(change.webhookId === undefined ? {} : { webhook_id: change.webhookId }),
    ...(change.repository === undefined ? {} : { repository: change.repository }),
  };
  await store.db.updateTable("git_connections").set(set).where("id", "=", id).execute();
}

/** Forgets it with its deliveries and reports; deployments and aliases stay. */
export async function deleteGitConnection(store: Store, id: string): Promise<void> {
  await store.db.deleteFrom("git_connections").where("id", "=", id).execute();
}

export async function insertGitApp(store: Store, app: GitApp, secrets: GitAppSecrets): Promise<void> {
  await store.db
    .insertInto("git_apps")
    .values({
      id: app.id,
      team_id: app.teamId,
      base_url: app.baseUrl,
      app_id: app.appId,
      slug: app.slug,
      private_key: secrets.privateKey,
      webhook_secret: secrets.webhookSecret,
      created_at: app.createdAt,
    })
    .execute();
}

export async function listGitApps(store: Store, teamId: string): Promise<GitApp[]> {
  const rows = await store.db.selectFrom("git_apps").selectAll().where("team_id", "=", teamId).orderBy("created_at").execute();
  return rows.map(toApp);
}

export async function findGitApp(store: Store, id: string): Promise<(GitApp & GitAppSecrets) | null> {
  const row = await store.db.selectFrom("git_apps").selectAll().where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : { ...toApp(row), privateKey: row.private_key, webhookSecret: row.webhook_secret };
}

/** Forgets an App; false while connections use it. */
export async function deleteGitApp(store: Store, id: string): Promise<boolean> {
  return store.db.transaction().execute(async (trx) => {
    const used = await trx.selectFrom("git_connections").select("id").where("app_id", "=", id).executeTakeFirst();
    if (used !== undefined) return false;
    await trx.deleteFrom("git_apps").where("id", "=", id).execute();
    return true;
  });
}

/** An App that a person has begun to make: the host's answer must name this state. */
export interface GitAppRequest {
  readonly stateDigest: string;
  readonly teamId: string;
  readonly baseUrl: string;
  /** null: the person's own account. */
  readonly organization: string | null;
  readonly expiresAt: TimestampMs;
}

/** Requests that have expired go. */
export async function insertGitAppRequest(store: Store, request: GitAppRequest, now: TimestampMs): Promise<void> {
  await store.db.deleteFrom("git_app_requests").where("expires_at", "<=", now).execute();
  await store.db
    .insertInto("git_app_requests")
    .values({
      state_digest: request.stateDigest,
      team_id: request.teamId,
      base_url: request.baseUrl,
      organization: request.organization,
      expires_at: request.expiresAt,
    })
    .execute();
}

export async function findGitAppRequest(store: Store, stateDigest: string, now: TimestampMs): Promise<GitAppRequest | null> {
  const row = await store.db
    .selectFrom("git_app_requests")
    .selectAll()
    .where("state_digest", "=", stateDigest)
    .where("expires_at", ">", now)
    .executeTakeFirst();
  if (row === undefined) return null;
  const { state_digest, team_id: teamId, base_url: baseUrl, organization, expires_at: expiresAt } = row;
  return { stateDigest: state_digest, teamId, baseUrl, organization, expiresAt };
}

/** Uses a request up; false when another was first. */
export async function takeGitAppRequest(store: Store, stateDigest: string): Promise<boolean> {
  const result = await store.db.deleteFrom("git_app_requests").where("state_digest", "=", stateDigest).executeTakeFirst();
  return result.numDeletedRows === 1n;
}

function toConnection(row: Selectable<Tables["git_connections"]>): GitConnection {
  return {
    id: row.id,
    teamId: row.team_id,
    projectId: row.project_id,
    creatorId: row.creator_id,
    provider: row.provider as GitConnection["provider"],
    baseUrl: row.base_url,
    repository: row.repository,
    repositoryId: row.repository_id,
    productionBranch: row.production_branch,
    appId: row.app_id,
    installationId: row.installation_id,
    webhookId: row.webhook_id,
    createdAt: row.created_at,
  };
}

function toApp(row: Selectable<Tables["git_apps"]>): GitApp {
  return { id: row.id, teamId: row.team_id, baseUrl: row.base_url, appId: row.app_id, slug: row.slug, createdAt: row.created_at };
}
