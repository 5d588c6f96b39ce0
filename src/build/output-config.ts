/**
 * `config.json` of a Build Output API v3, checked: what routing, overrides and the site's own settings say. Pure.
 * Invariant: what is returned has the shapes of model.ts, whoever wrote the file.
 */
import createPcre from "pcre-to-regexp";
import { MayflyError } from "../errors.ts";
import type { Route } from "../model.ts";
import type { SiteSettings } from "./builder.ts";
import { isBoolean, isConditions, isHeaderValue, isObject, isString, isStringRecord, isStrings } from "./shape.ts";
import type { Json } from "./shape.ts";

export interface OutputConfig {
  readonly routes: readonly Route[];
  /** Output paths that routes run as middleware. */
  readonly middleware: ReadonlySet<string>;
  /** Path below `static/` → how it is served instead. */
  readonly overrides: ReadonlyMap<string, { readonly path?: string; readonly contentType?: string }>;
  readonly site: SiteSettings;
  /** Slug of the framework: `astro`. */
  readonly framework: string | null;
}

const routesMax = 4096;
const routeSourceCharsMax = 4096;
const transformsMax = 256;
const cronsMax = 100;
const wildcardsMax = 1000;
const imagesBytesMax = 64 * 1024;
const handles = ["filesystem", "rewrite", "resource", "miss", "hit", "error"];
const transformTypes = ["request.headers", "request.query", "request.path", "response.headers"];

/** @throws MayflyError BUILD_OUTPUT_INVALID, BUILD_OUTPUT_UNSUPPORTED */
export function checkOutputConfig(config: Json): OutputConfig {
  if (config["version"] !== 3) throw invalid(`config.json has version ${show(config["version"])}; it must be 3.`);
  if (isObject(config["services"]) || Array.isArray(config["services"])) {
    throw new MayflyError("BUILD_OUTPUT_UNSUPPORTED", 'config.json has "services", which are not supported yet.');
  }
  const routes = checkRoutes(config["routes"]);
  const paths = routes.flatMap((route) => ("middlewarePath" in route && route.middlewarePath !== undefined ? [route.middlewarePath] : []));
  const { framework } = config;
  return {
    routes,
    middleware: new Set(paths),
    overrides: checkOverrides(config["overrides"]),
    site: checkSite(config),
    framework: isObject(framework) && isString(framework["slug"]) ? framework["slug"].slice(0, 100) : null,
  };
}

/** The same of what vercel.json and `config.json` have in common. */
export function checkSite(config: Json): SiteSettings {
  const wildcard = checkWildcard(config["wildcard"]);
  const images = checkImages(config["images"]);
  const crons = checkCrons(config["crons"]);
  return {
    ...(wildcard.length > 0 ? { wildcard } : {}),
    ...(images === null ? {} : { images }),
    ...(crons.length > 0 ? { crons } : {}),
  };
}

// ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkRoutes(value: unknown): readonly Route[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid('config.json: "routes" must be an array.');
  if (value.length > routesMax) throw invalid(`config.json has ${value.length} routes; at most ${routesMax} are allowed.`);
  return value.map((route: unknown, index) => checkRoute(route, index));
}

function checkRoute(route: unknown, index: number): Route {
  const refuse = (why: string): never => {
    throw invalid(`config.json: routes[${index}] ${why}.`);
  };
  if (!isObject(route)) return refuse("must be an object");
  if (route["handle"] !== undefined) {
    if (!handles.includes(route["handle"] as string)) refuse(`has the handle ${show(route["handle"])}`);
    return { handle: route["handle"] } as Route;
  }
  const { src } = route;
  if (typeof src !== "string") return refuse('must have "src" or "handle"');
  if (src.length > routeSourceCharsMax) refuse(`has a src of ${src.length} characters; ${routeSourceCharsMax} are allowed`);
  if (!isPattern(src)) refuse(`has a src that is no regular expression: ${src.slice(0, 200)}`);
  const types: Readonly<Record<string, (value: unknown) => boolean>> = {
    dest: isString,
    methods: isStrings,
    headers: isStringRecord,
    status: (status) => Number.isInteger(status) && (status as number) >= 100 && (status as number) <= 599,
    has: isConditions,
    missing: isConditions,
    continue: isBoolean,
    check: isBoolean,
    override: isBoolean,
    important: isBoolean,
    caseSensitive: isBoolean,
    locale: isObject,
    middlewarePath: isString,
    middlewareRawSrc: Array.isArray,
    transforms: isTransforms,
  };
  for (const [key, check] of Object.entries(types)) {
    if (route[key] !== undefined && !check(route[key])) refuse(`has a "${key}" of a wrong type`);
  }
  const { middlewarePath } = route;
  if (!isString(middlewarePath)) return route as unknown as Route;
  return { ...route, middlewarePath: middlewarePath.replace(/^\/+/, "") || "index" } as unknown as Route;
}

