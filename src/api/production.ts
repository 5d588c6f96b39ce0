/**
 * Which deployment is production. Promote and rollback are one pointer write each: when the call is answered, every
 * request is answered by the new deployment. After a rollback production is pinned: new deployments do not take it until
 * something is promoted.
 */
import { productionHost } from "../deploy/alias.ts";
import { MayflyError } from "../errors.ts";
import type { AliasRequest } from "../model.ts";
import { switchProduction } from "../store/aliases.ts";
import { ofProject, theDeployment, type Endpoint, type ProjectCall } from "./endpoint.ts";
import { count, string } from "./schema.ts";

export const productionEndpoints: readonly Endpoint[] = [
  ofProject({
    method: "POST",
    path: "/projects/:project/promote/:id",
    summary: "Make a deployment production, and end a pin",
    access: "write",
    status: 201,
    handle: (call) => switchTo(call, "promote"),
  }),
  ofProject({
    method: "POST",
    path: "/projects/:project/rollback/:id",
    summary: "Go back to a deployment that was production, and pin it",
    access: "write",
    status: 201,
    handle: (call) => switchTo(call, "rollback"),
  }),
  ...(["promote", "rollback"] as const).map((type) =>
    ofProject({
      method: "GET",
      path: `/projects/:project/${type}/aliases`,
      summary: `Aliases of the last ${type} and how each fared: it is one write, so none fails alone`,
      access: "read",
      query: { failedOnly: string, limit: count, until: count },
      handle: async () => ({ aliases: [], pagination: { count: 0, next: null, prev: null } }),
    }),
  ),
];

async function switchTo(call: ProjectCall, type: AliasRequest["type"]): Promise<AliasRequest> {
  const { project, context, params } = call;
  const deployment = await theDeployment(call, params["id"]!);
  if (deployment.projectId !== project.id) throw new MayflyError("not_found", "Deployment not found");
  if (type === "rollback" && deployment.target !== "production") {
    throw new MayflyError("conflict", "Only a production deployment can be rolled back to; promote a preview instead.");
  }
  const done = await switchProduction(
    context.store,
    { type, deploymentId: deployment.id, projectId: project.id, host: productionHost(project.name, context.config.domain) },
    context.clock.now(),
  );
  if (done === null) throw new MayflyError("conflict", `The deployment is ${deployment.state}; only one that is READY can serve.`);
  return done;
}
