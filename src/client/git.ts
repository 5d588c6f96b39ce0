/** Git connections as the client sees them: checked and complete, whatever a server leaves out. */
import type { ApiClient } from "./client.ts";
import { number, object, objects, text, type JsonObject } from "./json.ts";

export interface GitConnectionFacts {
  readonly provider: string;
  readonly repository: string;
  readonly repositoryUrl: string;
  readonly productionBranch: string;
  /** Our id of the GitHub App; null: by token. */
  readonly appId: string | null;
}

/** A webhook that a person must make, because the host does not let us. */
export interface WebhookToMake {
  readonly url: string;
  readonly secret: string;
  readonly reason: string;
}

export interface GitCommitFacts {
  readonly sha: string;
  readonly branch: string;
  readonly pullRequest: number | null;
  readonly state: string;
  readonly url: string | null;
  readonly description: string | null;
  readonly createdAtMs: number;
}

export interface GitDeliveryFacts {
  readonly id: string;
  readonly event: string;
  readonly state: string;
  readonly result: string | null;
  readonly receivedAtMs: number;
}

export interface GitAppFacts {
  readonly id: string;
  readonly slug: string;
  readonly url: string;
}

const pathOf = (project: string, ...more: readonly string[]): string =>
  ["/v1/mayfly/git/projects", ...[project, ...more].map(encodeURIComponent)].join("/");

/** @throws MayflyError conflict (connected already), git_refused, git_host_refused, git_host_unavailable */
export async function connectGit(
  client: ApiClient,
  project: string,
  ask: {
    readonly repository: string;
    readonly token: string | null;
    readonly appId: string | null;
    readonly productionBranch: string | null;
  },
): Promise<{ readonly connection: GitConnectionFacts; readonly webhook: WebhookToMake | null }> {
  const answer = await client.call("POST", pathOf(project), { body: ask });
  const webhook = answer["webhook"] === null || answer["webhook"] === undefined ? null : object(answer["webhook"]);
  return {
    connection: parseConnection(object(answer["connection"])),
    webhook:
      webhook === null
        ? null
        : { url: text(webhook["url"]) ?? "", secret: text(webhook["secret"]) ?? "", reason: text(webhook["reason"]) ?? "" },
  };
}

/** Returns what is left at the host; null: nothing. @throws MayflyError not_found */
export async function disconnectGit(client: ApiClient, project: string): Promise<string | null> {
  return text((await client.call("DELETE", pathOf(project)))["warning"]) ?? null;
}

/** @throws MayflyError not_found */
export async function readGit(
  client: ApiClient,
  project: string,
  limit: number,
): Promise<{
  readonly connection: GitConnectionFacts;
  readonly commits: readonly GitCommitFacts[];
  readonly deliveries: readonly GitDeliveryFacts[];
}> {
  const [answer, log] = await Promise.all([
    client.call("GET", pathOf(project), { query: { limit } }),
    client.call("GET", pathOf(project, "deliveries"), { query: { limit } }),
  ]);
  return {
    connection: parseConnection(object(answer["connection"])),
    commits: objects(answer["commits"]).map((json) => ({
      sha: text(json["sha"]) ?? "",
      branch: text(json["branch"]) ?? "",
      pullRequest: number(json["pullRequest"]) ?? null,
      state: text(json["state"]) ?? "",
      url: text(json["url"]) ?? null,
      description: text(json["description"]) ?? null,
      createdAtMs: number(json["createdAt"]) ?? 0,
    })),
    deliveries: objects(log["deliveries"]).map((json) => ({
      id: text(json["id"]) ?? "",
      event: text(json["event"]) ?? "",
      state: text(json["state"]) ?? "",
      result: text(json["result"]) ?? null,
      receivedAtMs: number(json["receivedAt"]) ?? 0,
    })),
  };
}

/** The commit that is approved. @throws MayflyError conflict when none waits */
export async function approvePullRequest(client: ApiClient, project: string, pullRequest: number): Promise<string> {
  return text((await client.call("POST", pathOf(project, "pull-requests", String(pullRequest), "approve"), { body: {} }))["sha"]) ?? "";
}

/** @throws MayflyError conflict */
export async function redeliverWebhook(client: ApiClient, project: string, delivery: string): Promise<void> {
  await client.call("POST", pathOf(project, "deliveries", delivery, "redeliver"));
}

export async function listGitApps(client: ApiClient): Promise<readonly GitAppFacts[]> {
  return objects((await client.call("GET", "/v1/mayfly/git/apps"))["apps"]).map((json) => ({
    id: text(json["id"]) ?? "",
    slug: text(json["slug"]) ?? "",
    url: text(json["url"]) ?? "",
  }));
}

/** The address of a page with one button. */
export async function requestGitApp(
  client: ApiClient,
  ask: { readonly baseUrl: string | null; readonly organization: string | null },
): Promise<string> {
  return text((await client.call("POST", "/v1/mayfly/git/apps", { body: ask }))["url"]) ?? "";
}

function parseConnection(json: JsonObject): GitConnectionFacts {
  return {
    provider: text(json["provider"]) ?? "",
    repository: text(json["repository"]) ?? "",
    repositoryUrl: text(json["repositoryUrl"]) ?? "",
    productionBranch: text(json["productionBranch"]) ?? "",
    appId: text(json["appId"]) ?? null,
  };
}