function isTransforms(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length <= transformsMax &&
    value.every(
      (one) =>
        isObject(one) &&
        transformTypes.includes(one["type"] as string) &&
        ["append", "set", "delete"].includes(one["op"] as string) &&
        (one["target"] === undefined || (isObject(one["target"]) && (isString(one["target"]["key"]) || isObject(one["target"]["key"])))) &&
        (one["args"] === undefined || isString(one["args"]) || isStrings(one["args"])) &&
        (one["env"] === undefined || isStrings(one["env"])),
    )
  );
}

/** As the gateway reads it: JavaScript first, else PCRE. */
function isPattern(source: string): boolean {
  for (const compile of [() => new RegExp(source.replaceAll("(?P<", "(?<")), () => createPcre(`%${source}%`)]) {
    try {
      compile();
      return true;
    } catch {
      // The next one may.
    }
  }
  return false;
}

// ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkOverrides(value: unknown): OutputConfig["overrides"] {
  if (value === undefined || value === null) return new Map();
  if (!isObject(value)) throw invalid('config.json: "overrides" must be an object.');
  const overrides = new Map<string, { path?: string; contentType?: string }>();
  for (const [name, override] of Object.entries(value)) {
    if (!isObject(override)) throw invalid(`config.json: overrides["${name.slice(0, 200)}"] must be an object.`);
    const { path, contentType } = override;
    if ((path !== undefined && !isString(path)) || (contentType !== undefined && !isHeaderValue(contentType))) {
      throw invalid(`config.json: overrides["${name.slice(0, 200)}"] must have strings as path and contentType.`);
    }
    overrides.set(name, { ...(isString(path) ? { path } : {}), ...(isString(contentType) ? { contentType } : {}) });
  }
  return overrides;
}

function checkWildcard(value: unknown): NonNullable<SiteSettings["wildcard"]> {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > wildcardsMax)
    throw invalid(`"wildcard" must be an array of at most ${wildcardsMax} entries.`);
  return value.map((one: unknown, index) => {
    if (!isObject(one) || !isString(one["domain"]) || !isString(one["value"]))
      throw invalid(`wildcard[${index}] must be {"domain": "…", "value": "…"}.`);
    return { domain: one["domain"].toLowerCase(), value: one["value"] };
  });
}

function checkImages(value: unknown): NonNullable<SiteSettings["images"]> | null {
  if (value === undefined || value === null) return null;
  if (!isObject(value)) throw invalid('"images" must be an object.');
  const { sizes } = value;
  if (!Array.isArray(sizes) || !sizes.every((size) => Number.isInteger(size) && size > 0))
    throw invalid('"images.sizes" must be an array of widths in pixels.');
  if (JSON.stringify(value).length > imagesBytesMax) throw invalid(`"images" has more than ${imagesBytesMax} bytes.`);
  return value;
}

function checkCrons(value: unknown): NonNullable<SiteSettings["crons"]> {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > cronsMax) throw invalid(`"crons" must be an array of at most ${cronsMax} entries.`);
  return value.map((one: unknown, index) => {
    if (!isObject(one) || !isString(one["path"]) || !isString(one["schedule"]) || !one["path"].startsWith("/"))
      throw invalid(`crons[${index}] must be {"path": "/…", "schedule": "0 5 * * *"}.`);
    return { path: one["path"].slice(0, 1024), schedule: one["schedule"].slice(0, 256) };
  });
}

function show(value: unknown): string {
  return String(JSON.stringify(value)).slice(0, 50);
}

function invalid(message: string): MayflyError {
  return new MayflyError("BUILD_OUTPUT_INVALID", message);
}
