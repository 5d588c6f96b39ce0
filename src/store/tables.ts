/** The tables as Kysely sees them; migrations/ makes them. Column names are snake_case, times are milliseconds, JSON is text. */
import type { ColumnType } from "kysely";

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
  };
  projects: {
    id: string;
    team_id: string;
    name: string;
    /** JSON: ProjectSettings */
    settings: string;
    created_at: ColumnType<number, number, never>;
    updated_at: number;
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
  };
  aliases: { host: string; deployment_id: string; project_id: string; created_at: number };
  cache_purges: {
    serial: number;
    project_id: string;
    deployment_id: string | null;
    tag: string | null;
    /** `delete` or `invalidate` */
    mode: string;
    created_at: number;
  };
  uploads: {
    /** SHA-1 that the client named the file by. */
    sha1: string;
    team_id: string;
    digest: string;
    size: number;
    created_at: number;
  };
}
