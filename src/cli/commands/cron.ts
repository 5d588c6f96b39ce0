/** `mayfly cron`: jobs of a project's production deployment, as vercel.json names them. */
import { listCrons, runCron } from "../../client/crons.ts";
import { apiFlags, type Command } from "../command.ts";
import { formatDuration, formatTable } from "../output.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession } from "../session.ts";

export const cronLs: Command = {
  name: "cron ls",
  summary: "List cron jobs.",
  usage: "cron ls [options]",
  description: "Lists the jobs of production with their next run (UTC) and how the last one ended. With --json: an array of objects.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: 0 },
  examples: [{ run: "mayfly cron ls --project shop", does: "Which jobs does shop have?" }],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const crons = await listCrons(client, project.id);
    if (invocation.has("json")) {
      terminal.json(crons);
      return 0;
    }
    if (crons.length === 0) {
      terminal.note('Production has no cron job. Name some under "crons" in vercel.json.');
      return 0;
    }
    const nowMs = Date.now();
    const head = ["PATH", "SCHEDULE", "NEXT RUN", "LAST RUN", "RESULT"].map((title) => terminal.paint("dim", title));
    const rows = crons.map(({ path, schedule, nextRunAtMs, lastRun }) => [
      terminal.foreign(path),
      terminal.foreign(schedule),
      nextRunAtMs === null ? "never" : `in ${formatDuration(nextRunAtMs - nowMs)}`,
      lastRun === null ? "" : `${formatDuration(nowMs - lastRun.startedAtMs)} ago`,
      lastRun === null ? "" : terminal.foreign(lastRun.error ?? String(lastRun.status ?? "runs")),
    ]);
    for (const line of formatTable([head, ...rows])) terminal.out(line);
    return 0;
  },
};

export const cronRun: Command = {
  name: "cron run",
  summary: "Run a cron job at once.",
  usage: "cron run PATH [options]",
  description: "Begins a job beside its schedule, unless it is running; `cron ls` says how it ended. With --json: path.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly cron run /api/cleanup --project shop", does: "Clean up now." }],

  async run(invocation) {
    const path = invocation.positionals[0]!;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    await runCron(client, project.id, path);
    if (invocation.has("json")) invocation.terminal.json({ path });
    else invocation.terminal.out(`${path} of ${project.name} has begun.`);
    return 0;
  },
};
