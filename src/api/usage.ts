/** What the team's Functions have used, by time, Function and deployment. */
import type { Endpoint, EndpointCall } from "./endpoint.ts";
import { MayflyError } from "../errors.ts";
import { findDeployment } from "../store/deployments.ts";
import { findProject, listProjects } from "../store/projects.ts";
import type { UsageAmounts, UsageRow } from "../usage/usage-store.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const bucketsMs: Readonly<Record<string, number>> = { minute: minuteMs, hour: hourMs, day: 24 * hourMs };
const sinceDefaultMs = 24 * hourMs;
/** An answer is complete or refused. */
const rowsMax = 20_000;
const projectNamesMax = 10_000;

export const usageEndpoints: readonly Endpoint[] = [
  {
    method: "GET",
    path: "/mayfly/usage",
    async handle(call) {
      const { context, identity, query } = call;
      const teamId = identity.team.id;
      const untilMs = parseTime(query, "until") ?? context.clock.now();
      const sinceMs = parseTime(query, "since") ?? untilMs - sinceDefaultMs;
      if (sinceMs >= untilMs) throw refuse("since", "before `until`");
      const bucket = query["bucket"] ?? "hour";
      const bucketMs = Object.hasOwn(bucketsMs, bucket) ? bucketsMs[bucket]! : null;
      if (bucketMs === null) throw refuse("bucket", "minute, hour or day");
      const groupBy = query["groupBy"];
      if (groupBy !== undefined && groupBy !== "function" && groupBy !== "deployment") throw refuse("groupBy", "function or deployment");

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
      const names = new Map((await listProjects(context.store, teamId, projectNamesMax)).map(({ id, name }) => [id, name]));
      return {
        since: sinceMs,
        until: untilMs,
        bucket,
        usage: rows.map((row) => ({ ...rowJson({ ...row, ...scope }), projectName: names.get(row.projectId) ?? null })),
        totals: amountsJson(totalOf(rows)),
      };
    },
  },
];

/** @throws MayflyError not_found, also for another team's */
async function scopeOf({ context: { store }, identity: { team }, query }: EndpointCall) {
  const nameOrId = query["projectId"] ?? query["app"];
  const project = nameOrId === undefined ? undefined : await findProject(store, team.id, nameOrId);
  if (project === null) throw new MayflyError("not_found", "Project not found");
  const idOrHost = query["deploymentId"];
  const deployment = idOrHost === undefined ? undefined : await findDeployment(store, team.id, idOrHost.toLowerCase());
  if (deployment === null) throw new MayflyError("not_found", "Deployment not found");
  return {
    ...(project === undefined ? {} : { projectId: project.id }),
    ...(deployment === undefined ? {} : { deploymentId: deployment.id }),
    ...(query["functionName"] === undefined ? {} : { functionName: query["functionName"] }),
  };
}

/** Milliseconds since 1970, or a date (ISO 8601). */
function parseTime(query: EndpointCall["query"], name: string): number | undefined {
  const text = query[name];
  if (text === undefined) return undefined;
  const timestampMs = /^\d{1,15}$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(timestampMs)) throw refuse(name, "milliseconds since 1970 or a date");
  return timestampMs;
}

const refuse = (name: string, expected: string) => new MayflyError("bad_request", `Query parameter \`${name}\` must be ${expected}.`);

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
