/** The first tables. Migrations go forward only and are never edited once released. */
import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<never>): Promise<void> {
  const statements = [
    sql`create table teams (id text primary key, slug text not null unique, name text not null)`,
    sql`create table users (id text primary key, username text not null unique, email text not null)`,
    sql`create table tokens (
      digest text primary key, user_id text not null references users (id), team_id text not null references teams (id),
      name text not null, created_at bigint not null)`,
    sql`create table projects (
      id text primary key, team_id text not null references teams (id), name text not null,
      settings text not null, created_at bigint not null, updated_at bigint not null, unique (team_id, name))`,
    sql`create table deployments (
      id text primary key, team_id text not null, project_id text not null references projects (id),
      name text not null, host text not null unique, target text not null, state text not null, creator_id text not null,
      meta text not null, created_at bigint not null, building_at bigint, ready_at bigint, error_code text, error_message text,
      source_digest text not null, manifest_digest text, request text not null, summary text, attempts integer not null)`,
    sql`create index deployments_by_project on deployments (project_id, created_at)`,
    sql`create index deployments_by_state on deployments (state, created_at)`,
    sql`create index deployments_by_team on deployments (team_id, created_at)`,
    sql`create table aliases (
      host text primary key, deployment_id text not null references deployments (id), project_id text not null,
      created_at bigint not null)`,
    sql`create index aliases_by_deployment on aliases (deployment_id)`,
    sql`create table uploads (
      sha1 text not null, team_id text not null, digest text not null, size bigint not null, created_at bigint not null,
      primary key (team_id, sha1))`,
  ];
  for (const statement of statements) await statement.execute(db);
}
