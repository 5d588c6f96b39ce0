/**
 * The file by which a project says how it is built and served: vercel.json, its forerunner now.json, vercel.toml, or a
 * program (vercel.ts) that a sandbox runs first (configuration-program.ts). A project has one. Hides in which form it is
 * written: all that follows speaks of "vercel.json" (vercel-json.ts).
 */
import { getTransformedRoutes } from "@vercel/routing-utils";
import { parse as parseToml } from "smol-toml";
import { MayflyError, messageOf } from "../errors.ts";
import type { Project } from "./project.ts";
import { isObject, type Json } from "./shape.ts";
import { checkVercelJson, noVercelJson, vercelJsonBytesMax, type VercelJson } from "./vercel-json.ts";

/** Configurations that say what they say without being run. */
export const documents = ["vercel.json", "now.json", "vercel.toml"];
const programs = ["vercel.ts", "vercel.mts", "vercel.js", "vercel.mjs", "vercel.cjs"];
/** Names of configurations: no file of a site. */
export const configurationNames: ReadonlySet<string> = new Set([...documents, ...programs]);

/**
 * Name of the file that configures the project; null when it has none.
 * @throws MayflyError INVALID_VERCEL_JSON when it has several
 */
export function findConfiguration(project: Pick<Project, "has">): string | null {
  const found = [...configurationNames].filter((name) => project.has(name));
  if (found.length > 1)
    throw new MayflyError("INVALID_VERCEL_JSON", `There are ${found.join(" and ")}: a project is configured by one of them.`);
  return found[0] ?? null;
}

/** What the file says can only be known when it has been run. */
export const isProgram = (name: string): boolean => programs.includes(name);

/**
 * What a project's configuration says, checked.
 * @param value what its program has said, when it is one
 * @throws MayflyError INVALID_VERCEL_JSON, which names the file
 */
export async function readConfiguration(project: Project, value: unknown): Promise<VercelJson> {
  const name = findConfiguration(project);
  if (name === null) return noVercelJson;
  try {
    const said = isProgram(name) ? value : parseDocument(name, (await project.read(name)).toString("utf8"));
    const checked = await checkVercelJson(name === "vercel.json" ? said : toRoutes(said));
    const warnings = checked.warnings.map((text) => text.replace(/^vercel\.json/, name));
    if (name === "now.json") warnings.push("now.json is deprecated: call it vercel.json.");
    return { ...checked, warnings };
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    throw new MayflyError(error.code, error.message.replace(/^vercel\.json/, name), { cause: error });
  }
}

/** @throws MayflyError INVALID_VERCEL_JSON */
export function parseDocument(name: string, text: string): unknown {
  if (Buffer.byteLength(text) > vercelJsonBytesMax) {
    throw new MayflyError("INVALID_VERCEL_JSON", `${name} is larger than ${vercelJsonBytesMax} bytes.`);
  }
  try {
    return name.endsWith(".toml") ? parseToml(text) : JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    const language = name.endsWith(".toml") ? "TOML" : "JSON";
    throw new MayflyError("INVALID_VERCEL_JSON", `${name} is not valid ${language}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * The helpers of `@vercel/config` write a rule that has transforms as a route. Then all rules become routes, in the order
 * of the `vercel` client: `rewrites`, `redirects`, `headers`.
 */
function toRoutes(said: unknown): unknown {
  if (!isObject(said)) return said;
  const { rewrites, redirects, headers, ...rest } = said;
  const lists = Object.entries({ rewrites, redirects, headers }).map(
    ([key, list]) => [key, Array.isArray(list) ? (list as unknown[]) : []] as const,
  );
  if (!lists.some(([, list]) => list.some(isRoute))) return said;
  if (said["routes"] !== undefined) return said; // refused as it is: both are there
  const routes = lists.flatMap(([key, list]) =>
    list.map((rule) => (isRoute(rule) ? rule : getTransformedRoutes({ [key]: [rule] }).routes?.findLast(isRoute))),
  );
  return { ...rest, routes };
}

const isRoute = (rule: unknown): rule is Json => isObject(rule) && typeof rule["src"] === "string";
