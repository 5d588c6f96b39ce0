/**
 * vercel.json: checked, and its routes transformed. An unknown key (vercel-keys.ts) or a known one of a wrong type fails the
 * deployment, with the path in the file and what would be right.
 */
import { getTransformedRoutes } from "@vercel/routing-utils";
import { MayflyError, messageOf } from "../errors.ts";
import type { ProjectSettings, Route } from "../model.ts";
import type { SiteSettings } from "./builder.ts";
import { whyNoGlob } from "./glob.ts";
import { checkSite } from "./output-config.ts";
import { isObject, isStringRecord, isStrings, type Json } from "./shape.ts";
import { refuseUnknownKeys } from "./vercel-keys.ts";

/** Largest vercel.json in bytes. */
export const vercelJsonBytesMax = 1024 * 1024;
/** Entries, as Vercel allows. */
const functionsMax = 50;
const buildsMax = 128;

/** One entry of `functions`. */
export interface FunctionEntry {
  readonly memory?: number;
  readonly maxDuration?: number | "max";
  readonly includeFiles?: string;
  readonly excludeFiles?: string;
  readonly runtime?: string;
  readonly regions?: readonly string[];
}

/** One entry of the legacy `builds`. */
export interface BuildEntry {
  readonly src: string;
  readonly use: string;
  readonly config: Readonly<Record<string, unknown>>;
}

export interface VercelJson {
  /** What it says instead of the project's settings; a key is present when the file has it. */
  readonly settings: Partial<ProjectSettings>;
  readonly functions: Readonly<Record<string, FunctionEntry>>;
  readonly builds: readonly BuildEntry[];
  readonly cleanUrls: boolean | undefined;
  readonly trailingSlash: boolean | undefined;
  readonly routes: readonly Route[];
  /** Environment of the Functions (`env`) and of the build (`build.env`). */
  readonly env: Readonly<Record<string, string>>;
  readonly buildEnv: Readonly<Record<string, string>>;
  /** Where Functions run that do not say it themselves. */
  readonly regions: readonly string[];
  readonly site: SiteSettings;
  /** Route patterns of the whole deployment match case-sensitively. */
  readonly caseSensitive: boolean;
  readonly warnings: readonly string[];
}

const settingKeys = ["framework", "buildCommand", "installCommand", "outputDirectory"] as const;
/** Known, and of no effect here: said once in the build's log. */
const withoutEffect = [
  "fluid",
  "bunVersion",
  "bulkRedirectsPath",
  "customErrorPage",
  "functionFailoverRegions",
  "passiveRegions",
  "schedules",
];
/** Without them the project would be another one. */
const unsupported = ["services", "experimentalServices", "experimentalServicesV2", "experimentalServiceGroups", "proxy"];

/** vercel.json of a project that has none. */
export const noVercelJson: VercelJson = {
  settings: {},
  functions: {},
  builds: [],
  cleanUrls: undefined,
  trailingSlash: undefined,
  routes: [],
  env: {},
  buildEnv: {},
  regions: [],
  site: {},
  caseSensitive: false,
  warnings: [],
};

/** @throws MayflyError INVALID_VERCEL_JSON */
export async function checkVercelJson(value: unknown): Promise<VercelJson> {
  if (!isObject(value)) throw invalid("must hold an object");
  await refuseUnknownKeys(value);
  for (const key of unsupported) {
    if (key in value) throw new MayflyError("BUILD_OUTPUT_UNSUPPORTED", `vercel.json: "${key}" is not supported yet.`);
  }
  const warnings = withoutEffect.filter((key) => key in value).map((key) => `vercel.json: "${key}" has no effect here.`);
  const cleanUrls = optionalBoolean(value, "cleanUrls");
  const trailingSlash = optionalBoolean(value, "trailingSlash");
  for (const key of ["redirects", "rewrites"]) checkRules(value, key, ["source", "destination"]);
  checkRules(value, "headers", ["source"]);
  checkRules(value, "routes", []);
  const builds = parseBuilds(value);
  const functions = parseFunctions(value);
  if (builds.length > 0 && Object.keys(functions).length > 0) throw invalid('has both "builds" and "functions"; use "functions" alone');
  return {
    settings: parseSettings(value),
    functions,
    builds,
    cleanUrls,
    trailingSlash,
    routes: transformRoutes(value),
    env: parseEnv("env", value["env"]),
    buildEnv: parseEnv("build.env", isObject(value["build"]) ? value["build"]["env"] : undefined),
    regions: parseRegions(value["regions"]),
    site: parseSite(value),
    caseSensitive: ["cleanUrls", "headers", "redirects", "rewrites", "trailingSlash"].some((key) => value[key] !== undefined),
    warnings,
  };
}

function parseSettings(value: Json): Partial<ProjectSettings> {
  const settings: Record<string, string | null> = {};
  for (const key of settingKeys) {
    const setting = value[key];
    if (setting === undefined) continue;
    if (setting !== null && typeof setting !== "string") throw invalid(`: "${key}" must be a string or null`);
    settings[key] = setting;
  }
  const ignore = value["ignoreCommand"];
  if (ignore !== undefined && ignore !== null && typeof ignore !== "string") throw invalid(': "ignoreCommand" must be a string or null');
  return ignore === undefined ? settings : { ...settings, commandForIgnoringBuildStep: ignore };
}

/** @param key as people write it: `build.env` */
function parseEnv(key: string, env: unknown): Readonly<Record<string, string>> {
  if (env === undefined) return {};
  if (!isStringRecord(env)) throw invalid(`: "${key}" must be an object of strings`);
  for (const [name, variable] of Object.entries(env)) {
    if (!/^@[\w-]+$/.test(variable)) continue;
    throw invalid(`: "${key}.${name}" names the secret "${variable}"; here secrets are variables of the project: mayfly env add ${name}`);
  }
  return env;
}

