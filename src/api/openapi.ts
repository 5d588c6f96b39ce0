/** The OpenAPI 3.1 document of the API, made from its table: served at /openapi.json, and docs/api.md lists the same. */
import { errorTable } from "../errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { string, type JsonSchema } from "./schema.ts";

const teamParameters = ["teamId", "slug"].map((name) => ({
  name,
  in: "query",
  required: false,
  description: "The token's own team.",
  schema: string,
}));

export function openApiDocument(endpoints: readonly Endpoint[]): JsonSchema {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const endpoint of endpoints) {
    const path = documentPath(endpoint.path);
    (paths[path] ??= {})[endpoint.method.toLowerCase()] = operationOf(endpoint, path);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Mayfly",
      version: "1",
      description:
        "The API of a Mayfly server. A version prefix (`/v13`) and `/now` may stand before every path. JSON bodies are read whatever content type is claimed.",
    },
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: {
        Error: {
          type: "object",
          required: ["error"],
          properties: {
            error: {
              type: "object",
              required: ["code", "message"],
              properties: { code: { type: "string", enum: Object.keys(errorTable) }, message: string },
            },
          },
        },
      },
    },
  };
}

/** `/projects/:project` → `/projects/{project}`; a path's rest (`*`) is a parameter too. */
export const documentPath = (path: string): string => path.replaceAll(/:(\w+)/g, "{$1}").replace(/\*$/, "{rest}");

function operationOf({ method, summary, access, subject, query = {}, body }: Endpoint, documented: string) {
  const inPath = [...documented.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: "path", required: true, schema: string }));
  const inQuery = Object.entries(query).map(([name, schema]) => ({ name, in: "query", required: false, schema }));
  const content =
    body === "stream"
      ? { "application/octet-stream": { schema: { type: "string", format: "binary" } } }
      : { "application/json": { schema: body } };
  return {
    operationId: `${method.toLowerCase()}${documented.replaceAll(/[^A-Za-z0-9]+(\w?)/g, (_, letter: string) => letter.toUpperCase())}`,
    summary,
    "x-access": access,
    "x-subject": subject,
    security: access === "anyone" ? [] : [{ token: [] }],
    parameters: [...inPath, ...inQuery, ...(access === "anyone" ? [] : teamParameters)],
    ...(body === undefined ? {} : { requestBody: { required: true, content } }),
    responses: {
      "2XX": { description: "Success" },
      default: { description: "Error", content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } } },
    },
  };
}
