/** Projects as the client sees them, and what of a project leads to a deployment: production, promote, rollback. */
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../errors.ts";
import type { ApiClient } from "./client.ts";
import { number, object, text, type JsonObject } from "./json.ts";

export interface ProjectFacts {
  readonly id: string;
  readonly name: string;
  readonly teamId: string;
  /** The deployment that production's host leads to; null: none, or the server does not say. */
  readonly productionId: string | null;
}

/** How often a promotion is asked about, and for how long, in ms. */
const pointPollMs = 100;
const pointMsMax = 60_000;

/** @throws MayflyError not_found */
export async function getProject(client: ApiClient, idOrName: string): Promise<ProjectFacts> {
  return parseProject(await client.call("GET", `/v9/projects/${encodeURIComponent(idOrName)}`));
}

/** undefined: there is none. */
export async function findProject(client: ApiClient, idOrName: string): Promise<ProjectFacts | undefined> {
  try {
    return await getProject(client, idOrName);
  } catch (error) {
    if (error instanceof MayflyError && error.code === "not_found") return undefined;
    throw error;
  }
}

/** @throws MayflyError conflict, invalid_name */
export async function createProject(client: ApiClient, name: string): Promise<ProjectFacts> {
  return parseProject(await client.call("POST", "/v1/projects", { body: { name } }));
}

/**
 * Makes a deployment the production one: a pointer is written, nothing is built. Resolves when it is written.
 * @throws MayflyError conflict (it is not one that may be), not_found, timeout
 */
export async function pointProduction(
  client: ApiClient,
  how: "promote" | "rollback",
  projectId: string,
  deploymentId: string,
  signal?: AbortSignal,
): Promise<void> {
  const path = `/v10/projects/${encodeURIComponent(projectId)}/${how}/${encodeURIComponent(deploymentId)}`;
  await client.call("POST", path, { body: {}, idempotent: true, signal });
  const end = performance.now() + pointMsMax;
  for (;;) {
    const project = await client.call("GET", `/v9/projects/${encodeURIComponent(projectId)}`, { query: { rollbackInfo: "true" }, signal });
    const request = object(project["lastAliasRequest"]);
    const status = request["toDeploymentId"] === deploymentId ? text(request["jobStatus"]) : undefined;
    if (status === "succeeded" || status === "skipped") return;
    if (status === "failed") throw new MayflyError("conflict", `The server could not ${how} to ${deploymentId}.`);
    if (performance.now() > end)
      throw new MayflyError("timeout", `The server did not ${how} to ${deploymentId} in ${pointMsMax / 1000} s.`);
    await sleep(pointPollMs, undefined, { signal });
  }
}

function parseProject(json: JsonObject): ProjectFacts {
  return {
    id: text(json["id"]) ?? "",
    name: text(json["name"]) ?? "",
    teamId: text(json["accountId"]) ?? "",
    productionId: text(object(object(json["targets"])["production"])["id"]) ?? null,
  };
}

/** When a resource was made, in ms since 1970, in either of the API's ways to say it. */
export function createdAtOf(json: JsonObject): number | null {
  const created =
    number(json["createdAt"]) ?? number(json["created"]) ?? Date.parse(text(json["created"]) ?? text(json["createdAt"]) ?? "");
  return Number.isNaN(created) ? null : created;
}
