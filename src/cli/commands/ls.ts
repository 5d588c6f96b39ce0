/** `mayfly ls`: the newest deployments, of all projects or of one. */
import { listDeployments, type DeploymentFacts } from "../../client/deployments.ts";
import { apiFlags, type Command } from "../command.ts";
import { usageError } from "../flags.ts";
import { formatDuration, formatTable, type Style } from "../output.ts";
import { openSession } from "../session.ts";

const styles: Readonly<Record<DeploymentFacts["state"], Style>> = {
  READY: "green",
  ERROR: "red",
  CANCELED: "dim",
  BUILDING: "yellow",
  QUEUED: "yellow",
};

export const ls: Command = {
  name: "ls",
  summary: "List deployments.",
  usage: "ls [PROJECT] [options]",
  description: "Lists the newest deployments, of all projects or of one. With --json: an array of objects.",
  flags: { limit: { type: "string", value: "N", doc: "How many, from 1 to 100 (default 20)." }, ...apiFlags },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly ls", does: "The newest 20 deployments." },
    { run: "mayfly ls shop --limit 3", does: "The newest three of the project shop." },
    { run: "mayfly ls --json | jq -r '.[0].url'", does: "The URL of the newest." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const limit = Number(invocation.value("limit") ?? 20);
    if (!Number.isInteger(limit) || limit < 1 || limit > 100) throw usageError(ls, "--limit is a whole number from 1 to 100.");
    using client = await openSession(invocation);
    const project = invocation.positionals[0];
    const deployments = await listDeployments(client, project, limit);
    if (invocation.has("json")) {
      terminal.json(deployments.map(({ state: readyState, ...facts }) => ({ ...facts, readyState })));
      return 0;
    }
    if (deployments.length === 0) {
      terminal.note(`There is no deployment${project === undefined ? "" : ` of "${project}"`} yet.`);
      return 0;
    }
    const nowMs = Date.now();
    const rows = deployments.map((deployment) => [
      deployment.createdAtMs === null ? "" : formatDuration(nowMs - deployment.createdAtMs),
      deployment.name,
      deployment.url,
      terminal.paint(styles[deployment.state], deployment.state),
      deployment.target,
      deployment.id,
    ]);
    const head = ["AGE", "PROJECT", "URL", "STATE", "TARGET", "ID"].map((title) => terminal.paint("dim", title));
    for (const line of formatTable([head, ...rows], { columns: terminal.columns, optional: [5, 1, 4, 0] })) terminal.out(line);
    return 0;
  },
};
