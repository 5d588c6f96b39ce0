/** Projects by team. Names are unique in a team and always in the form of `projectName` (names.ts). */
import type { Selectable } from "kysely";
import type { Project, ProjectSettings, TimestampMs } from "../model.ts";
import { newProjectId } from "../names.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

export const noSettings: ProjectSettings = {
  framework: null,
  buildCommand: null,
  installCommand: null,
  outputDirectory: null,
  rootDirectory: null,
  nodeVersion: null,
};

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

/** The team's projects, the last changed first. */
export async function listProjects(store: Store, teamId: string, limit: number): Promise<Project[]> {
  const rows = await store.db
    .selectFrom("projects")
    .selectAll()
    .where("team_id", "=", teamId)
    .orderBy("updated_at", "desc")
    .limit(limit)
    .execute();
  return rows.map(toProject);
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
    .values({ id, team_id: teamId, name, settings: JSON.stringify(settings), created_at: now, updated_at: now })
    .onConflict((conflict) => conflict.columns(["team_id", "name"]).doNothing())
    .execute();
  const project = await findProject(store, teamId, name);
  if (project === null) throw new Error(`Project ${name} vanished while it was made.`);
  return { project, created: project.id === id };
}

function toProject(row: Selectable<Tables["projects"]>): Project {
  return {
    id: row.id,
    teamId: row.team_id,
    name: row.name,
    settings: { ...noSettings, ...(JSON.parse(row.settings) as Partial<ProjectSettings>) },
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
