/** The edge cache: purges by project, deployment or tag. When a call is answered, every gateway obeys. */
import { MayflyError } from "../errors.ts";
import { addPurges, type Purge, type PurgeMode } from "../store/purges.ts";
import { ofProject, theDeployment, type Endpoint } from "./endpoint.ts";
import { list, object, oneOf, optional, string, stringOf } from "./schema.ts";

const tagsMax = 1000;

export const cacheEndpoints: readonly Endpoint[] = [
  ofProject({
    method: "POST",
    path: "/projects/:project/cache/purge",
    summary: "Purge kept answers: all, of one deployment, or by tag; `invalidate` lets each be given once more while it is made anew",
    access: "write",
    body: object({
      deploymentId: optional(string),
      tags: list({ type: "string", minLength: 1, maxLength: 256 }, { maxItems: tagsMax }),
      mode: oneOf("delete", "invalidate"),
    }),
    async handle(call) {
      const { project, body, context } = call;
      const named = stringOf(body, "deploymentId");
      const deployment = named === null ? null : await theDeployment(call, named);
      if (deployment !== null && deployment.projectId !== project.id) throw new MayflyError("not_found", "Deployment not found");
      const of = { projectId: project.id, deploymentId: deployment?.id ?? null, mode: (stringOf(body, "mode") ?? "delete") as PurgeMode };
      const tags = body["tags"] as readonly string[] | undefined;
      const purges: Purge[] = tags === undefined ? [{ ...of, tag: null }] : tags.map((tag) => ({ ...of, tag }));
      if (purges.length > 0) await addPurges(context.store, purges, context.clock.now());
      return { purged: purges.length };
    },
  }),
];
