/** Which project a command is about: what a flag says, else what the directory is linked to. */
import type { ApiClient } from "../client/client.ts";
import { getUser } from "../client/deployments.ts";
import { linkPath, readLinkFile } from "../client/link.ts";
import { findProject, getProject, type ProjectFacts } from "../client/projects.ts";
import { MayflyError } from "../errors.ts";
import type { Flags, Invocation } from "./command.ts";
import { parseDeploymentRef } from "./session.ts";

/** The flag of commands that are about a project. */
export const projectFlag = {
  project: { type: "string", short: "p", value: "NAME", doc: "The project (else the one that this directory is linked to)." },
} as const satisfies Flags;

/**
 * The project of `--project`, else of the link in the working directory.
 * @throws MayflyError usage (none is named), not_found
 */
export async function openProject(invocation: Invocation, client: ApiClient): Promise<ProjectFacts> {
  const named = invocation.value("project");
  if (named !== undefined) return getProject(client, named);
  const linked = await linkedProject(invocation, client);
  if (linked !== undefined) return linked;
  throw new MayflyError("usage", 'Which project? Name one with --project NAME, or link this directory to one with "mayfly link".');
}

/**
 * The project that the working directory is linked to; undefined: it is not linked.
 * @throws MayflyError not_found when it is gone
 */
export async function linkedProject(invocation: Invocation, client: ApiClient): Promise<ProjectFacts | undefined> {
  const link = await readLinkFile(invocation.cwd);
  if (link === undefined) return undefined;
  const { teamId } = await getUser(client);
  if (link.orgId === teamId) return getProject(client, link.projectId);
  // Linked to another server: what counts is the name.
  const found = link.projectName === undefined ? undefined : await findProject(client, link.projectName);
  if (found !== undefined) return found;
  throw new MayflyError(
    "not_found",
    `This directory is linked to a project of another server (${linkPath}), and ${client.api} has none of that name. Link it here with "mayfly link".`,
  );
}

/**
 * The deployment that an argument names (id, host or URL), else the production of the linked project.
 * @throws MayflyError usage (neither), not_found
 */
export async function chosenDeployment(invocation: Invocation, client: ApiClient): Promise<string> {
  const named = invocation.positionals[0];
  if (named !== undefined) return parseDeploymentRef(named);
  const project = await linkedProject(invocation, client);
  if (project === undefined)
    throw new MayflyError("usage", 'Which deployment? Name its id, host or URL, or link this directory with "mayfly link".');
  if (project.productionId === null) throw new MayflyError("not_found", `${project.name} has no production deployment yet.`);
  return project.productionId;
}
