/** Driver of the Git host seam: GitHub, github.com and Enterprise, by token or as an App, through Octokit. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { createAppAuth } from "@octokit/auth-app";
import { Octokit } from "@octokit/core";
import { MayflyError, messageOf } from "../errors.ts";
import { bodyObject, field, objectField, text, textOf, type JsonObject } from "./event-body.ts";
import type { GitAccess, GitComment, GitEvent, GitHost, RemoteRepository, Report, ReportState, Webhook, WebhookHead } from "./git-host.ts";
import { githubApi, githubEvents } from "./github-api.ts";
import type { HostFetch } from "./host-fetch.ts";
import { hostError } from "./rate-limit.ts";

/** Installations whose short-lived tokens are remembered. */
const clientsMax = 1000;

const statusOf: Readonly<Record<ReportState, "pending" | "success" | "failure" | "error">> = {
  waiting: "pending",
  queued: "pending",
  building: "pending",
  ready: "success",
  failed: "failure",
  canceled: "error",
  skipped: "success",
};
const deploymentStateOf = {
  waiting: "queued",
  queued: "queued",
  building: "in_progress",
  ready: "success",
  failed: "failure",
  canceled: "inactive",
  skipped: "inactive",
} as const;

export interface GithubOptions {
  readonly fetch: HostFetch;
  readonly now: () => number;
}

export function createGithub(options: GithubOptions): GitHost {
  return new Github(options);
}

class Github implements GitHost {
  readonly name = "github";
  readonly can = { deployments: true, apps: true } as const;
  readonly #options: GithubOptions;
  readonly #clients = new Map<string, Octokit>();

  constructor(options: GithubOptions) {
    this.#options = options;
  }

  /** https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries */
  verify({ headers, body }: Webhook, secret: string): WebhookHead | null {
    const signature = /^sha256=([0-9a-f]{64})$/i.exec(headers["x-hub-signature-256"] ?? "")?.[1];
    const deliveryId = headers["x-github-delivery"];
    const event = headers["x-github-event"];
    if (signature === undefined || !isId(deliveryId) || !isId(event)) return null;
    const expected = createHmac("sha256", secret).update(body).digest();
    // Each body has the time of its event in it (`pushed_at`, `updated_at`).
    return timingSafeEqual(Buffer.from(signature, "hex"), expected) ? { deliveryId, event, unique: true } : null;
  }

  parse(event: string, bytes: Buffer): GitEvent {
    const body = bodyObject(bytes);
    const repository = field(body, "repository");
    const repositoryId = repository === null ? null : textOf(repository, "id");
    if (repositoryId === null) return { kind: "other", repositoryId: null };
    switch (event) {
      case "push":
        return parsePush(body, repositoryId);
      case "pull_request":
        return parsePullRequest(body, repositoryId);
      case "issue_comment": {
        const issue = objectField(body, "issue");
        if (field(issue, "pull_request") === null || body["action"] !== "created") return { kind: "other", repositoryId };
        return {
          kind: "comment",
          repositoryId,
          number: Number(text(issue, "number")),
          text: textOf(objectField(body, "comment"), "body") ?? "",
          actor: text(objectField(body, "sender"), "login"),
        };
      }
      default:
        return { kind: "other", repositoryId };
    }
  }

  async repository(access: GitAccess, path: string): Promise<RemoteRepository> {
    const { data } = await this.#ask(access, (octokit) => octokit.request("GET /repos/{owner}/{repo}", ownerAndName(path)));
    return { id: String(data.id), path: data.full_name, defaultBranch: data.default_branch, private: data.private };
  }

  async repositoryById(access: GitAccess, id: string): Promise<RemoteRepository> {
    const { data } = await this.#ask(access, (octokit) => octokit.request("GET /repositories/{id}", { id: Number(id) }));
    const { full_name, default_branch, private: isPrivate } = data as { full_name: string; default_branch: string; private: boolean };
    return { id, path: full_name, defaultBranch: default_branch, private: isPrivate };
  }

  async cloneCredentials(access: GitAccess): Promise<{ username: string; password: string }> {
    if (access.kind === "token") return { username: "x-access-token", password: access.token };
    const { token } = await this.#ask(access, (octokit) => octokit.auth({ type: "installation" }) as Promise<{ token: string }>);
    return { username: "x-access-token", password: token };
  }

  pullRequestRef(number: number): string {
    return `refs/pull/${number}/head`;
  }

