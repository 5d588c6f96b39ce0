/** What a parsed JSON value is: questions that a check of hostile input asks again and again. */

export type Json = Readonly<Record<string, unknown>>;

export const isString = (value: unknown): value is string => typeof value === "string";
export const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
export const isStrings = (value: unknown): value is readonly string[] => Array.isArray(value) && value.every(isString);
/** Printable ASCII of a sane length. */
export const isHeaderValue = (value: unknown): value is string =>
  isString(value) && value.length < 1024 && /^[\t\u0020-\u007e]*$/.test(value);

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isStringRecord(value: unknown): value is Readonly<Record<string, string>> {
  return isObject(value) && Object.values(value).every(isString);
}

/** `has` and `missing` of a route, `bypassFor` of a prerender. */
export function isConditions(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every(
      (one) =>
        isObject(one) &&
        ["host", "header", "cookie", "query"].includes(one["type"] as string) &&
        (one["key"] === undefined || isString(one["key"])) &&
        (one["value"] === undefined || isString(one["value"]) || isObject(one["value"])),
    )
  );
}
