/** Driver of the Git host seam: GitLab, gitlab.com and self-hosted, by access token, through Gitbeaker. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { Commits, MergeRequestNotes, ProjectHooks, ProjectMembers, Projects } from "@gitbeaker/core";
import { createRequesterFn, type RequesterType, type ResourceOptions } from "@gitbeaker/requester-utils";
import { MayflyError, messageOf } from "../errors.ts";
import { bodyObject, field, objectField, text, textOf, type JsonObject } from "./event-body.ts";
import type { GitAccess, GitComment, GitEvent, GitHost, RemoteRepository, Report, ReportState, Webhook, WebhookHead } from "./git-host.ts";
import { gitlabSigningToken, gitlabToken } from "./gitlab-secret.ts";
import type { HostFetch } from "./host-fetch.ts";
import { hostError } from "./rate-limit.ts";

/** A signature older or younger than this is a replay: what the Standard Webhooks specification advises. */
const signatureAgeMsMax = 300_000;

/** From this access level on (Developer) a member may push. */
const developer = 30;

const statusOf: Readonly<Record<ReportState, "pending" | "running" | "success" | "failed" | "canceled">> = {
  waiting: "pending",
  queued: "pending",
  building: "running",
  ready: "success",
  failed: "failed",
  canceled: "canceled",
  skipped: "success",
};

export interface GitlabOptions {
  readonly fetch: HostFetch;
  readonly now: () => number;
}

export function createGitlab(options: GitlabOptions): GitHost {
  return new Gitlab(options);
}

class Gitlab implements GitHost {
  readonly name = "gitlab";
  readonly can = { deployments: false, apps: false } as const;
  readonly #options: GitlabOptions;

  constructor(options: GitlabOptions) {
    this.#options = options;
  }

  /** Signed by a GitLab that can (19 and later), else by the secret token. */
  verify({ headers, body }: Webhook, secret: string, now: number): WebhookHead | null {
    const event = headers["x-gitlab-event"];
    const deliveryId = headers["webhook-id"] ?? headers["idempotency-key"] ?? headers["x-gitlab-event-uuid"];
    if (!isName(event) || !isName(deliveryId)) return null;
    const head = { deliveryId, event };
    const signatures = headers["webhook-signature"];
    if (signatures !== undefined) {
      const timestamp = headers["webhook-timestamp"] ?? "";
      if (!/^\d{1,12}$/.test(timestamp) || Math.abs(now - Number(timestamp) * 1000) > signatureAgeMsMax) return null;
      const key = Buffer.from(gitlabSigningToken(secret).slice("whsec_".length), "base64");
      const expected = createHmac("sha256", key).update(`${deliveryId}.${timestamp}.`).update(body).digest();
      const given = signatures.split(" ").flatMap((one) => {
        const digest = /^v1,([A-Za-z0-9+/]{43}=)$/.exec(one)?.[1];
        return digest === undefined ? [] : [Buffer.from(digest, "base64")];
      });
      // The id is signed too, so the same body may come again under another: a push there and back and there again.
      return given.some((one) => timingSafeEqual(one, expected)) ? { ...head, unique: false } : null;
    }
    const token = headers["x-gitlab-token"];
    if (token === undefined) return null;
    const digest = (value: string) => createHmac("sha256", secret).update(value).digest();
    return timingSafeEqual(digest(token), digest(gitlabToken(secret))) ? { ...head, unique: false } : null;
  }

  parse(event: string, bytes: Buffer): GitEvent {
    const body = bodyObject(bytes);
    const project = field(body, "project");
    const repositoryId = project === null ? null : textOf(project, "id");
    if (repositoryId === null) return { kind: "other", repositoryId: null };
    switch (event) {
      case "Push Hook": {
        const branch = /^refs\/heads\/(.+)$/s.exec(text(body, "ref"))?.[1];
        if (branch === undefined) return { kind: "other", repositoryId };
        const sha = text(body, "after");
        return { kind: "push", repositoryId, branch, sha, deleted: /^0+$/.test(sha), author: textOf(body, "user_username") };
      }
      case "Merge Request Hook":
        return parseMergeRequest(body, repositoryId);
      case "Note Hook": {
        const note = objectField(body, "object_attributes");
        const mergeRequest = field(body, "merge_request");
        if (mergeRequest === null || (note["action"] ?? "create") !== "create") return { kind: "other", repositoryId };
        const number = Number(text(mergeRequest, "iid"));
        return { kind: "comment", repositoryId, number, text: textOf(note, "note") ?? "", actor: text(objectField(body, "user"), "id") };
      }
      default:
        return { kind: "other", repositoryId };
    }
  }

  async repository(access: GitAccess, path: string): Promise<RemoteRepository> {
    const project = await this.#ask(() => new Projects(this.#client(access)).show(path));
    return {
      id: String(project.id),
      path: String(project.path_with_namespace),
      defaultBranch: String(project.default_branch ?? "main"),
      private: project.visibility !== "public",
    };
  }

  repositoryById(access: GitAccess, id: string): Promise<RemoteRepository> {
    return this.repository(access, id); // GitLab takes either
  }

  async cloneCredentials(access: GitAccess): Promise<{ username: string; password: string }> {
    return { username: "oauth2", password: tokenOf(access) };
  }

  pullRequestRef(number: number): string {
    return `refs/merge-requests/${number}/head`;
  }

