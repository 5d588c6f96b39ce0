/** Purges of the edge cache. An answer of 200 means that no gateway gives what was purged to any later request. */
import { MayflyError } from "../errors.ts";
import { findDeployment } from "../store/deployments.ts";
import { addPurges, type PurgeMode } from "../store/purges.ts";
import { ofProject, type Endpoint, type ProjectCall } from "./endpoint.ts";
import { list, object, oneOf, optional, string, stringOf } from "./schema.ts";

const tag = { type: "string", minLength: 1, maxLength: 256 };

export const edgeCacheEndpoints: readonly Endpoint[] = [
  ofProject({
    method: "POST",
    path: "/projects/:project/edge-cache/purge",
    summary:
      "Purge answers that the edge keeps: by `tags`, of one `deployment`, or all of the project. `mode` `invalidate` gives them once more while they are made anew",
    access: "write",
    body: object({ tags: list(tag, { minItems: 1, maxItems: 1000 }), deployment: optional(string), mode: oneOf("delete", "invalidate") }),
    async handle({ context: { store, clock }, project, body }: ProjectCall) {
      const named = stringOf(body, "deployment");
      const deployment = named === null ? null : await findDeployment(store, project.teamId, named);
      if (named !== null && deployment?.projectId !== project.id) throw new MayflyError("not_found", "Deployment not found");
      const mode = (stringOf(body, "mode") ?? "delete") as PurgeMode;
      const tags: readonly (string | null)[] = (body["tags"] as readonly string[] | undefined) ?? [null];
      const scope = { projectId: project.id, deploymentId: deployment?.id ?? null, mode };
      await addPurges(
        store,
        tags.map((one) => ({ ...scope, tag: one })),
        clock.now(),
      );
      return { purged: tags.length };
    },
  }),
];
