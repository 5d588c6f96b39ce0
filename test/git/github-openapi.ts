/**
 * Cuts out of GitHub's published OpenAPI description (`@octokit/openapi`, 400 MB unpacked, hence not installed) what the
 * fake GitHub checks calls against: `node test/git/github-openapi.ts PATH/TO/api.github.com.json` writes github-openapi.json.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

/** The calls that Mayfly makes. */
const operations = [
  "GET /repos/{owner}/{repo}",
  "GET /repos/{owner}/{repo}/installation",
  "GET /repos/{owner}/{repo}/collaborators/{username}/permission",
  "POST /repos/{owner}/{repo}/hooks",
  "DELETE /repos/{owner}/{repo}/hooks/{hook_id}",
  "POST /repos/{owner}/{repo}/statuses/{sha}",
  "POST /repos/{owner}/{repo}/deployments",
  "POST /repos/{owner}/{repo}/deployments/{deployment_id}/statuses",
  "GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
  "POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
  "PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
  "POST /app-manifests/{code}/conversions",
  "POST /app/installations/{installation_id}/access_tokens",
];
/** Words for people, which check nothing. */
const prose = new Set(["description", "example", "examples", "title", "x-github", "externalDocs", "summary", "x-multi-segment"]);

const source = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as JsonObject;

/** Follows references and leaves prose out. */
function resolve(value: Json): Json {
  if (Array.isArray(value)) return value.map(resolve);
  if (typeof value !== "object" || value === null) return value;
  const reference = value["$ref"];
  if (typeof reference === "string") {
    return resolve(
      reference
        .slice(2)
        .split("/")
        .reduce<Json>((at, key) => (at as JsonObject)[key]!, source),
    );
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !prose.has(key))
      .map(([key, entry]) => [key, key === "properties" ? resolveAll(entry as JsonObject) : resolve(entry)]),
  );
}

/** Properties may be called like prose. */
const resolveAll = (properties: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, resolve(schema)]));

const slice = Object.fromEntries(
  operations.map((name) => {
    const [method = "", path = ""] = name.split(" ");
    const operation = (source["paths"] as Record<string, Record<string, JsonObject>>)[path]![method.toLowerCase()]!;
    const parameters = ((operation["parameters"] ?? []) as Json[]).map((parameter) => resolve(parameter) as JsonObject);
    const content = (operation["requestBody"] as { content?: Record<string, { schema: Json }>; required?: boolean } | undefined)?.content;
    return [
      name,
      {
        parameters: parameters.map(({ name: parameter, in: place, required = false, schema }) => ({
          name: parameter,
          in: place,
          required,
          schema,
        })),
        body: content === undefined ? null : resolve(content["application/json"]!.schema),
      },
    ];
  }),
);
const version = (source["info"] as JsonObject)["version"];
writeFileSync(join(import.meta.dirname, "github-openapi.json"), `${JSON.stringify({ version, operations: slice }, null, 1)}\n`);
