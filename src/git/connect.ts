/** Connects a project to a repository and takes it off again; approves what a fork proposes. What people ask for. */
import { createHash, randomBytes } from "node:crypto";
import { MayflyError } from "../errors.ts";
import type { GitConnection, Project } from "../model.ts";
import { randomId } from "../names.ts";
import { deleteGitConnection, findGitApp, gitSecretPlace, insertGitConnection, updateGitConnection } from "../store/git-connections.ts";
import { receiveDeliveries, updateBranch } from "../store/git-deliveries.ts";
import { newestReportOf } from "../store/git-reports.ts";
import { accessOf, repositoryOf, type GitContext } from "./context.ts";
import { findInstallation } from "./github-app.ts";
import { gitlabToken } from "./gitlab-secret.ts";
import type { GitEvent } from "./git-host.ts";
import { checkBranch, parseRepositoryAddress } from "./remote.ts";
import { pullSubject } from "./webhook.ts";

export interface ConnectRequest {
  /** Address of the repository, as people copy it. */
  readonly repository: string;
  /** Of the host, with the right to read the repository, write statuses and make webhooks. null: an App, or none. */
  readonly token: string | null;
  /** A GitHub App's id here (`gita_…`). */
  readonly appId: string | null;
  /** null: the repository's default branch. */
  readonly productionBranch: string | null;
}

export interface Connected {
  readonly connection: GitConnection;
  /** Set when the host would not let us make the webhook: a person must. */
  readonly webhook: { readonly url: string; readonly secret: string; readonly reason: string } | null;
}

/** @throws MayflyError git_refused, git_host_refused, git_host_unavailable, conflict (connected already), not_found (App) */
export async function connect(context: GitContext, project: Project, creatorId: string, request: ConnectRequest): Promise<Connected> {
  const { store, seal, clock } = context.deploy;
  const { provider, baseUrl, repository: path } = parseRepositoryAddress(request.repository, context.addresses);
  if (request.appId !== null && request.token !== null) throw new MayflyError("bad_request", "Give a token or an App, not both.");
  const id = `git_${randomId(24)}`;
  const installationId = request.appId === null ? null : await installationOf(context, project, request.appId, provider, baseUrl, path);
  const host = await context.host(provider);
  const app = request.appId === null ? null : await findGitApp(store, request.appId);
  const access =
    app === null || installationId === null
      ? ({ kind: "token", baseUrl, token: request.token ?? "" } as const)
      : ({
          kind: "app",
          baseUrl,
          appId: app.appId,
          privateKey: seal.open(app.privateKey, gitSecretPlace(app.id, "privateKey")),
          installationId,
        } as const);
  const repository = await host.repository(access, path);
  const connection: GitConnection = {
    id,
    teamId: project.teamId,
    projectId: project.id,
    creatorId,
    provider,
    baseUrl,
    repository: repository.path,
    repositoryId: repository.id,
    productionBranch: checkBranch(request.productionBranch ?? repository.defaultBranch),
    appId: request.appId,
    installationId,
    webhookId: null,
    createdAt: clock.now(),
  };
  const secret = randomBytes(32).toString("hex");
  const made = await insertGitConnection(store, connection, {
    token: request.token === null ? null : seal.close(request.token, gitSecretPlace(id, "token")),
    webhookSecret: request.appId === null ? seal.close(secret, gitSecretPlace(id, "webhookSecret")) : null,
  });
  if (!made) throw new MayflyError("conflict", `The project ${project.name} is connected to a repository already; disconnect it first.`);
  if (request.appId !== null) return { connection, webhook: null };
  const url = webhookUrl(context, connection);
  try {
    const webhookId = await host.createWebhook(access, repository, { url, secret });
    await updateGitConnection(store, id, { webhookId });
    return { connection: { ...connection, webhookId }, webhook: null };
  } catch (error) {
    if (error instanceof MayflyError && error.code === "git_host_refused") {
      return { connection, webhook: { url, secret: provider === "gitlab" ? gitlabToken(secret) : secret, reason: error.message } };
    }
    await deleteGitConnection(store, id);
    throw error;
  }
}

/** Where the host sends a connection's webhooks. */
export function webhookUrl({ publicUrlOf, deploy: { config } }: GitContext, { id }: Pick<GitConnection, "id">): string {
  const api = config.gitWebhookOrigin === "" ? publicUrlOf(config.domain) : config.gitWebhookOrigin.replace(/\/+$/, "");
  return `${api}/mayfly/git/webhooks/${id}`;
}

/** Returns what could not be undone at the host; null: all of it. Deployments and aliases stay. */
export async function disconnect(context: GitContext, connection: GitConnection): Promise<string | null> {
  let left: string | null = null;
  if (connection.webhookId !== null) {
    try {
      const host = await context.host(connection.provider);
      await host.deleteWebhook(await accessOf(context, connection), repositoryOf(connection), connection.webhookId);
    } catch (error) {
      if (!(error instanceof MayflyError)) throw error;
      if (error.details["hostStatus"] !== 404)
        left = `The webhook at ${connection.baseUrl}/${connection.repository} is still there: ${error.message}`;
    }
  }
  await deleteGitConnection(context.deploy.store, connection.id);
  return left;
}

/**
 * Approves the commit of a fork's pull request that waits, or the one that is named.
 * @returns the commit @throws MayflyError conflict when none waits
 */
export async function approve(context: GitContext, connection: GitConnection, number: number, sha: string | null): Promise<string> {
  const { store, clock, config } = context.deploy;
  const waiting = await newestReportOf(store, connection.id, number);
  if (waiting?.outcome !== "waiting" || (sha !== null && waiting.sha !== sha)) {
    throw new MayflyError(
      "conflict",
      `No ${sha === null ? "commit" : `commit ${sha.slice(0, 7)}`} of pull request ${number} waits for approval.`,
    );
  }
  const now = clock.now();
  await updateBranch(store, connection.id, pullSubject(number), { approvedSha: waiting.sha }, now);
  const event: GitEvent = {
    kind: "pull-request",
    repositoryId: connection.repositoryId,
    number,
    state: "open",
    branch: waiting.branch,
    sha: waiting.sha,
    fork: true,
    actor: null,
  };
  const detail = JSON.stringify(event);
  const delivery = {
    id: `gitd_${randomId(24)}`,
    connectionId: connection.id,
    hostDeliveryId: `approval-${randomId(16)}`,
    bodyDigest: createHash("sha256").update(detail).digest("hex"),
    event: "approval",
    detail,
    subject: pullSubject(number),
    receivedAt: now,
  };
  const outcome = await receiveDeliveries(store, [delivery], { unique: false, pendingMax: config.gitDeliveriesPendingMax });
  if (outcome === "full") throw new MayflyError("queue_full");
  return waiting.sha;
}

async function installationOf(
  context: GitContext,
  project: Project,
  appId: string,
  provider: GitConnection["provider"],
  baseUrl: string,
  path: string,
): Promise<string> {
  const app = await findGitApp(context.deploy.store, appId);
  if (app === null || app.teamId !== project.teamId) throw new MayflyError("not_found", "There is no such App.");
  if (provider !== "github" || app.baseUrl !== baseUrl)
    throw new MayflyError("git_refused", `The App ${app.slug} belongs to ${app.baseUrl}.`);
  return findInstallation(context, appId, path);
}
