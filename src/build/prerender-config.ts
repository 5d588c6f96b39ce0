/**
 * `*.prerender-config.json` of a Build Output API v3, checked: how long a Function's answer is kept, and what tells one
 * from another. Pure but for the fallback, a file that the caller stores.
 */
import mime from "mime-types";
import { MayflyError } from "../errors.ts";
import type { Prerender, RouteCondition } from "../model.ts";
import { isConditions, isHeaderValue, isObject, isString, isStrings } from "./shape.ts";
import type { Json } from "./shape.ts";

/** Content types of fallbacks whose extension the registry does not know. */
const extraTypes: Readonly<Record<string, string>> = { ".rsc": "text/x-component" };

const headerName = /^[!#$%&'*+.^_`|~0-9a-z-]{1,100}$/i;

export interface PrerenderConfig extends Omit<Prerender, "fallback"> {
  /** The fallback's file relative to the configuration's own; null: there is none. */
  readonly fallbackPath: string | null;
}

/** @param label for messages @throws MayflyError BUILD_OUTPUT_INVALID */
export function checkPrerenderConfig(json: Json, label: string): PrerenderConfig {
  const invalid = (message: string): never => {
    throw new MayflyError("BUILD_OUTPUT_INVALID", `${label}: ${message}`);
  };
  const seconds = (key: string): number | undefined => {
    const value = json[key];
    if (value === undefined || value === null || value === false) return undefined;
    return typeof value === "number" && value >= 0 ? value : invalid(`"${key}" must be a number of seconds or false.`);
  };
  const strings = (key: string): readonly string[] | null => {
    const value = json[key];
    if (value === undefined || value === null) return null;
    return isStrings(value) ? value : invalid(`"${key}" must be an array of strings.`);
  };
  const { bypassToken, group, initialStatus, fallback } = json;
  if (bypassToken !== undefined && bypassToken !== null && !isString(bypassToken)) invalid('"bypassToken" must be a string.');
  if (group !== undefined && group !== null && !Number.isInteger(group)) invalid('"group" must be a whole number.');
  const status = initialStatus ?? 200;
  if (!Number.isInteger(status) || (status as number) < 100 || (status as number) > 599) invalid('"initialStatus" must be a status code.');
  const bypassFor = json["experimentalBypassFor"] ?? json["bypassFor"] ?? [];
  if (!isConditions(bypassFor)) invalid('"experimentalBypassFor" must be an array of conditions.');
  const fallbackPath = isObject(fallback) ? fallback["fsPath"] : null;
  if (fallbackPath !== null && !isString(fallbackPath)) invalid('"fallback.fsPath" must be a string.');
  const staleExpirationS = seconds("staleExpiration");
  return {
    // Absent means false: only on demand.
    expirationS: seconds("expiration") ?? false,
    ...(staleExpirationS === undefined ? {} : { staleExpirationS }),
    ...(Number.isInteger(group) ? { group: group as number } : {}),
    bypassToken: isString(bypassToken) && bypassToken !== "" ? bypassToken : null,
    bypassFor: bypassFor as readonly RouteCondition[],
    allowQuery: strings("allowQuery"),
    allowHeader: strings("allowHeader"),
    passQuery: json["passQuery"] === true,
    initialStatus: status as number,
    initialHeaders: headersOf(json, fallbackPath as string | null),
    fallbackPath: fallbackPath as string | null,
    ...chainOf(json["chain"], invalid),
  };
}

/** The fallback is not a whole answer: it begins with what only the Function of the chain can read. */
export function isPartial({ initialHeaders }: Pick<Prerender, "initialHeaders">): boolean {
  return initialHeaders["content-type"]?.startsWith("application/x-nextjs-pre-render") === true;
}

function chainOf(chain: unknown, invalid: (message: string) => never): Pick<Prerender, "chain"> {
  if (chain === undefined || chain === null) return {};
  if (!isObject(chain) || !isString(chain["outputPath"])) return invalid('"chain.outputPath" must be a string.');
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(isObject(chain["headers"]) ? chain["headers"] : {})) {
    if (!headerName.test(name) || !isHeaderValue(value)) return invalid('"chain.headers" must be an object of headers.');
    headers[name.toLowerCase()] = value;
  }
  return { chain: { outputPath: chain["outputPath"].replace(/^\/+/, ""), headers } };
}

/** With the content type that the fallback's name tells when nothing else does. */
function headersOf(json: Json, fallbackPath: string | null): Readonly<Record<string, string>> {
  const { initialHeaders, fallback } = json;
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(isObject(initialHeaders) ? initialHeaders : {})) {
    const text = isStrings(value) ? value.join(", ") : value;
    if (isHeaderValue(text) || (isString(text) && text.length < 16_384 && /^[\t\u0020-\u007e]*$/.test(text)))
      headers[name.toLowerCase()] = text;
  }
  if (headers["content-type"] === undefined && fallbackPath !== null) {
    const own = isObject(fallback) ? fallback["contentType"] : undefined;
    const extension = /\.[^./]+$/.exec(fallbackPath)?.[0] ?? "";
    const type = isHeaderValue(own) ? own : (extraTypes[extension] ?? (extension === "" ? false : mime.contentType(extension)));
    if (type !== false) headers["content-type"] = type;
  }
  return headers;
}
