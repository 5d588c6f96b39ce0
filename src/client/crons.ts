/** Cron jobs of a project, as the client sees them. */
import type { ApiClient } from "./client.ts";
import { number, objects, text } from "./json.ts";

export interface CronFacts {
  readonly path: string;
  readonly schedule: string;
  readonly nextRunAtMs: number | null;
  /** null: it has not run. */
  readonly lastRun: { readonly startedAtMs: number; readonly status: number | null; readonly error: string | null } | null;
}

export async function listCrons(client: ApiClient, projectId: string): Promise<CronFacts[]> {
  const answer = await client.call("GET", `/v1/projects/${encodeURIComponent(projectId)}/crons`);
  const runs = objects(answer["runs"]);
  return objects(answer["crons"]).map((cron) => {
    const [path, schedule] = [text(cron["path"]) ?? "", text(cron["schedule"]) ?? ""];
    const last = runs.find((run) => run["path"] === path && run["schedule"] === schedule);
    const lastRun =
      last === undefined
        ? null
        : { startedAtMs: number(last["startedAt"]) ?? 0, status: number(last["status"]) ?? null, error: text(last["error"]) ?? null };
    return { path, schedule, nextRunAtMs: number(cron["nextRunAt"]) ?? null, lastRun };
  });
}

/** Runs a job at once; returns when it has begun. */
export async function runCron(client: ApiClient, projectId: string, path: string): Promise<void> {
  await client.call("POST", `/v1/projects/${encodeURIComponent(projectId)}/crons/run`, { body: { path } });
}
