/**
 * What a project at work needs: variables, domains, cron runs, pinned production, branches, tokens with scope and end,
 * members of teams.
 */
import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<never>): Promise<void> {
  const statements = [
    sql`create table members (
      team_id text not null references teams (id), user_id text not null references users (id), role text not null,
      primary key (team_id, user_id))`,
    // Until now there was one team and one user, both made by the first start.
    sql`insert into members (team_id, user_id, role) select teams.id, users.id, 'OWNER' from teams, users`,

    sql`alter table tokens add column id text`,
    sql`update tokens set id = 'tok_' || substr(digest, 1, 24)`,
    sql`create unique index tokens_by_id on tokens (id)`,
    sql`alter table tokens add column scope text not null default 'full'`,
    sql`alter table tokens add column project_id text`,
    sql`alter table tokens add column expires_at bigint`,
    sql`alter table tokens add column used_at bigint`,

    sql`alter table projects add column retention text not null default '{}'`,
    sql`alter table projects add column production_pinned integer not null default 0`,
    sql`alter table projects add column alias_request text`,

    sql`alter table deployments add column git text`,
    sql`alter table deployments add column branch text`,
    sql`alter table deployments add column promoted_at bigint`,
    sql`update deployments set promoted_at = ready_at where target = 'production' and state = 'READY'`,
    sql`create index deployments_by_branch on deployments (project_id, branch, created_at)`,

    sql`alter table aliases add column since bigint not null default 0`,
    sql`update aliases set since = coalesce((select created_at from deployments where id = deployment_id), 0)`,
    sql`create index aliases_by_project on aliases (project_id)`,

    sql`create table variables (
      id text primary key, project_id text not null references projects (id), name text not null, value text not null,
      type text not null, targets text not null, branch text, comment text not null, creator_id text not null,
      created_at bigint not null, updated_at bigint not null)`,
    sql`create index variables_by_project on variables (project_id, name)`,

    sql`create table domains (name text primary key, team_id text not null references teams (id), created_at bigint not null)`,
    sql`create table project_domains (
      host text primary key, project_id text not null references projects (id), branch text, created_at bigint not null)`,
    sql`create index project_domains_by_project on project_domains (project_id)`,

    sql`create table cron_runs (
      project_id text not null references projects (id), path text not null, schedule text not null, due_at bigint not null,
      deployment_id text not null, started_at bigint not null, ended_at bigint, status integer, error text,
      primary key (project_id, path, schedule, due_at))`,

    sql`create table idempotency_keys (
      team_id text not null, key text not null, request_digest text not null, deployment_id text not null,
      created_at bigint not null, primary key (team_id, key))`,
  ];
  for (const statement of statements) await statement.execute(db);
}
