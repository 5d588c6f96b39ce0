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
  idempotency_keys: { team_id: string; key: string; request_digest: string; deployment_id: string; created_at: number };
  uploads: {
    /** SHA-1 that the client named the file by. */
    sha1: string;
    team_id: string;
    digest: string;
    size: number;
    created_at: number;
  };
}
