/** The body of a webhook taken apart field by field: what is missing or of another kind is an error that names it. */
import { MayflyError } from "../errors.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** @throws MayflyError bad_request */
export function bodyObject(bytes: Buffer): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    throw new MayflyError("bad_request", "The body of the webhook is not JSON.", { cause: error });
  }
  if (!isObject(value)) throw new MayflyError("bad_request", "The body of the webhook is not a JSON object.");
  return value;
}

/** An object, or null when there is none. */
export function field(object: JsonObject, key: string): JsonObject | null {
  const value = object[key];
  return isObject(value) ? value : null;
}

/** @throws MayflyError bad_request */
export function objectField(object: JsonObject, key: string): JsonObject {
  return field(object, key) ?? missing(key);
}

/** A string, or a number as one; null when there is neither. */
export function textOf(object: JsonObject, key: string): string | null {
  const value = object[key];
  if (typeof value === "string") return value;
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : null;
}

/** @throws MayflyError bad_request */
export function text(object: JsonObject, key: string): string {
  return textOf(object, key) ?? missing(key);
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function missing(key: string): never {
  throw new MayflyError("bad_request", `The webhook has no "${key}".`);
}