function parseRegions(regions: unknown): readonly string[] {
  if (regions === undefined) return [];
  if (!isStrings(regions)) throw invalid(': "regions" must be an array of strings');
  return regions;
}

function parseSite(value: Json): SiteSettings {
  try {
    return checkSite(value);
  } catch (error) {
    throw invalid(`: ${messageOf(error)}`);
  }
}

function transformRoutes(value: Json): readonly Route[] {
  if (value["routes"] !== undefined && ["cleanUrls", "trailingSlash", "redirects", "headers", "rewrites"].some((key) => key in value)) {
    throw invalid(': "routes" cannot be used together with "rewrites", "redirects", "headers", "cleanUrls" or "trailingSlash"');
  }
  let result: ReturnType<typeof getTransformedRoutes>;
  try {
    result = getTransformedRoutes(structuredClone(value));
  } catch (error) {
    throw invalid(`: the routes cannot be understood: ${messageOf(error)}`);
  }
  if (result.error) throw invalid(`: ${[result.error.message, ...(result.error.errors ?? [])].join(" ")}`);
  return (result.routes ?? []) as readonly Route[];
}

/** Rules are objects with these strings: what the transformation takes for granted. */
function checkRules(value: Json, key: string, strings: readonly string[]): void {
  const rules = value[key];
  if (rules === undefined) return;
  if (!Array.isArray(rules)) throw invalid(`: "${key}" must be an array`);
  if (rules.length > 2048) throw invalid(`: "${key}" has ${rules.length} entries; at most 2048 are allowed`);
  rules.forEach((rule: unknown, index) => {
    if (!isObject(rule)) throw invalid(`: "${key}[${index}]" must be an object`);
    for (const name of strings) {
      if (typeof rule[name] !== "string") throw invalid(`: "${key}[${index}].${name}" must be a string`);
    }
    if (key === "headers") {
      const headers = rule["headers"];
      if (
        !Array.isArray(headers) ||
        !headers.every((header) => isObject(header) && typeof header["key"] === "string" && typeof header["value"] === "string")
      ) {
        throw invalid(`: "headers[${index}].headers" must be an array of {"key": "…", "value": "…"}`);
      }
    }
    for (const name of ["has", "missing"]) {
      const conditions = rule[name];
      if (
        conditions !== undefined &&
        !(Array.isArray(conditions) && conditions.every((one) => isObject(one) && typeof one["type"] === "string"))
      ) {
        throw invalid(`: "${key}[${index}].${name}" must be an array of {"type": "header" | "cookie" | "query" | "host", …}`);
      }
    }
  });
}

function parseFunctions(value: Json): Readonly<Record<string, FunctionEntry>> {
  const functions = value["functions"];
  if (functions === undefined) return {};
  if (!isObject(functions)) throw invalid(': "functions" must be an object of globs');
  const types: Readonly<Record<string, (entry: unknown) => boolean>> = {
    memory: (entry) => Number.isInteger(entry),
    maxDuration: (entry) => entry === "max" || (Number.isInteger(entry) && (entry as number) > 0),
    includeFiles: (entry) => typeof entry === "string",
    excludeFiles: (entry) => typeof entry === "string",
    runtime: (entry) => typeof entry === "string",
    regions: isStrings,
  };
  const entries = Object.entries(functions);
  if (entries.length > functionsMax) throw invalid(`: "functions" has ${entries.length} globs; at most ${functionsMax} are allowed`);
  for (const [glob, entry] of entries) {
    const why = whyNoGlob(glob);
    if (why !== null) throw invalid(`: "functions" → ${JSON.stringify(glob.slice(0, 200))} ${why}`);
    if (!isObject(entry)) throw invalid(`: "functions" → "${glob}" must be an object`);
    for (const [name, setting] of Object.entries(entry)) {
      if (types[name]?.(setting) === false) {
        throw invalid(
          `: "functions" → "${glob}" → "${name}" is ${JSON.stringify(setting)}; see vercel.com/docs/project-configuration#functions`,
        );
      }
    }
  }
  return functions as Readonly<Record<string, FunctionEntry>>;
}

function parseBuilds(value: Json): readonly BuildEntry[] {
  const builds = value["builds"];
  if (builds === undefined) return [];
  if (!Array.isArray(builds)) throw invalid(': "builds" must be an array');
  if (builds.length > buildsMax) throw invalid(`: "builds" has ${builds.length} entries; at most ${buildsMax} are allowed`);
  return builds.map((build: unknown, index) => {
    if (!isObject(build) || typeof build["use"] !== "string") throw invalid(`: "builds[${index}].use" must be a string`);
    const src = build["src"] ?? "package.json";
    const config = build["config"] ?? {};
    if (typeof src !== "string" || !isObject(config)) throw invalid(`: "builds[${index}]" must be {"src": "…", "use": "…", "config": {…}}`);
    const why = whyNoGlob(src);
    if (why !== null) throw invalid(`: "builds[${index}].src" ${JSON.stringify(src.slice(0, 200))} ${why}`);
    return { src: src.replace(/^\.?\//, ""), use: build["use"], config };
  });
}

function optionalBoolean(value: Json, key: string): boolean | undefined {
  const flag = value[key];
  if (flag !== undefined && typeof flag !== "boolean") throw invalid(`: "${key}" must be true or false`);
  return flag;
}

function invalid(what: string): MayflyError {
  return new MayflyError("INVALID_VERCEL_JSON", `vercel.json ${what}.`.replace("json :", "json:").replace(/\.\.$/, "."));
}
