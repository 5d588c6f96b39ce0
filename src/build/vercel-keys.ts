/**
 * Which keys vercel.json may have, at every depth. Vercel refuses all others: a slip of the pen would otherwise be a
 * setting that silently does nothing. Where a package of Vercel publishes the definition, that is the list; of the rest
 * the lists below are those of its clients' types, with what was allowed once.
 */
import { MayflyError } from "../errors.ts";
import { closestTo } from "../suggestion.ts";
import { isObject, type Json } from "./shape.ts";

/** As far as keys go. What it leaves out is not looked at. */
interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly patternProperties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
}

const open: Schema = {};
const entriesOf = (keys: readonly string[]): Schema => ({
  additionalProperties: false,
  properties: Object.fromEntries(keys.map((key) => [key, open])),
});
const listOf = (keys: readonly string[]): Schema => ({ items: entriesOf(keys) });

/** Their content is checked elsewhere, has names that a project chooses, or has no effect here. */
const openKeys = [
  "$schema",
  "alias",
  "buildCommand",
  "bulkRedirectsPath",
  "bunVersion",
  "cleanUrls",
  "customErrorPage",
  "devCommand",
  "env",
  "experimentalServiceGroups",
  "experimentalServices",
  "experimentalServicesV2",
  "files",
  "fluid",
  "framework",
  "functionFailoverRegions",
  "ignoreCommand",
  "installCommand",
  "meta",
  "name",
  "outputDirectory",
  "passiveRegions",
  "probes",
  "proxy",
  "public",
  "regions",
  "relatedProjects",
  "rootDirectory",
  "schedules",
  "scope",
  "services",
  "trailingSlash",
  "type",
  "version",
];

const images: Schema = {
  additionalProperties: false,
  properties: {
    ...entriesOf([
      "contentDispositionType",
      "contentSecurityPolicy",
      "dangerouslyAllowSVG",
      "domains",
      "formats",
      "minimumCacheTTL",
      "qualities",
      "sizes",
    ]).properties,
    localPatterns: listOf(["pathname", "search"]),
    remotePatterns: listOf(["protocol", "hostname", "port", "pathname", "search"]),
  },
};

async function vercelJsonSchema(value: Json): Promise<Schema> {
  const routing = await import("@vercel/routing-utils");
  // It takes its time to load, and few files have either.
  const build = "functions" in value || "builds" in value ? await import("@vercel/build-utils") : undefined;
  return {
    additionalProperties: false,
    properties: {
      ...entriesOf(openKeys).properties,
      build: entriesOf(["env"]),
      builds: (build?.buildsSchema ?? open) as Schema,
      crons: listOf(["path", "schedule"]),
      functions: (build?.functionsSchema ?? open) as Schema,
      git: entriesOf(["deploymentEnabled", "exclusivity"]),
      github: entriesOf(["aliases", "autoAlias", "autoJobCancelation", "enabled", "silent"]),
      headers: routing.headersSchema as Schema,
      images,
      redirects: routing.redirectsSchema as Schema,
      rewrites: routing.rewritesSchema as Schema,
      routes: routing.routesSchema as Schema,
      wildcard: listOf(["domain", "value"]),
    },
  };
}

/**
 * Looks at names alone: what a value must be is checked where it is used.
 * @throws MayflyError INVALID_VERCEL_JSON, naming the place and what was probably meant
 */
export async function refuseUnknownKeys(value: Json): Promise<void> {
  visit(value, [await vercelJsonSchema(value)], "");
}

/** @param schemas alternatives: a key is known when one of them knows it */
function visit(value: unknown, schemas: readonly Schema[], place: string): void {
  const alternatives = schemas.flatMap(({ anyOf, oneOf, ...own }) => [own, ...[anyOf ?? [], oneOf ?? []].flat()]);
  if (Array.isArray(value)) {
    const items = alternatives.flatMap((schema) => schema.items ?? []);
    if (items.length > 0) value.forEach((item, index) => visit(item, items, `${place}[${index}]`));
    return;
  }
  if (!isObject(value)) return;
  const closed = alternatives.filter((schema) => schema.additionalProperties === false);
  const known = new Set(closed.flatMap((schema) => Object.keys(schema.properties ?? {})));
  const patterns = closed.flatMap((schema) => Object.values(schema.patternProperties ?? {}));
  for (const [key, entry] of Object.entries(value)) {
    const below = closed.flatMap((schema) => (Object.hasOwn(schema.properties ?? {}, key) ? schema.properties![key]! : []));
    if (below.length === 0 && closed.length > 0 && patterns.length === 0) throw unknownKey(key, place, [...known]);
    const isName = patterns.length > 0 && below.length === 0;
    visit(entry, isName ? patterns : below, isName ? `${place}[${JSON.stringify(key.slice(0, 200))}]` : join(place, key));
  }
}

const join = (place: string, key: string): string => (place === "" ? key : `${place}.${key}`);

function unknownKey(key: string, place: string, known: readonly string[]): MayflyError {
  const shown = JSON.stringify(key.slice(0, 100));
  const meant = key.length > 100 ? undefined : closestTo(key, known);
  const few = known.length <= 12 ? ` It may have ${known.map((name) => `"${name}"`).join(", ")}.` : " Remove it.";
  const hint = meant === undefined ? few : ` Did you mean "${meant}"?`;
  return new MayflyError(
    "INVALID_VERCEL_JSON",
    `vercel.json${place === "" ? "" : `: ${place}`} should not have the property ${shown}.${hint}`,
  );
}