  async createWebhook(access: GitAccess, repository: RemoteRepository, hook: { url: string; secret: string }): Promise<string> {
    const { data } = await this.#ask(access, (octokit) =>
      octokit.request("POST /repos/{owner}/{repo}/hooks", {
        ...ownerAndName(repository.path),
        name: "web",
        active: true,
        events: [...githubEvents],
        config: { url: hook.url, secret: hook.secret, content_type: "json" },
      }),
    );
    return String(data.id);
  }

  async deleteWebhook(access: GitAccess, repository: RemoteRepository, id: string): Promise<void> {
    const place = { ...ownerAndName(repository.path), hook_id: Number(id) };
    await this.#ask(access, (octokit) => octokit.request("DELETE /repos/{owner}/{repo}/hooks/{hook_id}", place));
  }

  async mayWrite(access: GitAccess, repository: RemoteRepository, actor: string): Promise<boolean> {
    const place = { ...ownerAndName(repository.path), username: actor };
    const { data } = await this.#ask(access, (octokit) =>
      octokit.request("GET /repos/{owner}/{repo}/collaborators/{username}/permission", place),
    );
    return data.permission === "admin" || data.permission === "write";
  }

  async postStatus(access: GitAccess, report: Report): Promise<void> {
    await this.#ask(access, (octokit) =>
      octokit.request("POST /repos/{owner}/{repo}/statuses/{sha}", {
        ...ownerAndName(report.repository.path),
        sha: report.sha,
        state: statusOf[report.state],
        context: report.context,
        description: report.description,
        target_url: report.url,
      }),
    );
  }

  async postDeployment(access: GitAccess, report: Report, id: string | null): Promise<string> {
    const place = ownerAndName(report.repository.path);
    const deployment = id ?? (await this.#createDeployment(access, report));
    await this.#ask(access, (octokit) =>
      octokit.request("POST /repos/{owner}/{repo}/deployments/{deployment_id}/statuses", {
        ...place,
        deployment_id: Number(deployment),
        state: deploymentStateOf[report.state],
        description: report.description,
        environment: report.environment,
        environment_url: report.state === "ready" ? report.url : "",
        log_url: report.url,
        auto_inactive: report.production,
      }),
    );
    return deployment;
  }

  async postComment(
    access: GitAccess,
    repository: RemoteRepository,
    number: number,
    comment: GitComment,
    id: string | null,
  ): Promise<string> {
    const place = ownerAndName(repository.path);
    const known = id ?? (await this.#findComment(access, repository, number, comment.marker));
    if (known !== null) {
      const edit = { ...place, comment_id: Number(known), body: comment.text };
      await this.#ask(access, (octokit) => octokit.request("PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}", edit));
      return known;
    }
    const { data } = await this.#ask(access, (octokit) =>
      octokit.request("POST /repos/{owner}/{repo}/issues/{issue_number}/comments", { ...place, issue_number: number, body: comment.text }),
    );
    return String(data.id);
  }

  async #createDeployment(access: GitAccess, report: Report): Promise<string> {
    const { data } = await this.#ask(access, (octokit) =>
      octokit.request("POST /repos/{owner}/{repo}/deployments", {
        ...ownerAndName(report.repository.path),
        ref: report.sha,
        environment: report.environment,
        description: report.description,
        production_environment: report.production,
        transient_environment: !report.production,
        auto_merge: false,
        required_contexts: [],
      }),
    );
    if (!("id" in data)) throw new MayflyError("git_host_refused", "GitHub has made no deployment of the commit.");
    return String(data.id);
  }

  async #findComment(access: GitAccess, repository: RemoteRepository, number: number, marker: string): Promise<string | null> {
    const place = { ...ownerAndName(repository.path), issue_number: number, per_page: 100 };
    const { data } = await this.#ask(access, (octokit) =>
      octokit.request("GET /repos/{owner}/{repo}/issues/{issue_number}/comments", place),
    );
    const found = data.find((comment) => comment.body?.includes(marker) === true);
    return found === undefined ? null : String(found.id);
  }

  /** One exchange; every failure in the seam's terms. */
  async #ask<T>(access: GitAccess, ask: (octokit: Octokit) => Promise<T>): Promise<T> {
    try {
      return await ask(this.#client(access));
    } catch (error) {
      if (error instanceof MayflyError) throw error;
      const { response } = error as { response?: { status: number; headers: Record<string, string | undefined> } };
      throw hostError("GitHub", {
        status: response?.status ?? null,
        headers: response?.headers ?? {},
        message: messageOf(error),
        now: this.#options.now(),
      });
    }
  }

  #client(access: GitAccess): Octokit {
    const baseUrl = githubApi(access.baseUrl);
    const common = { baseUrl, userAgent: "mayfly", request: { fetch: this.#options.fetch }, log: silent };
    if (access.kind === "token") return new Octokit({ ...common, auth: access.token });
    const key = `${access.baseUrl} ${access.appId} ${access.installationId}`;
    const { appId, privateKey, installationId } = access;
    const client =
      this.#clients.get(key) ?? new Octokit({ ...common, authStrategy: createAppAuth, auth: { appId, privateKey, installationId } });
    if (this.#clients.size >= clientsMax) this.#clients.clear();
    this.#clients.set(key, client);
    return client;
  }
}

const silent = { debug() {}, info() {}, warn() {}, error() {} };

const isId = (value: string | undefined): value is string => value !== undefined && /^[\w-]{1,100}$/.test(value);

function ownerAndName(path: string): { owner: string; repo: string } {
  const [owner = "", repo = ""] = path.split("/");
  return { owner, repo };
}

function parsePush(body: JsonObject, repositoryId: string): GitEvent {
  const branch = /^refs\/heads\/(.+)$/s.exec(text(body, "ref"))?.[1];
  if (branch === undefined) return { kind: "other", repositoryId };
  const author = field(field(body, "head_commit") ?? {}, "author");
  const login = author === null ? null : textOf(author, "username");
  return { kind: "push", repositoryId, branch, sha: text(body, "after"), deleted: body["deleted"] === true, author: login };
}

function parsePullRequest(body: JsonObject, repositoryId: string): GitEvent {
  const pullRequest = objectField(body, "pull_request");
  const head = objectField(pullRequest, "head");
  const from = field(head, "repo"); // null when the fork has been deleted
  const action = text(body, "action");
  if (!["opened", "synchronize", "reopened", "closed"].includes(action)) return { kind: "other", repositoryId };
  return {
    kind: "pull-request",
    repositoryId,
    number: Number(text(pullRequest, "number")),
    state: pullRequest["state"] === "closed" ? "closed" : "open",
    branch: text(head, "ref"),
    sha: text(head, "sha"),
    fork: from === null || textOf(from, "id") !== repositoryId,
    // Who reopens a pull request has not brought what is in it.
    actor: action === "opened" || action === "synchronize" ? text(objectField(body, "sender"), "login") : null,
  };
}
