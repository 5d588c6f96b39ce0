/** Cron jobs of a project's production deployment: what there is, how the last runs ended, and a run at once. */
import { listCronRuns } from "../store/cron-runs.ts";
import { ofProject, type Endpoint } from "./endpoint.ts";
import { object, string, stringOf } from "./schema.ts";

const runsMax = 100;

export const cronEndpoints: readonly Endpoint[] = [
  ofProject({
    method: "GET",
    path: "/projects/:project/crons",
    summary: "Cron jobs of production with their next run, and the last runs",
    access: "read",
    async handle({ project, cron, context }) {
      const jobs = await cron.jobs(project);
      return {
        crons: jobs.map((job) => ({
          path: job.path,
          schedule: job.schedule,
          host: job.host,
          deploymentId: job.deployment.id,
          nextRunAt: cron.next(job),
        })),
        runs: await listCronRuns(context.store, project.id, runsMax),
      };
    },
  }),
  ofProject({
    method: "POST",
    path: "/projects/:project/crons/run",
    summary: "Run a cron job at once; how it ends is in the list of runs",
    access: "write",
    body: object({ path: string }, "path"),
    status: 202,
    async handle({ project, cron, body }) {
      const path = stringOf(body, "path")!;
      await cron.runNow(project, path);
      return { path };
    },
  }),
];
