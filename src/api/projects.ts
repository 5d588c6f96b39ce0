/** Projects, in the shapes that the official client reads. */
import type { Endpoint } from "./endpoint.ts";
import { MayflyError } from "../errors.ts";
import type { Project, ProjectSettings } from "../model.ts";
import { isProjectName, projectName } from "../names.ts";
import { deleteProject, listUnfinished } from "../store/deployments.ts";
import { ensureProject, findProject, listProjects, noSettings } from "../store/projects.ts";
import { optionalString, type JsonObject } from "./body.ts";

const listMax = 100;

export const projectEndpoints: readonly Endpoint[] = [
  {
    method: "GET",
    path: "/projects",
    async handle({ context: { store }, identity: { team } }) {
      const projects = await listProjects(store, team.id, listMax);
      return { projects: projects.map(projectJson), pagination: { count: projects.length, next: null, prev: null } };
    },
  },
  {
    method: "POST",
    path: "/projects",
    async handle({ context: { store, clock }, identity: { team }, json }) {
      const body = await json();
      const name = optionalString(body, "name") ?? "";
      if (!isProjectName(name))
        throw new MayflyError("invalid_name", `${JSON.stringify(name.slice(0, 100))} is not a project name; ${suggestName(name)}`);
      const { project, created } = await ensureProject(store, team.id, name, { ...noSettings, ...settingsOf(body) }, clock.now());
      if (!created) throw new MayflyError("conflict", `There is a project ${name} already.`);
      return projectJson(project);
    },
  },
  {
    method: "GET",
    path: "/projects/:idOrName",
    async handle({ context: { store }, identity: { team }, params }) {
      const project = await findProject(store, team.id, params["idOrName"]!);
      if (project === null) throw new MayflyError("not_found", "Project not found");
      return projectJson(project);
    },
  },
  {
    method: "DELETE",
    path: "/projects/:idOrName",
    async handle({ context: { store, logs, usage }, queue, identity: { team }, params }) {
      const project = await findProject(store, team.id, params["idOrName"]!);
      if (project === null) throw new MayflyError("not_found", "Project not found");
      for (const deployment of await listUnfinished(store)) {
        if (deployment.projectId === project.id) await queue.cancel(deployment.id);
      }
      for (const id of await deleteProject(store, project.id)) {
        await logs.deleteDeployment(id);
        await usage.deleteDeployment(id);
      }
      return undefined;
    },
  },
];

/** The settings a body names, checked; those it leaves out are not in the result. */
export function settingsOf(body: JsonObject): Partial<ProjectSettings> {
  const settings: Partial<Record<keyof ProjectSettings, string | null>> = {};
  for (const key of Object.keys(noSettings) as (keyof ProjectSettings)[]) {
    if (body[key] !== undefined) settings[key] = optionalString(body, key);
  }
  return settings;
}

function projectJson(project: Project) {
  return {
    id: project.id,
    name: project.name,
    accountId: project.teamId,
    createdAt: project.createdAt,
    updatedAt: project.updatedAt,
    ...project.settings,
    devCommand: null,
    nodeVersion: project.settings.nodeVersion ?? "24.x",
    directoryListing: false,
    targets: {},
    latestDeployments: [],
  };
}

function suggestName(name: string): string {
  try {
    return `${projectName(name)} is one.`;
  } catch {
    return "use lower-case letters, digits and hyphens.";
  }
}
