/** A project's environment variables as the client sees them. Values are written and pulled; a listing never has them. */
import type { ApiClient } from "./client.ts";
import { object, objects, text, texts } from "./json.ts";
import { createdAtOf } from "./projects.ts";

export const envTargets = ["production", "preview", "development"] as const;
export type EnvTarget = (typeof envTargets)[number];

export interface VariableFacts {
  readonly id: string;
  readonly name: string;
  readonly targets: readonly string[];
  readonly gitBranch: string | null;
  /** `sensitive`: its value is given to builds and Functions only, never back to people. */
  readonly type: string;
  readonly createdAtMs: number | null;
}

export interface NewVariable {
  readonly name: string;
  readonly value: string;
  readonly targets: readonly EnvTarget[];
  readonly gitBranch: string | undefined;
  readonly sensitive: boolean;
  /** Replace one of that name; without it that is a conflict. */
  readonly force: boolean;
}

const resource = (projectId: string, id?: string): string =>
  `/v10/projects/${encodeURIComponent(projectId)}/env${id === undefined ? "" : `/${encodeURIComponent(id)}`}`;

export async function listVariables(client: ApiClient, projectId: string, target?: string): Promise<readonly VariableFacts[]> {
  const answer = await client.call("GET", resource(projectId), { query: { target } });
  return objects(answer["envs"]).map((json) => ({
    id: text(json["id"]) ?? "",
    name: text(json["key"]) ?? "",
    targets: typeof json["target"] === "string" ? [json["target"]] : texts(json["target"]),
    gitBranch: text(json["gitBranch"]) ?? null,
    type: text(json["type"]) ?? "encrypted",
    createdAtMs: createdAtOf(json),
  }));
}

/** @throws MayflyError invalid_env, conflict */
export async function addVariable(client: ApiClient, projectId: string, variable: NewVariable): Promise<void> {
  const { name, value, targets, gitBranch, sensitive, force } = variable;
  await client.call("POST", resource(projectId), {
    query: { upsert: force ? "true" : undefined },
    body: { key: name, value, target: targets, type: sensitive ? "sensitive" : "encrypted", ...(gitBranch !== undefined && { gitBranch }) },
    idempotent: force,
  });
}

/** @throws MayflyError not_found */
export async function removeVariable(client: ApiClient, projectId: string, id: string): Promise<void> {
  await client.call("DELETE", resource(projectId, id));
}

/** Names and values for a machine that develops or builds; sensitive ones are left out. */
export async function pullVariables(
  client: ApiClient,
  projectId: string,
  target: EnvTarget,
  gitBranch: string | undefined,
): Promise<Readonly<Record<string, string>>> {
  const branch = gitBranch === undefined ? "" : `/${encodeURIComponent(gitBranch)}`;
  const answer = await client.call("GET", `/v3/env/pull/${encodeURIComponent(projectId)}/${target}${branch}`);
  return Object.fromEntries(
    Object.entries(object(answer["env"])).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}
