/** What the team's Functions have used, by time, Function and deployment. */
import { MayflyError } from "../errors.ts";
import { listProjects } from "../store/projects.ts";
import type { UsageAmounts, UsageRow } from "../usage/usage-store.ts";
import { ofProjects, theDeployment, theProject, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { oneOf, string, time, timeOf } from "./schema.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const bucketsMs: Readonly<Record<string, number>> = { minute: minuteMs, hour: hourMs, day: 24 * hourMs };
const sinceDefaultMs = 24 * hourMs;
/** An answer is complete or refused. */
const rowsMax = 20_000;
const projectNamesMax = 10_000;

export const usageEndpoints: readonly Endpoint[] = [
  ofProjects({
    method: "GET",
    path: "/mayfly/usage",
    summary: "What Functions have used, by time, Function and deployment",
    access: "read",
    query: {
      since: time,
      until: time,
      bucket: oneOf(...Object.keys(bucketsMs)),
      groupBy: oneOf("function", "deployment"),
      projectId: string,
      app: string,
      deploymentId: string,
      functionName: string,
    },
    async handle(call) {
      const { context, identity, query } = call;
      const teamId = identity.team.id;
      const untilMs = timeOf(query, "until") ?? context.clock.now();
      const sinceMs = timeOf(query, "since") ?? untilMs - sinceDefaultMs;
      if (sinceMs >= untilMs) throw new MayflyError("bad_request", "Query parameter `since` must be before `until`.");
      const bucket = query["bucket"] ?? "hour";
      const bucketMs = bucketsMs[bucket]!;
      const groupBy = query["groupBy"] as "function" | "deployment" | undefined;

      const scope = await scopeOf(call);
      const rows = await context.usage.query({
        teamId,
        ...scope,
        sinceMs,
        untilMs,
        bucketMs,
        ...(groupBy === undefined ? {} : { groupBy }),
        limit: rowsMax + 1,
      });
      if (rows.length > rowsMax) {
        throw new MayflyError("bad_request", `This would be more than ${rowsMax} rows: take a larger bucket or a shorter time.`);
      }
      const names = new Map((await listProjects(context.store, { teamId, limit: projectNamesMax })).map(({ id, name }) => [id, name]));
      return {
        since: sinceMs,
        until: untilMs,
        bucket,
        usage: rows.map((row) => ({ ...rowJson({ ...row, ...scope }), projectName: names.get(row.projectId) ?? null })),
        totals: amountsJson(totalOf(rows)),
      };
    },
  }),
];

/** @throws MayflyError not_found, also for what the caller may not see */
async function scopeOf(call: EndpointCall) {
  const { identity, query } = call;
  const nameOrId = query["projectId"] ?? query["app"] ?? identity.token.projectId ?? undefined;
  const project = nameOrId === undefined ? undefined : await theProject(call, nameOrId);
  const deployment = query["deploymentId"] === undefined ? undefined : await theDeployment(call, query["deploymentId"]);
  return {
    ...(project === undefined ? {} : { projectId: project.id }),
    ...(deployment === undefined ? {} : { deploymentId: deployment.id }),
    ...(query["functionName"] === undefined ? {} : { functionName: query["functionName"] }),
  };
}

function rowJson(row: UsageRow) {
  const { startMs, projectId, deploymentId, functionName } = row;
  return { start: startMs, projectId, deploymentId, functionName, ...amountsJson(row) };
}

/** Milliseconds to the microsecond; GB-seconds as exact as they can be compared with them. */
function amountsJson({ invocations, errors, coldStarts, wallMs, cpuMs, gbSeconds }: UsageAmounts) {
  const round = (value: number, digits: number) => Math.round(value * 10 ** digits) / 10 ** digits;
  return {
    invocations,
    errors,
    coldStarts,
    wallMs: round(wallMs, 3),
    cpuMs: cpuMs === null ? null : round(cpuMs, 3),
    gbSeconds: round(gbSeconds, 6),
  };
}

/** CPU time is that of the rows that know theirs; null when there are rows and none does. */
function totalOf(rows: readonly UsageRow[]): UsageAmounts {
  const sum = (of: (row: UsageRow) => number) => rows.reduce((total, row) => total + of(row), 0);
  return {
    invocations: sum((row) => row.invocations),
    errors: sum((row) => row.errors),
    coldStarts: sum((row) => row.coldStarts),
    wallMs: sum((row) => row.wallMs),
    cpuMs: rows.length > 0 && rows.every((row) => row.cpuMs === null) ? null : sum((row) => row.cpuMs ?? 0),
    gbSeconds: sum((row) => row.gbSeconds),
  };
}