  async createWebhook(access: GitAccess, repository: RemoteRepository, hook: { url: string; secret: string }): Promise<string> {
    const options = {
      token: gitlabToken(hook.secret),
      signingToken: gitlabSigningToken(hook.secret), // ignored by a GitLab that cannot sign
      pushEvents: true,
      mergeRequestsEvents: true,
      noteEvents: true,
    };
    const made = await this.#ask(() => new ProjectHooks(this.#client(access)).add(repository.id, hook.url, options));
    return String(made.id);
  }

  async deleteWebhook(access: GitAccess, repository: RemoteRepository, id: string): Promise<void> {
    await this.#ask(() => new ProjectHooks(this.#client(access)).remove(repository.id, Number(id)));
  }

  async mayWrite(access: GitAccess, repository: RemoteRepository, actor: string): Promise<boolean> {
    try {
      const members = new ProjectMembers(this.#client(access));
      const member = await this.#ask(() => members.show(repository.id, Number(actor), { includeInherited: true }));
      return Number(member.access_level) >= developer;
    } catch (error) {
      if (error instanceof MayflyError && error.details["hostStatus"] === 404) return false;
      throw error;
    }
  }

  async postStatus(access: GitAccess, report: Report): Promise<void> {
    const commits = new Commits(this.#client(access));
    const options = { name: report.context, description: report.description, targetUrl: report.url, ref: report.branch };
    try {
      await this.#ask(() => commits.editStatus(report.repository.id, report.sha, statusOf[report.state], options));
    } catch (error) {
      // GitLab refuses to say what it knows already, and to go back from what is final.
      if (!(error instanceof MayflyError) || !/cannot transition status/i.test(error.message)) throw error;
    }
  }

  async postDeployment(): Promise<string> {
    throw new MayflyError("git_host_refused", "Deployments of GitLab belong to its pipelines; commit statuses carry the address.");
  }

  async postComment(
    access: GitAccess,
    repository: RemoteRepository,
    number: number,
    comment: GitComment,
    id: string | null,
  ): Promise<string> {
    const notes = new MergeRequestNotes(this.#client(access));
    const known = id ?? (await this.#findNote(notes, repository, number, comment.marker));
    if (known !== null) {
      await this.#ask(() => notes.edit(repository.id, number, Number(known), { body: comment.text }));
      return known;
    }
    const made = await this.#ask(() => notes.create(repository.id, number, comment.text));
    return String(made.id);
  }

  async #findNote(notes: MergeRequestNotes, repository: RemoteRepository, number: number, marker: string): Promise<string | null> {
    const page = { sort: "asc", perPage: 100, maxPages: 1 } as const;
    const found = (await this.#ask(() => notes.all(repository.id, number, page))).find((note) => note.body.includes(marker));
    return found === undefined ? null : String(found.id);
  }

  async #ask<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof MayflyError) throw error;
      throw hostError("GitLab", { status: null, headers: {}, message: messageOf(error), now: this.#options.now() });
    }
  }

  #client(access: GitAccess) {
    return { host: access.baseUrl, token: tokenOf(access), rateLimits: {}, requesterFn: this.#requester };
  }

  readonly #requester: (service: ResourceOptions) => RequesterType = createRequesterFn(
    async (_service, options) => options,
    (path, options) => this.#exchange(path, options as unknown as Exchange),
  );

  /** Asks once: whoever calls repeats. */
  async #exchange(path: string, { prefixUrl, searchParams, method, headers, body }: Exchange) {
    const { fetch, now } = this.#options;
    const url = new URL(path, `${prefixUrl.replace(/\/$/, "")}/`);
    url.search = searchParams ?? "";
    const response = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
    const answer = await response.text();
    const answerHeaders = Object.fromEntries(response.headers);
    const isJson = answer !== "" && (answerHeaders["content-type"] ?? "").startsWith("application/json");
    if (!response.ok) {
      throw hostError("GitLab", { status: response.status, headers: answerHeaders, message: answer.slice(0, 500), now: now() });
    }
    return { status: response.status, headers: answerHeaders, body: isJson ? (JSON.parse(answer) as Record<string, unknown>) : answer };
  }
}

/** What Gitbeaker has made of a call. */
interface Exchange {
  readonly prefixUrl: string;
  readonly searchParams?: string;
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly body?: string;
}

const isName = (value: string | undefined): value is string => value !== undefined && /^[\w -]{1,100}$/.test(value);

function tokenOf(access: GitAccess): string {
  if (access.kind === "token") return access.token;
  throw new MayflyError("git_host_refused", "GitLab is connected by an access token, not as an App.");
}

function parseMergeRequest(body: JsonObject, repositoryId: string): GitEvent {
  const mergeRequest = objectField(body, "object_attributes");
  const state = text(mergeRequest, "state");
  const action = textOf(mergeRequest, "action");
  const brought = action === "open" || (action === "update" && textOf(mergeRequest, "oldrev") !== null);
  if (!brought && !["reopen", "close", "merge"].includes(action ?? "")) return { kind: "other", repositoryId };
  return {
    kind: "pull-request",
    repositoryId,
    number: Number(text(mergeRequest, "iid")),
    state: state === "closed" || state === "merged" ? "closed" : "open",
    branch: text(mergeRequest, "source_branch"),
    sha: text(objectField(mergeRequest, "last_commit"), "id"),
    fork: textOf(mergeRequest, "source_project_id") !== textOf(mergeRequest, "target_project_id"),
    actor: brought ? text(objectField(body, "user"), "id") : null,
  };
}
