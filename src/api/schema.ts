/**
 * JSON Schema in a few words. The same schemas check requests (by Fastify's validator), so that a wrong shape is an error
 * that names the field, and describe them in the OpenAPI document.
 */
import { MayflyError } from "../errors.ts";

export type JsonSchema = Readonly<Record<string, unknown>>;
export type JsonObject = Readonly<Record<string, unknown>>;

export const string: JsonSchema = { type: "string" };
export const boolean: JsonSchema = { type: "boolean" };
export const optional = (schema: JsonSchema): JsonSchema => ({ ...schema, type: [schema["type"], "null"].flat() });
export const oneOf = (...values: readonly string[]): JsonSchema => ({ type: "string", enum: values });
export const list = (items: JsonSchema, more: JsonSchema = {}): JsonSchema => ({ type: "array", items, ...more });
export const strings: JsonSchema = { type: ["object", "null"], additionalProperties: string };
export const whole = (minimum: number, maximum: number): JsonSchema => ({ type: "integer", minimum, maximum });

/** Other fields than these are let through: clients send more than any server reads. */
export const object = (properties: Readonly<Record<string, JsonSchema>>, ...required: readonly string[]): JsonSchema => ({
  type: "object",
  properties,
  ...(required.length === 0 ? {} : { required }),
});

/** A whole number in a query. */
export const count: JsonSchema = { type: "string", pattern: "^\\d{1,15}$" };
/** A time in a query: milliseconds since 1970, or a date (ISO 8601). */
export const time: JsonSchema = { type: "string", pattern: "^(\\d{1,15}|\\d{4}-\\d\\d-\\d\\d.*)$" };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A field that the schema has checked to be a string; absent and null give null. */
export const stringOf = (object: JsonObject, key: string): string | null => (object[key] as string | null | undefined) ?? null;

/** A field that the schema has checked to be an object of strings; absent and null give an empty one. */
export const stringsOf = (object: JsonObject, key: string): Record<string, string> =>
  (object[key] as Record<string, string> | null | undefined) ?? {};

/** A time that the schema has let through. @throws MayflyError bad_request: it is no date after all */
export function timeOf(query: Readonly<Record<string, string | undefined>>, name: string): number | undefined {
  const text = query[name];
  if (text === undefined) return undefined;
  const timestampMs = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(timestampMs)) throw new MayflyError("bad_request", `Query parameter \`${name}\` must be a time.`);
  return timestampMs;
}

/** How many a page of a list may have: `limit` of the query, within bounds. */
export const pageSize = (query: Readonly<Record<string, string | undefined>>, otherwise = 20): number =>
  Math.min(Math.max(Number(query["limit"] ?? otherwise) || otherwise, 1), 100);

/** Query parameters of a list. */
export const paging = { limit: count, until: count, since: count };

/** A list in pages: `next` is the `until` of the next one. */
export function pagination<T>(items: readonly T[], limit: number, timeOf: (item: T) => number) {
  const last = items.at(-1);
  const first = items[0];
  return {
    count: items.length,
    next: items.length === limit && last !== undefined ? timeOf(last) : null,
    prev: first === undefined ? null : timeOf(first),
  };
}
