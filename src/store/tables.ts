/** The tables as Kysely sees them; migrations/ makes them. Column names are snake_case, times are milliseconds, JSON is text. */
import type { ColumnType, Generated } from "kysely";

export interface Tables {
  teams: { id: string; slug: string; name: string };
  users: { id: string; username: string; email: string };
  tokens: {
    /** SHA-256 of the token; the token itself is never kept. */
    digest: string;
    user_id: string;
    team_id: string;
    name: string;
    created_at: number;
    /** `tok_…`: what a token is listed and revoked by. */
    id: string;
    /** `full` or `read-only`. */
    scope: Generated<string>;
    /** null: all of the team's projects. */
    project_id: string | null;
    /** null: never. */
    expires_at: number | null;
    /** To the hour. */
    used_at: number | null;
  };
  members: { team_id: string; user_id: string; /** `OWNER` or `MEMBER`. */ role: string };
  projects: {
    id: string;
    team_id: string;
    name: string;
    /** JSON: ProjectSettings */
    settings: string;
    created_at: ColumnType<number, number, never>;
    updated_at: number;
    /** JSON: Retention */
    retention: Generated<string>;
    /** 1: after a rollback no new deployment takes production by itself. */
    production_pinned: Generated<number>;
    /** JSON: AliasRequest */
    alias_request: string | null;
  };
  deployments: {
    id: string;
    team_id: string;
    project_id: string;
    name: string;
    host: string;
    target: string;
    state: string;
    creator_id: string;
    meta: string;
    created_at: number;
    building_at: number | null;
    ready_at: number | null;
    error_code: string | null;
    error_message: string | null;
    source_digest: string;
    manifest_digest: string | null;
    /** JSON: DeploymentRequest */
    request: string;
    /** JSON: BuildSummary */
    summary: string | null;
    attempts: number;
    /** JSON: GitSource */
    git: string | null;
    branch: string | null;
    /** When it last became production. */
    promoted_at: number | null;
  };
  cache_purges: {
    serial: number;
    project_id: string;
    deployment_id: string | null;
    tag: string | null;
    /** `delete` or `invalidate` */
    mode: string;
    created_at: number;
  };
  aliases: {
    host: string;
    deployment_id: string;
    project_id: string;
    created_at: number;
    /** Deployments made before it do not take this alias by themselves. */
    since: Generated<number>;
  };
  variables: {
    id: string;
    project_id: string;
    name: string;
    /** Sealed. */
    value: string;
    type: string;
    /** JSON: EnvTarget[] */
    targets: string;
    branch: string | null;
    comment: string;
    creator_id: string;
    created_at: number;
    updated_at: number;
  };
  domains: { name: string; team_id: string; created_at: number };
  project_domains: { host: string; project_id: string; branch: string | null; created_at: number };
  cron_runs: {
    project_id: string;
    path: string;
    schedule: string;
    due_at: number;
    deployment_id: string;
    started_at: number;
    ended_at: number | null;
    /** HTTP status of the answer. */
    status: number | null;
    error: string | null;
  };
  garbage: { digest: string; size: number; found_at: number };
  idempotency_keys: { team_id: string; key: string; request_digest: string; deployment_id: string; created_at: number };
  build_records: { project_id: string; lane: string; record_digest: string; updated_at: number };
  uploads: {
    /** SHA-1 that the client named the file by. */
    sha1: string;
    team_id: string;
    digest: string;
    size: number;
    created_at: number;
  };
  git_apps: {
    id: string;
    team_id: string;
    base_url: string;
    app_id: string;
    slug: string;
    /** Sealed. */
    private_key: string;
    /** Sealed. */
    webhook_secret: string;
    created_at: number;
  };
  git_app_requests: {
    /** SHA-256 of the state that goes to the host and comes back. */
    state_digest: string;
    team_id: string;
    base_url: string;
    organization: string | null;
    expires_at: number;
  };
  git_connections: {
    id: string;
    team_id: string;
    project_id: string;
    creator_id: string;
    provider: string;
    base_url: string;
    repository: string;
    repository_id: string;
    production_branch: string;
    app_id: string | null;
    installation_id: string | null;
    webhook_id: string | null;
    /** Sealed; null: an App's. */
    token: string | null;
    /** Sealed; null: the App's. */
    webhook_secret: string | null;
    created_at: number;
  };
  git_deliveries: {
    id: string;
    connection_id: string;
    host_delivery_id: string;
    /** SHA-256 of the body. */
    body_digest: string;
    event: string;
    /** JSON: GitEvent (git/git-host.ts). */
    detail: string;
    /** What it is about (`branch/main`, `pull/7`): of several that wait, the newest is enough. */
    subject: string;
    state: string;
    result: string | null;
    deployment_id: string | null;
    attempts: number;
    /** Not to be tried before. */
    due_at: number;
    received_at: number;
    finished_at: number | null;
    /** 1: a person asked for it again; nothing is skipped as known. */
    forced: number;
  };
  git_branches: {
    connection_id: string;
    /** `branch/main`; `pull/7` for a fork's pull request. */
    subject: string;
    /** The commit that was last deployed, or decided not to be. */
    sha: string | null;
    /** An open pull request of the branch. */
    pull_request: number | null;
    /** A fork's commit that a member has approved. */
    approved_sha: string | null;
    updated_at: number;
  };
  git_reports: {
    id: string;
    connection_id: string;
    /** null: nothing is built; `outcome` and `description` say why. */
    deployment_id: string | null;
    sha: string;
    branch: string;
    pull_request: number | null;
    production: number;
    fork: number;
    outcome: string | null;
    description: string | null;
    /** The last state that the host knows of. */
    posted: string | null;
    /** The host's id of its deployment. */
    host_deployment_id: string | null;
    attempts: number;
    due_at: number;
    error: string | null;
    created_at: number;
  };
  git_comments: {
    base_url: string;
    repository_id: string;
    pull_request: number;
    comment_id: string | null;
    /** SHA-256 of the text that the host has. */
    text_digest: string | null;
  };
}
