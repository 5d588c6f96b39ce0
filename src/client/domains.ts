/** Domains as the client sees them: hosts of a person's own at which a project's production answers. */
import type { ApiClient } from "./client.ts";
import { objects, text } from "./json.ts";
import { createdAtOf } from "./projects.ts";

const pageMax = 100;

export interface DomainFacts {
  readonly name: string;
  readonly projectId: string | null;
  readonly createdAtMs: number | null;
}

/** Of one project. */
export async function listProjectDomains(client: ApiClient, projectId: string): Promise<readonly DomainFacts[]> {
  const answer = await client.call("GET", `/v9/projects/${encodeURIComponent(projectId)}/domains`, { query: { limit: pageMax } });
  return objects(answer["domains"]).map((json) => ({
    name: text(json["name"]) ?? "",
    projectId: text(json["projectId"]) ?? projectId,
    createdAtMs: createdAtOf(json),
  }));
}

/** Of all projects. */
export async function listDomains(client: ApiClient): Promise<readonly DomainFacts[]> {
  const answer = await client.call("GET", "/v5/domains", { query: { limit: pageMax } });
  return objects(answer["domains"]).map((json) => ({
    name: text(json["name"]) ?? "",
    projectId: text(json["projectId"]) ?? null,
    createdAtMs: createdAtOf(json),
  }));
}

/** @throws MayflyError conflict (another project has it), bad_request (not a host) */
export async function addDomain(client: ApiClient, projectId: string, name: string): Promise<void> {
  await client.call("POST", `/v10/projects/${encodeURIComponent(projectId)}/domains`, { body: { name } });
}

/** @throws MayflyError not_found */
export async function removeDomain(client: ApiClient, projectId: string, name: string): Promise<void> {
  await client.call("DELETE", `/v9/projects/${encodeURIComponent(projectId)}/domains/${encodeURIComponent(name)}`);
}
