/**
 * Which deployments go by themselves. Kept: what an alias points to, the newest that was production, the newest
 * `keepDeployments` of a project, and what is not final. Of the others previews go when they are `previewDays` old, and
 * production ones at once: they are what the kept number is for.
 */
import type { Config } from "../config.ts";
import type { Deployment, Project, TimestampMs } from "../model.ts";
import { listAliases } from "../store/aliases.ts";
import { deleteUnaliased, listDeployments } from "../store/deployments.ts";
import { listAllProjects } from "../store/projects.ts";
import type { DeployContext } from "./deploy.ts";

const dayMs = 86_400_000;
/** Looked at of one project in one run, the newest; a later run finds the others. */
const deploymentsMax = 10_000;

/** Pure. `deployments`: a project's, the newest first; `aliased`: ids that an alias points to. */
export function outlived(
  deployments: readonly Deployment[],
  aliased: ReadonlySet<string>,
  rule: { readonly keepDeployments: number; readonly previewDays: number },
  now: TimestampMs,
): Deployment[] {
  const production = deployments.find(({ state, target }) => state === "READY" && target === "production");
  return deployments.filter((deployment, index) => {
    if (deployment.state === "QUEUED" || deployment.state === "BUILDING") return false;
    if (aliased.has(deployment.id) || deployment === production || index < rule.keepDeployments) return false;
    const serves = deployment.state === "READY" && deployment.target === "production";
    return serves || now - deployment.createdAt >= rule.previewDays * dayMs;
  });
}

function ruleOf({ retention }: Project, config: Pick<Config, "keepDeployments" | "previewDays">) {
  return {
    keepDeployments: retention.keepDeployments ?? config.keepDeployments,
    previewDays: retention.previewDays ?? config.previewDays,
  };
}

/** Deletes what has outlived its rule, with its lines; usage stays for its own time. @returns ids */
export async function retire({ store, logs, clock, config }: DeployContext, options: { readonly dryRun: boolean }): Promise<string[]> {
  const gone: string[] = [];
  for (const project of await listAllProjects(store)) {
    const deployments = await listDeployments(store, { teamId: project.teamId, projectId: project.id, limit: deploymentsMax });
    const aliased = new Set((await listAliases(store, { projectId: project.id })).map(({ deploymentId }) => deploymentId));
    for (const { id } of outlived(deployments, aliased, ruleOf(project, config), clock.now())) {
      if (!options.dryRun) {
        if (!(await deleteUnaliased(store, id))) continue;
        await logs.deleteDeployment(id);
      }
      gone.push(id);
    }
  }
  return gone;
}
