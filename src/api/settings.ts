/** Project settings in a body: of a project, or of one deployment. */
import { nextFunctions, noSettings, type ProjectSettings } from "../model.ts";
import { boolean, optional, string, type JsonObject } from "./schema.ts";

export const settingsSchema = {
  framework: optional(string),
  buildCommand: optional(string),
  installCommand: optional(string),
  devCommand: optional(string),
  outputDirectory: optional(string),
  rootDirectory: optional(string),
  nodeVersion: optional(string),
  commandForIgnoringBuildStep: optional(string),
  directoryListing: boolean,
  nextFunctions: { type: ["string", "null"], enum: [...nextFunctions, null] },
};

/** The settings a checked body names; those it leaves out are not in the result. */
export function settingsOf(body: JsonObject): Partial<ProjectSettings> {
  return Object.fromEntries(
    Object.keys(noSettings)
      .filter((key) => body[key] !== undefined)
      .map((key) => [key, body[key] === "" ? null : body[key]]),
  );
}
