/** Connections to Git hosts, what they have sent, and what they have been told. */
import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<never>): Promise<void> {
  const statements = [
    sql`create table git_apps (
      id text primary key, team_id text not null references teams (id), base_url text not null, app_id text not null,
      slug text not null, private_key text not null, webhook_secret text not null, created_at bigint not null,
      unique (base_url, app_id))`,
    sql`create table git_app_requests (
      state_digest text primary key, team_id text not null references teams (id), base_url text not null, organization text,
      expires_at bigint not null)`,
    sql`create table git_connections (
      id text primary key, team_id text not null, project_id text not null unique references projects (id) on delete cascade, creator_id text not null, provider text not null,
      base_url text not null, repository text not null, repository_id text not null, production_branch text not null,
      app_id text, installation_id text, webhook_id text, token text, webhook_secret text, created_at bigint not null)`,
    sql`create index git_connections_by_app on git_connections (app_id, repository_id)`,
    sql`create table git_deliveries (
      id text primary key, connection_id text not null references git_connections (id) on delete cascade,
      host_delivery_id text not null, body_digest text not null, event text not null, detail text not null, subject text not null,
      state text not null, result text, deployment_id text, attempts integer not null, due_at bigint not null,
      received_at bigint not null, finished_at bigint, forced integer not null, unique (connection_id, host_delivery_id))`,
    sql`create index git_deliveries_by_state on git_deliveries (state, due_at)`,
    sql`create index git_deliveries_by_time on git_deliveries (connection_id, received_at)`,
    sql`create table git_branches (
      connection_id text not null references git_connections (id) on delete cascade, subject text not null, sha text,
      pull_request integer, approved_sha text, updated_at bigint not null, primary key (connection_id, subject))`,
    sql`create table git_reports (
      id text primary key, connection_id text not null references git_connections (id) on delete cascade, deployment_id text,
      sha text not null, branch text not null, pull_request integer, production integer not null, fork integer not null, outcome text, description text,
      posted text, host_deployment_id text, attempts integer not null, due_at bigint not null, error text, created_at bigint not null)`,
    sql`create index git_reports_by_connection on git_reports (connection_id, created_at)`,
    sql`create table git_comments (
      base_url text not null, repository_id text not null, pull_request integer not null, comment_id text, text_digest text,
      primary key (base_url, repository_id, pull_request))`,
  ];
  for (const statement of statements) await statement.execute(db);
}
