/** `mayfly inspect`: a deployment's facts and the table of its outputs, Functions marked λ. */
import { getDeployment, readBuild, type DeploymentFacts, type EntrypointFacts, type OutputFacts } from "../../client/deployments.ts";
import { apiFlags, type Command } from "../command.ts";
import { counted, formatBytes, formatDuration, formatTable, formatTime, type Terminal } from "../output.ts";
import { chosenDeployment } from "../project.ts";
import { openSession } from "../session.ts";

export const inspect: Command = {
  name: "inspect",
  summary: "Show a deployment and its outputs.",
  usage: "inspect [DEPLOYMENT] [options]",
  description:
    "Shows a deployment's state, times and addresses, what its build did (built anew or taken from an earlier build, time, size), and what " +
    "it yielded: static files and Functions (λ). DEPLOYMENT is an id, a host or a URL; without one it is the production of the project " +
    "that this directory is linked to. With --json: the facts, outputs and entrypoints as arrays.",
  flags: apiFlags,
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly inspect dpl_8kq2…", does: "By id." },
    { run: "mayfly inspect http://shop.localhost:3000", does: "What is in production now." },
    { run: "mayfly inspect shop.localhost --json | jq '.outputs[] | select(.kind == \"function\") | .path'", does: "Its Functions." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const deployment = await getDeployment(client, await chosenDeployment(invocation, client));
    const { outputs, entrypoints } = await readBuild(client, deployment.id);
    if (invocation.has("json")) {
      const { state: readyState, ...facts } = deployment;
      terminal.json({ ...facts, readyState, outputs, entrypoints });
      return 0;
    }
    for (const line of factLines(deployment, terminal)) terminal.out(line);
    if (entrypoints.length > 0) {
      terminal.out("");
      for (const line of entrypointLines(entrypoints, terminal)) terminal.out(line);
    }
    if (outputs.length > 0) {
      terminal.out("");
      for (const line of outputLines(outputs, terminal)) terminal.out(line);
    }
    return 0;
  },
};

function factLines(deployment: DeploymentFacts, terminal: Terminal): string[] {
  const { buildSummary: summary } = deployment;
  const rows: (readonly [string, string | null])[] = [
    ["id", deployment.id],
    ["project", deployment.name],
    ["state", deployment.state],
    ["target", deployment.target],
    ["url", deployment.url],
    ["aliases", deployment.aliases.length === 0 ? null : deployment.aliases.join(", ")],
    ["creator", deployment.creator],
    ["created", deployment.createdAtMs === null ? null : formatTime(deployment.createdAtMs)],
    ["ready", deployment.readyAtMs === null ? null : formatTime(deployment.readyAtMs)],
    [
      "build",
      summary === null
        ? null
        : `${formatDuration(summary.ms)} · ${counted(summary.functions, "function")}: ${summary.built} built, ${summary.cached} from cache`,
    ],
    ["error", deployment.errorMessage === null ? null : `${terminal.foreign(deployment.errorMessage)} (${deployment.errorCode ?? "?"})`],
  ];
  const shown = rows.filter((row): row is [string, string] => row[1] !== null);
  return formatTable(shown.map(([name, value]) => [terminal.paint("dim", name), value]));
}

/** Widest bar of the chart. */
const barMax = 20;

/**
 * What the build did, with a bar for its time.
 * ```
 * api/date.ts  node  built   120 ms  ████████████████████  56 kB
 * api/list.ts  node  cached                                12 kB
 * ```
 */
function entrypointLines(entrypoints: readonly EntrypointFacts[], terminal: Terminal): string[] {
  const most = Math.max(1, ...entrypoints.map(({ ms }) => ms));
  const rows = entrypoints.map(({ entrypoint, builder, reused, ms, bytes }) => [
    terminal.foreign(entrypoint),
    terminal.paint("dim", terminal.foreign(builder)),
    reused ? terminal.paint("dim", "cached") : "built",
    reused ? "" : formatDuration(ms),
    terminal.paint("cyan", reused ? "" : "█".repeat(Math.max(1, Math.round((ms / most) * barMax)))),
    bytes === null ? "" : formatBytes(bytes),
  ]);
  return formatTable(rows, { right: [3, 5], columns: terminal.columns, optional: [4, 1] });
}

/**
 * The outputs by path, each path whole so that it can be searched for and copied.
 * ```
 * λ api/date     56 kB  nodejs24.x  1769 MB
 *   index.html  1.2 kB
 * ```
 */
function outputLines(outputs: readonly OutputFacts[], terminal: Terminal): string[] {
  const rows = outputs.map(({ kind, path, size, runtime, memoryMB }) => {
    const name = terminal.foreign(path === "" ? "/" : path);
    if (kind === "static") return [`  ${name}`, formatBytes(size), "", ""];
    return [terminal.paint("cyan", `λ ${name}`), formatBytes(size), runtime ?? "", memoryMB === null ? "" : `${memoryMB} MB`];
  });
  const functions = outputs.filter(({ kind }) => kind === "function").length;
  const bytes = outputs.reduce((sum, { kind, size }) => (kind === "static" ? sum + size : sum), 0);
  const total = `${counted(functions, "function")} (λ), ${counted(outputs.length - functions, "static file")} (${formatBytes(bytes)})`;
  return [...formatTable(rows, { right: [1], columns: terminal.columns, optional: [3, 2] }), "", terminal.paint("dim", total)];
}
