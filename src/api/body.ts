/**
 * Request bodies: read within their limit whatever content type the client claims (the official one sends JSON as text),
 * then taken apart field by field. A wrong shape is an error that names the field.
 */
import type { FastifyRequest } from "fastify";
import type { Readable } from "node:stream";
import { MayflyError } from "../errors.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** @throws MayflyError invalid_json, payload_too_large */
export async function readJson(request: FastifyRequest, bytesMax: number): Promise<JsonObject> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.body as Readable) {
    size += (chunk as Buffer).byteLength;
    if (size > bytesMax) throw new MayflyError("payload_too_large", `A request may have ${bytesMax} bytes of JSON.`);
    chunks.push(chunk as Buffer);
  }
  if (size === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (error) {
    throw new MayflyError("invalid_json", undefined, { cause: error });
  }
  if (!isObject(value)) throw new MayflyError("invalid_json", "The body must be a JSON object.");
  return value;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A string; absent and null give null. */
export function optionalString(object: JsonObject, key: string): string | null {
  const value = object[key];
  if (value === undefined || value === null) return null;
  if (typeof value !== "string") throw wrong(key, "a string");
  return value;
}

/** An object of strings; absent and null give an empty one. */
export function stringRecord(object: JsonObject, key: string): Record<string, string> {
  const value = object[key];
  if (value === undefined || value === null) return {};
  if (!isObject(value)) throw wrong(key, "an object of strings");
  for (const [name, entry] of Object.entries(value)) {
    if (typeof entry !== "string") throw wrong(`${key}.${name}`, "a string");
  }
  return value as Record<string, string>;
}

export function wrong(key: string, expected: string): MayflyError {
  return new MayflyError("bad_request", `Field ${JSON.stringify(key.slice(0, 200))} must be ${expected}.`);
}
