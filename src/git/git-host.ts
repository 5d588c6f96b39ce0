/**
 * SEAM: a Git host, GitHub or GitLab. Its driver checks and reads what the host sends, and says to the host what became of
 * a commit. `git-host.conformance.ts` tests every driver; callers read what it `can`, never its name.
 *
 * Invariant: a driver keeps nothing, retries nothing and waits for nothing longer than its deadline: whoever calls has it
 * written down, and repeats.
 */

/** How a repository of a host is reached: a token, or an App's installation. Secrets in the clear: never logged. */
export type GitAccess = { readonly baseUrl: string } & (
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "app"; readonly appId: string; readonly privateKey: string; readonly installationId: string }
);

/** A repository as its host knows it. */
export interface RemoteRepository {
  /** The host's own number; stays when the repository is renamed. */
  readonly id: string;
  /** `owner/name`, `group/sub/name`. */
  readonly path: string;
  readonly defaultBranch: string;
  readonly private: boolean;
}

/** A webhook as it came. Names of headers are lower-case. */
export interface Webhook {
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The body's bytes, as they were signed. */
  readonly body: Buffer;
}

/** What a webhook's head says once its signature holds. */
export interface WebhookHead {
  /** The host's id of the delivery; the same when the host sends it again. */
  readonly deliveryId: string;
  /** The host's word for the event. */
  readonly event: string;
  /** Each event of this host has a body of its own, so that one body under two ids is a replay. */
  readonly unique: boolean;
}

/** What has happened, in one vocabulary. All of it is a hint only: what is built is asked of the repository. */
export type GitEvent =
  | {
      readonly kind: "push";
      readonly repositoryId: string;
      readonly branch: string;
      readonly sha: string;
      readonly deleted: boolean;
      /** Login of the newest commit's author, as far as the host says. */
      readonly author: string | null;
    }
  | {
      readonly kind: "pull-request";
      readonly repositoryId: string;
      readonly number: number;
      /** `closed` when it was merged too. */
      readonly state: "open" | "closed";
      /** Branch in the repository it comes from. */
      readonly branch: string;
      readonly sha: string;
      /** It comes from another repository. */
      readonly fork: boolean;
      /** Who brought the commit (see {@link GitHost.mayWrite}); null: the event brought none, so nobody vouches for it. */
      readonly actor: string | null;
    }
  | {
      readonly kind: "comment";
      readonly repositoryId: string;
      /** The pull request it was written on. */
      readonly number: number;
      readonly text: string;
      /** Its author's login or user id. */
      readonly actor: string;
    }
  /** Nothing that concerns deployments; `repositoryId` null: no repository's. */
  | { readonly kind: "other"; readonly repositoryId: string | null };

/** Where a commit's deployment stands. */
export type ReportState = "waiting" | "queued" | "building" | "ready" | "failed" | "canceled" | "skipped";

/** What is said of a commit. */
export interface Report {
  readonly repository: RemoteRepository;
  readonly sha: string;
  readonly branch: string;
  /** Tells the statuses of several projects and servers apart: `Mayfly – shop`. */
  readonly context: string;
  readonly environment: string;
  readonly production: boolean;
  readonly state: ReportState;
  /** One line, at most 140 characters. */
  readonly description: string;
  /** Where to look: the deployment when it is ready. */
  readonly url: string;
}

export interface GitHost {
  readonly name: "github" | "gitlab";
  readonly can: {
    /** Keeps a list of deployments with their URLs. */
    readonly deployments: boolean;
    /** Can be set up as an App. */
    readonly apps: boolean;
  };

  /** null: the signature is missing, wrong or too old. Compares in constant time. `now` in ms since 1970. */
  verify(webhook: Webhook, secret: string, now: number): WebhookHead | null;
  /** @throws MayflyError bad_request when the body is not what the event should have */
  parse(event: string, body: Buffer): GitEvent;

  /** @throws MayflyError git_host_refused, git_host_unavailable (so do all that follow) */
  repository(access: GitAccess, path: string): Promise<RemoteRepository>;
  /** The same repository, whatever it is called by now. */
  repositoryById(access: GitAccess, id: string): Promise<RemoteRepository>;
  /** For HTTP Basic authentication of Git itself. */
  cloneCredentials(access: GitAccess): Promise<{ readonly username: string; readonly password: string }>;
  /** The ref of the repository, not of the fork, under which the host keeps a pull request's head. */
  pullRequestRef(number: number): string;
  /** Makes the host send webhooks; the id to remove it by. */
  createWebhook(access: GitAccess, repository: RemoteRepository, hook: { url: string; secret: string }): Promise<string>;
  deleteWebhook(access: GitAccess, repository: RemoteRepository, id: string): Promise<void>;
  /** Whether an actor of an event may push to the repository. */
  mayWrite(access: GitAccess, repository: RemoteRepository, actor: string): Promise<boolean>;
  /** Saying the same twice is no error. */
  postStatus(access: GitAccess, report: Report): Promise<void>;
  /** Only when it `can`. Returns the host's id of the deployment; `id` null: it is made. */
  postDeployment(access: GitAccess, report: Report, id: string | null): Promise<string>;
  /**
   * Writes the one comment that has `marker` in it, or makes it; returns its id. `id` null: it is looked for first, for an
   * earlier attempt may have made it.
   */
  postComment(access: GitAccess, repository: RemoteRepository, number: number, comment: GitComment, id: string | null): Promise<string>;
}

export interface GitComment {
  /** Markdown; contains the marker. */
  readonly text: string;
  readonly marker: string;
}
