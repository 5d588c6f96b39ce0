/** Aliases as the client sees them: the hosts that lead to a deployment besides its own. */
import type { ApiClient } from "./client.ts";
import { object, objects, text } from "./json.ts";
import { createdAtOf } from "./projects.ts";

const pageMax = 100;

export interface AliasFacts {
  /** What the API names it by. */
  readonly id: string;
  readonly host: string;
  readonly deploymentId: string | null;
  readonly createdAtMs: number | null;
}

/** The newest first; `project` is a name or id. */
export async function listAliases(client: ApiClient, projectId: string | undefined): Promise<readonly AliasFacts[]> {
  const answer = await client.call("GET", "/v4/aliases", { query: { limit: pageMax, projectId } });
  return objects(answer["aliases"]).map((json) => {
    const host = text(json["alias"]) ?? "";
    return {
      id: text(json["uid"]) ?? host,
      host,
      deploymentId: text(json["deploymentId"]) ?? text(object(json["deployment"])["id"]) ?? null,
      createdAtMs: createdAtOf(json),
    };
  });
}

/** @returns the host as the server has it @throws MayflyError not_found, conflict, bad_request */
export async function setAlias(client: ApiClient, deploymentId: string, host: string): Promise<string> {
  const path = `/v2/deployments/${encodeURIComponent(deploymentId)}/aliases`;
  const answer = await client.call("POST", path, { body: { alias: host }, idempotent: true });
  return text(answer["alias"]) ?? host;
}

/** @throws MayflyError not_found */
export async function removeAlias(client: ApiClient, hostOrId: string): Promise<void> {
  await client.call("DELETE", `/v2/aliases/${encodeURIComponent(hostOrId)}`);
}
