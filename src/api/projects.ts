/** Projects and their settings, in the shapes that the official client reads. */
import { productionHost } from "../deploy/alias.ts";
import { MayflyError } from "../errors.ts";
import { disconnect } from "../git/connect.ts";
import { noSettings, type Project, type Retention } from "../model.ts";
import { isProjectName, projectName } from "../names.ts";
import { findAlias, setAlias } from "../store/aliases.ts";
import { deleteProject, findDeployment, listDeployments, listUnfinished } from "../store/deployments.ts";
import { listGitConnections } from "../store/git-connections.ts";
import { ensureProject, listProjects, updateProject } from "../store/projects.ts";
import { deploymentJson } from "./deployments.ts";
import { ofProject, ofProjects, ofTeam, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { isObject, object, optional, pageSize, pagination, paging, string, stringOf, whole } from "./schema.ts";
import { settingsOf, settingsSchema } from "./settings.ts";

const latestMax = 10;

const days = optional(whole(1, 36_500));
const retentionSchema = object({
  keepProduction: optional(whole(1, 1000)),
  productionDays: days,
  previewDays: days,
  errorDays: days,
  canceledDays: days,
});

export const projectEndpoints: readonly Endpoint[] = [
  ofProjects({
    method: "GET",
    path: "/projects",
    summary: "List projects, the last changed first",
    access: "read",
    query: { ...paging, search: string },
    async handle({ context: { store }, identity: { team, token }, query }) {
      const limit = pageSize(query);
      const projects = await listProjects(store, {
        teamId: team.id,
        limit,
        ...(token.projectId === null ? {} : { projectId: token.projectId }),
        ...(query["search"] === undefined ? {} : { search: query["search"] }),
        ...(Number(query["until"]) > 0 ? { untilMs: Number(query["until"]) } : {}),
      });
      return { projects: projects.map(projectJson), pagination: pagination(projects, limit, ({ updatedAt }) => updatedAt) };
    },
  }),
  ofTeam({
    method: "POST",
    path: "/projects",
    summary: "Create a project",
    access: "write",
    body: object({ ...settingsSchema, name: string }, "name"),
    async handle({ context: { store, clock }, identity: { team }, body }) {
      const name = stringOf(body, "name") ?? "";
      checkName(name);
      const { project, created } = await ensureProject(store, team.id, name, { ...noSettings, ...settingsOf(body) }, clock.now());
      if (!created) throw new MayflyError("conflict", `There is a project ${name} already.`);
      return projectJson(project);
    },
  }),
  ofProject({
    method: "GET",
    path: "/projects/:project",
    summary: "Get a project with its production and latest deployments",
    access: "read",
    query: { rollbackInfo: string },
    async handle(call) {
      const { project, context } = call;
      const { store, config } = context;
      const alias = await findAlias(store, project.teamId, productionHost(project.name, config.domain));
      const production = alias === null ? null : await findDeployment(store, project.teamId, alias.deploymentId);
      const latest = await listDeployments(store, { teamId: project.teamId, projectId: project.id, limit: latestMax });
      return {
        ...projectJson(project),
        targets: production === null ? {} : { production: deploymentJson(call, production, []) },
        latestDeployments: latest.map((deployment) => deploymentJson(call, deployment, [])),
      };
    },
  }),
  ofProject({
    method: "PATCH",
    path: "/projects/:project",
    summary: "Change a project's name, settings or retention",
    access: "write",
    body: object({ ...settingsSchema, name: string, retention: retentionSchema }),
    async handle(call) {
      const { project, body, context } = call;
      const name = stringOf(body, "name");
      if (name !== null) checkName(name);
      const changed = await updateProject(
        context.store,
        project.id,
        {
          ...(name === null ? {} : { name }),
          settings: settingsOf(body),
          ...(isObject(body["retention"]) ? { retention: body["retention"] as Partial<Retention> } : {}),
        },
        context.clock.now(),
      );
      if (changed === "taken") throw new MayflyError("conflict", `There is a project ${name} already.`);
      if (changed === null) throw new MayflyError("not_found", "Project not found");
      if (changed.name !== project.name) await followName(call, project, changed);
      return projectJson(changed);
    },
  }),
  ofProject({
    method: "DELETE",
    path: "/projects/:project",
    summary: "Delete a project with all that belongs to it",
    access: "write",
    async handle({ project, context: { store, logs, usage }, queue, git, tell }) {
      for (const connection of await listGitConnections(store, project.teamId, project.id)) {
        const left = await disconnect(git.context, connection);
        if (left !== null) tell("warning", "git-webhook", left);
      }
      for (const deployment of await listUnfinished(store)) {
        if (deployment.projectId === project.id) await queue.cancel(deployment.id);
      }
      for (const id of await deleteProject(store, project.id)) {
        await logs.deleteDeployment(id);
        await usage.deleteDeployment(id);
      }
      return undefined;
    },
  }),
  ofProject({
    method: "GET",
    path: "/projects/:project/custom-environments",
    summary: "Environments beside production, preview and development: there are none",
    access: "read",
    handle: async () => ({ environments: [] }),
  }),
];

/** The production host of the new name leads where that of the old one does, which stays. */
async function followName({ context: { store, config, clock } }: EndpointCall, before: Project, after: Project): Promise<void> {
  const alias = await findAlias(store, before.teamId, productionHost(before.name, config.domain));
  if (alias?.projectId !== before.id) return;
  const host = productionHost(after.name, config.domain);
  const there = await findAlias(store, after.teamId, host);
  if (there !== null && there.projectId !== after.id) return;
  await setAlias(
    store,
    { teamId: after.teamId, projectId: after.id },
    { host, deploymentId: alias.deploymentId, projectId: after.id },
    clock.now(),
  );
}

function projectJson(project: Project) {
  return {
    id: project.id,
    name: project.name,
    accountId: project.teamId,
    createdAt: project.createdAt,
    updatedAt: project.updatedAt,
    ...project.settings,
    nodeVersion: project.settings.nodeVersion ?? "24.x",
    retention: project.retention,
    autoAssignCustomDomains: !project.productionPinned,
    ...(project.lastAliasRequest === null ? {} : { lastAliasRequest: project.lastAliasRequest }),
    targets: {},
    latestDeployments: [],
  };
}

function checkName(name: string): void {
  if (isProjectName(name)) return;
  throw new MayflyError("invalid_name", `${JSON.stringify(name.slice(0, 100))} is not a project name; ${suggestName(name)}`);
}

function suggestName(name: string): string {
  try {
    return `${projectName(name)} is one.`;
  } catch {
    return "use lower-case letters, digits and hyphens.";
  }
}
