/** A project's settings, as the API has them: `framework`, `buildCommand`, `nextFunctions` and their like. */
import { noSettings } from "../model.ts";
import type { ApiClient } from "./client.ts";
import type { JsonObject } from "./json.ts";

export type Setting = string | boolean | null;
export type Settings = Readonly<Record<string, Setting>>;

export const settingNames: readonly string[] = Object.keys(noSettings);
/** Those that are on or off. */
export const switches: readonly string[] = Object.entries(noSettings).flatMap(([name, value]) =>
  typeof value === "boolean" ? [name] : [],
);

/** @throws MayflyError not_found */
export async function getSettings(client: ApiClient, projectId: string): Promise<Settings> {
  return parseSettings(await client.call("GET", `/v9/projects/${encodeURIComponent(projectId)}`));
}

/** @returns all of them as they are now @throws MayflyError bad_request, not_found */
export async function changeSettings(client: ApiClient, projectId: string, changes: Settings): Promise<Settings> {
  return parseSettings(await client.call("PATCH", `/v9/projects/${encodeURIComponent(projectId)}`, { body: { ...changes } }));
}

function parseSettings(json: JsonObject): Settings {
  return Object.fromEntries(
    settingNames.map((name) => {
      const value = json[name];
      return [name, typeof value === "string" || typeof value === "boolean" ? value : null];
    }),
  );
}
