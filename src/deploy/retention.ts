/**
 * Which deployments go by themselves: those older than the days that their kind is kept, as on Vercel. What an alias points to
 * never goes, nor the newest production deployments, to which somebody may want to roll back, nor what is not final.
 */
import type { Config } from "../config.ts";
import type { Deployment, Project, Retention, TimestampMs } from "../model.ts";
import { listAliases } from "../store/aliases.ts";
import { deleteUnaliased, listDeployments } from "../store/deployments.ts";
import { listAllProjects } from "../store/projects.ts";
import type { DeployContext } from "./deploy.ts";

const dayMs = 86_400_000;
const deploymentsAtOnce = 1000;

type RetentionRule = { readonly [Name in keyof Retention]: number };

/** Pure. Whether it is so old that it goes, unless it is kept for what it is. */
function isOutlived(deployment: Deployment, rule: RetentionRule, now: TimestampMs): boolean {
  const days = keptDays(deployment, rule);
  return days !== null && now - deployment.createdAt >= days * dayMs;
}

/** null: for as long as it takes to become final. */
function keptDays({ state, target }: Deployment, rule: RetentionRule): number | null {
  switch (state) {
    case "QUEUED":
    case "BUILDING":
      return null;
    case "CANCELED":
      return rule.canceledDays;
    case "ERROR":
      return rule.errorDays;
    case "READY":
      return target === "production" ? rule.productionDays : rule.previewDays;
  }
}

function ruleOf({ retention }: Project, config: Pick<Config, keyof Retention>): RetentionRule {
  return {
    keepProduction: retention.keepProduction ?? config.keepProduction,
    productionDays: retention.productionDays ?? config.productionDays,
    previewDays: retention.previewDays ?? config.previewDays,
    errorDays: retention.errorDays ?? config.errorDays,
    canceledDays: retention.canceledDays ?? config.canceledDays,
  };
}

/** Deletes what has outlived its rule, with its lines; usage stays for its own time. @returns ids */
export async function retire({ store, logs, clock, config }: DeployContext, options: { readonly dryRun: boolean }): Promise<string[]> {
  const gone: string[] = [];
  for (const project of await listAllProjects(store)) {
    const rule = ruleOf(project, config);
    const query = { teamId: project.teamId, projectId: project.id };
    const production = await listDeployments(store, { ...query, target: "production", states: ["READY"], limit: rule.keepProduction });
    const aliases = await listAliases(store, { projectId: project.id });
    const kept = new Set([...production.map(({ id }) => id), ...aliases.map(({ deploymentId }) => deploymentId)]);
    for (let untilMs = clock.now(); ;) {
      const page = await listDeployments(store, { ...query, untilMs, limit: deploymentsAtOnce });
      for (const deployment of page) {
        if (kept.has(deployment.id) || !isOutlived(deployment, rule, clock.now())) continue;
        if (!options.dryRun) {
          if (!(await deleteUnaliased(store, deployment.id))) continue;
          await logs.deleteDeployment(deployment.id);
        }
        gone.push(deployment.id);
      }
      if (page.length < deploymentsAtOnce) break;
      untilMs = page.at(-1)!.createdAt;
    }
  }
  return gone;
}
