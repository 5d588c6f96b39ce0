/** Purges of the edge cache. An answer of 200 means that no gateway gives what was purged to any later request. */
import { MayflyError } from "../errors.ts";
import { findDeployment } from "../store/deployments.ts";
import { addPurges, pictureTag, type PurgeMode } from "../store/purges.ts";
import { ofProject, ofProjects, theProject, type Endpoint, type EndpointCall, type ProjectCall } from "./endpoint.ts";
import { list, object, oneOf, optional, string, stringOf } from "./schema.ts";

const tag = { type: "string", minLength: 1, maxLength: 256 };
const tagsMax = 1000;
const tags = list(tag, { minItems: 1, maxItems: tagsMax });
const pictures = list({ type: "string", minLength: 1, maxLength: 8192 }, { minItems: 1, maxItems: 16 });

/** Those that the official client's `cache` calls: the project is named in the query. */
function ofClient(
  name: string,
  summary: string,
  mode: PurgeMode,
  body: Endpoint["body"],
  read: (call: EndpointCall) => readonly (string | null)[],
) {
  return ofProjects({
    method: "POST",
    path: `/edge-cache/${name}`,
    summary,
    access: "write",
    query: { projectIdOrName: string },
    ...(body === undefined ? {} : { body }),
    async handle(call) {
      const named = call.query["projectIdOrName"];
      if (named === undefined) throw new MayflyError("bad_request", '"projectIdOrName" must be given in the query.');
      const { id: projectId } = await theProject(call, named);
      const { store, clock } = call.context;
      const purges = read(call).map((one) => ({ projectId, deploymentId: null, tag: one, mode }));
      await addPurges(store, purges, clock.now());
      return { purged: purges.length };
    },
  });
}

/** A list, or one text with commas, as the client writes it. */
function tagsOf({ body }: EndpointCall): readonly string[] {
  const named = [body["tags"] as string | readonly string[]].flat().flatMap((text) => text.split(",").map((one) => one.trim()));
  const given = named.filter((one) => one !== "");
  if (given.length === 0 || given.length > tagsMax) throw new MayflyError("bad_request", `"tags" must name 1 to ${tagsMax} tags.`);
  return given;
}

const picturesOf = ({ body }: EndpointCall): readonly string[] => (body["srcImages"] as readonly string[]).map(pictureTag);
const namesTags = object({ tags: { anyOf: [tags, { type: "string", minLength: 1, maxLength: 8192 }] } }, "tags");
const namesPictures = object({ srcImages: pictures }, "srcImages");

export const edgeCacheEndpoints: readonly Endpoint[] = [
  ofProject({
    method: "POST",
    path: "/projects/:project/edge-cache/purge",
    summary:
      "Purge answers that the edge keeps: by `tags`, of one `deployment`, or all of the project. `mode` `invalidate` gives them once more while they are made anew",
    access: "write",
    body: object({ tags, deployment: optional(string), mode: oneOf("delete", "invalidate") }),
    async handle({ context: { store, clock }, project, body }: ProjectCall) {
      const named = stringOf(body, "deployment");
      const deployment = named === null ? null : await findDeployment(store, project.teamId, named);
      if (named !== null && deployment?.projectId !== project.id) throw new MayflyError("not_found", "Deployment not found");
      const mode = (stringOf(body, "mode") ?? "delete") as PurgeMode;
      const purged: readonly (string | null)[] = (body["tags"] as readonly string[] | undefined) ?? [null];
      const scope = { projectId: project.id, deploymentId: deployment?.id ?? null, mode };
      await addPurges(
        store,
        purged.map((one) => ({ ...scope, tag: one })),
        clock.now(),
      );
      return { purged: purged.length };
    },
  }),
  ofClient("purge-all", "Purge all that the edge keeps of a project", "delete", undefined, () => [null]),
  ofClient(
    "invalidate-by-tags",
    "Give what the edge keeps with these `tags` once more while it is made anew",
    "invalidate",
    namesTags,
    tagsOf,
  ),
  ofClient("dangerously-delete-by-tags", "Purge what the edge keeps with these `tags`", "delete", namesTags, tagsOf),
  ofClient(
    "invalidate-by-src-images",
    "Give the pictures made of these `srcImages` (paths or addresses) once more while they are made anew",
    "invalidate",
    namesPictures,
    picturesOf,
  ),
  ofClient("dangerously-delete-by-src-images", "Purge the pictures made of these `srcImages`", "delete", namesPictures, picturesOf),
];
