/** `mayfly usage`: what Functions have used, summed up, with a small chart over time. */
import { readUsage, type UsageAmounts, type UsageFacts, type UsageQuery, type UsageReport } from "../../client/usage.ts";
import { apiFlags, type Command } from "../command.ts";
import { parseSince, usageError } from "../flags.ts";
import { formatDuration, formatTable, grouped, type Terminal } from "../output.ts";
import { openSession, parseDeploymentRef } from "../session.ts";

const hourMs = 3_600_000;
const bucketsMs = { minute: 60_000, hour: hourMs, day: 24 * hourMs } as const;
/** Widest chart, in characters. */
const barsMax = 31;
const bars = "▁▂▃▄▅▆▇█";

export const usage: Command = {
  name: "usage",
  summary: "Show what Functions have used.",
  usage: "usage [PROJECT|DEPLOYMENT] [options]",
  description:
    "Shows invocations, errors, cold starts, time, CPU time and GB-seconds (memory × time) of Functions: of all projects, of one (its " +
    "name), or of one deployment (id, host or URL). Only the time in which a request is served counts: boot and frozen time are free. " +
    "Figures are a few seconds late. With --json: the figures by minute, hour or day, whichever gives a fair number of them, and totals.",
  flags: {
    since: { type: "string", value: "WHEN", doc: "From when on: 10m, 24h (the default), 30d, or a date (2026-11-22T04:00)." },
    by: { type: "string", value: "WHAT", doc: "A row for each function (the default) or for each deployment." },
    ...apiFlags,
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly usage", does: "All projects, the last 24 hours, by Function." },
    { run: "mayfly usage shop --since 7d --by deployment", does: "Has the last deployment of shop become more expensive?" },
    { run: "mayfly usage shop.localhost --since 1h", does: "What production used in the last hour." },
    { run: "mayfly usage shop --json | jq .totals.gbSeconds", does: "For machines." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const what = invocation.positionals[0];
    const by = invocation.value("by") ?? "function";
    if (by !== "function" && by !== "deployment") throw usageError(usage, `--by is "${by}"; it may be function or deployment.`);
    const when = invocation.value("since") ?? "24h";
    const since = parseSince(usage, when)!;
    const span = /^\d+[a-z]+$/.test(when) ? `last ${when}` : `since ${when}`;
    const query = { ...scopeOf(what), since, bucket: bucketFor(Date.now() - since), groupBy: by } as const;
    using client = await openSession(invocation);
    const report = await readUsage(client, query);
    if (invocation.has("json")) {
      terminal.json(report);
      return 0;
    }
    if (report.usage.length === 0) {
      terminal.note(`Nothing was invoked ${span.replace(/^last/, "in the last")}.`);
      return 0;
    }
    for (const line of formatReport(report, by, what === undefined, span, terminal)) terminal.out(line);
    return 0;
  },
};

/** A word is a project's name; a deployment has an id, or a host with a dot. */
function scopeOf(what: string | undefined): Pick<UsageQuery, "project" | "deployment"> {
  if (what === undefined) return {};
  return /^dpl_|[.:/]/.test(what) ? { deployment: parseDeploymentRef(what) } : { project: what };
}

/** The smallest bucket that does not give too many of them. */
function bucketFor(ms: number): UsageQuery["bucket"] {
  if (ms <= 2 * hourMs) return "minute";
  return ms <= 7 * 24 * hourMs ? "hour" : "day";
}

interface Line {
  readonly first: UsageFacts;
  readonly sum: UsageAmounts;
  readonly chart: readonly number[];
}

function formatReport(report: UsageReport, by: UsageQuery["groupBy"], withProject: boolean, span: string, terminal: Terminal): string[] {
  const groups = Map.groupBy(report.usage, ({ projectId, deploymentId, functionName }) =>
    JSON.stringify([projectId, by === "function" ? functionName : deploymentId]),
  );
  const lines = [...groups.values()]
    .map((rows): Line => ({ first: rows[0]!, sum: sumOf(rows), chart: chartOf(rows, report) }))
    .toSorted((a, b) => b.sum.gbSeconds - a.sum.gbSeconds || b.sum.invocations - a.sum.invocations);
  const name = ({ first }: Line) => terminal.foreign((by === "function" ? first.functionName : first.deploymentId) ?? "-");
  const project = ({ first }: Line) => terminal.foreign(first.projectName ?? first.projectId);
  const total = terminal.paint("bold", "total");
  const rows = [
    ...lines.map((line) => [...(withProject ? [project(line)] : []), name(line), ...cells(line.sum, line.chart, terminal)]),
    // Of one row it would say the same again.
    ...(lines.length === 1
      ? []
      : [[...(withProject ? [total, ""] : [total]), ...cells(report.totals, chartOf(report.usage, report), terminal)]]),
  ];
  const titles = [
    ...(withProject ? ["PROJECT"] : []),
    by.toUpperCase(),
    "INVOKED",
    "ERRORS",
    "COLD",
    "TIME",
    "CPU",
    "GB-SECONDS",
    span.replace(/^\w+/, (word) => word.toUpperCase()),
  ];
  const head = titles.map((title) => terminal.paint("dim", title));
  const names = withProject ? 2 : 1;
  return formatTable([head, ...rows], {
    right: [0, 1, 2, 3, 4, 5].map((column) => column + names),
    columns: terminal.columns,
    // The chart first, then what the sums tell too.
    optional: [6, 2, 4].map((column) => column + names),
  });
}

function cells(sum: UsageAmounts, chart: readonly number[], terminal: Terminal): string[] {
  const errors = grouped(sum.errors);
  return [
    grouped(sum.invocations),
    sum.errors > 0 ? terminal.paint("red", errors) : errors,
    grouped(sum.coldStarts),
    formatDuration(sum.wallMs),
    sum.cpuMs === null ? "-" : formatDuration(sum.cpuMs),
    formatGbSeconds(sum.gbSeconds),
    terminal.paint("cyan", sparkline(chart)),
  ];
}

function sumOf(rows: readonly UsageFacts[]): UsageAmounts {
  const sum = (of: (row: UsageFacts) => number) => rows.reduce((total, row) => total + of(row), 0);
  return {
    invocations: sum((row) => row.invocations),
    errors: sum((row) => row.errors),
    coldStarts: sum((row) => row.coldStarts),
    wallMs: sum((row) => row.wallMs),
    cpuMs: rows.every((row) => row.cpuMs === null) ? null : sum((row) => row.cpuMs ?? 0),
    gbSeconds: sum((row) => row.gbSeconds),
  };
}

/** Invocations over time, from the first bucket asked for to the last. */
function chartOf(rows: readonly UsageFacts[], { since, until, bucket }: UsageReport): number[] {
  const bucketMs = bucketsMs[bucket];
  const firstMs = since - (since % bucketMs);
  const buckets = Math.ceil((until - firstMs) / bucketMs);
  const perBar = Math.ceil(buckets / barsMax);
  const counts = Array.from({ length: Math.ceil(buckets / perBar) }, () => 0);
  for (const { start, invocations } of rows) {
    const bar = Math.floor((start - firstMs) / bucketMs / perBar);
    if (bar >= 0 && bar < counts.length) counts[bar]! += invocations;
  }
  return counts;
}

/** A bar for each count, relative to the greatest; none is a dot, so that it is told from few. */
function sparkline(counts: readonly number[]): string {
  const most = Math.max(...counts);
  return counts.map((count) => (count === 0 ? "·" : bars[Math.ceil((count / most) * bars.length) - 1]!)).join("");
}

/** `0.004`, `1.25`, `12.3`, `1,234`: three digits where they matter. */
function formatGbSeconds(value: number): string {
  if (value >= 99.95) return grouped(Math.round(value));
  return value.toFixed(value < 0.995 ? 3 : value < 9.995 ? 2 : 1);
}
