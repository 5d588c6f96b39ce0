/** Projects by team. Names are unique in a team and always in the form of `projectName` (names.ts). */
import type { Selectable } from "kysely";
import { noSettings, type AliasRequest, type Project, type ProjectSettings, type Retention, type TimestampMs } from "../model.ts";
import { newProjectId } from "../names.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

const noRetention: Retention = { keepProduction: null, productionDays: null, previewDays: null, errorDays: null, canceledDays: null };

/** By id or name; null when the team has none such. */
export async function findProject(store: Store, teamId: string, idOrName: string): Promise<Project | null> {
  const row = await store.db
    .selectFrom("projects")
    .selectAll()
    .where("team_id", "=", teamId)
    .where((where) => where.or([where("id", "=", idOrName), where("name", "=", idOrName)]))
    .executeTakeFirst();
  return row === undefined ? null : toProject(row);
}

/** Of whatever team: for the platform itself. */
export async function findProjectById(store: Store, id: string): Promise<Project | null> {
  const row = await store.db.selectFrom("projects").selectAll().where("id", "=", id).executeTakeFirst();
  return row === undefined ? null : toProject(row);
}

export interface ProjectQuery {
  readonly teamId: string;
  /** Only this one: a token may be for a single project. */
  readonly projectId?: string;
  /** Part of the name. */
  readonly search?: string;
  /** Only those changed before. */
  readonly untilMs?: TimestampMs;
  readonly limit: number;
}

/** The last changed first. */
export async function listProjects(store: Store, query: ProjectQuery): Promise<Project[]> {
  let select = store.db.selectFrom("projects").selectAll().where("team_id", "=", query.teamId);
  if (query.projectId !== undefined) select = select.where("id", "=", query.projectId);
  // Names have no character that LIKE knows.
  if (query.search !== undefined) select = select.where("name", "like", `%${query.search.toLowerCase().replaceAll(/[^a-z0-9-]/g, "")}%`);
  if (query.untilMs !== undefined) select = select.where("updated_at", "<", query.untilMs);
  const rows = await select.orderBy("updated_at", "desc").orderBy("id").limit(query.limit).execute();
  return rows.map(toProject);
}

/** Of every team: for the platform itself. */
export async function listAllProjects(store: Store): Promise<Project[]> {
  return (await store.db.selectFrom("projects").selectAll().orderBy("id").execute()).map(toProject);
}

/** The project of that name, made when it is absent (then with `settings`); safe against two makers at once. */
export async function ensureProject(
  store: Store,
  teamId: string,
  name: string,
  settings: ProjectSettings,
  now: TimestampMs,
): Promise<{ project: Project; created: boolean }> {
  const id = newProjectId();
  await store.db
    .insertInto("projects")
    .values({
      id,
      team_id: teamId,
      name,
      settings: JSON.stringify(settings),
      created_at: now,
      updated_at: now,
      retention: JSON.stringify(noRetention),
      production_pinned: 0,
      alias_request: null,
    })
    .onConflict((conflict) => conflict.columns(["team_id", "name"]).doNothing())
    .execute();
  const project = await findProject(store, teamId, name);
  if (project === null) throw new Error(`Project ${name} vanished while it was made.`);
  return { project, created: project.id === id };
}

export interface ProjectChange {
  readonly name?: string;
  readonly settings?: Partial<ProjectSettings>;
  readonly retention?: Partial<Retention>;
}

/** null when there is no such project any more; "taken" when the team has another one of that name. */
export async function updateProject(store: Store, id: string, change: ProjectChange, now: TimestampMs): Promise<Project | null | "taken"> {
  return store.db.transaction().execute(async (trx) => {
    // Written first, so that nobody else writes between what is read and what is written.
    const row = await trx.updateTable("projects").set({ updated_at: now }).where("id", "=", id).returningAll().executeTakeFirst();
    if (row === undefined) return null;
    const { name = row.name } = change;
    const before = toProject(row);
    const settings = { ...before.settings, ...change.settings };
    const retention = { ...before.retention, ...change.retention };
    if (name !== row.name) {
      const other = await trx
        .selectFrom("projects")
        .select("id")
        .where("team_id", "=", row.team_id)
        .where("name", "=", name)
        .executeTakeFirst();
      if (other !== undefined) return "taken";
    }
    await trx
      .updateTable("projects")
      .set({ name, settings: JSON.stringify(settings), retention: JSON.stringify(retention) })
      .where("id", "=", id)
      .execute();
    return { ...before, name, settings, retention };
  });
}

function toProject(row: Selectable<Tables["projects"]>): Project {
  return {
    id: row.id,
    teamId: row.team_id,
    name: row.name,
    settings: { ...noSettings, ...(JSON.parse(row.settings) as Partial<ProjectSettings>) },
    retention: { ...noRetention, ...(JSON.parse(row.retention) as Partial<Retention>) },
    productionPinned: row.production_pinned === 1,
    lastAliasRequest: JSON.parse(row.alias_request ?? "null") as AliasRequest | null,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
