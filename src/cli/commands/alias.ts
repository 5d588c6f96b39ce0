/** `mayfly alias`: hosts that lead to a deployment besides its own. */
import { listAliases, removeAlias, setAlias } from "../../client/aliases.ts";
import { getDeployment } from "../../client/deployments.ts";
import { apiFlags, confirm, type Command } from "../command.ts";
import { usageError } from "../flags.ts";
import { formatDuration, formatTable } from "../output.ts";
import { linkedProject } from "../project.ts";
import { getProject } from "../../client/projects.ts";
import { openSession, parseDeploymentRef } from "../session.ts";

export const aliasLs: Command = {
  name: "alias ls",
  summary: "List aliases.",
  usage: "alias ls [PROJECT] [options]",
  description: "Lists the hosts that lead to deployments: of one project, else of all. With --json: an array of objects.",
  flags: apiFlags,
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly alias ls", does: "All aliases." },
    { run: "mayfly alias ls shop --json | jq -r '.[].host'", does: "The hosts of the project shop." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const named = invocation.positionals[0];
    const project = named === undefined ? undefined : await getProject(client, named);
    const aliases = await listAliases(client, project?.id);
    if (invocation.has("json")) {
      terminal.json(aliases);
      return 0;
    }
    if (aliases.length === 0) {
      terminal.note("There is no alias yet.");
      return 0;
    }
    const nowMs = Date.now();
    const head = ["ALIAS", "DEPLOYMENT", "AGE"].map((title) => terminal.paint("dim", title));
    const rows = aliases.map(({ host, deploymentId, createdAtMs }) => [
      terminal.foreign(host),
      deploymentId ?? "-",
      createdAtMs === null ? "" : formatDuration(nowMs - createdAtMs),
    ]);
    for (const line of formatTable([head, ...rows], { columns: terminal.columns, optional: [2] })) terminal.out(line);
    return 0;
  },
};

export const aliasSet: Command = {
  name: "alias set",
  summary: "Point a host at a deployment.",
  usage: "alias set [DEPLOYMENT] HOST [options]",
  description:
    "The host leads to the deployment from now on, wherever it led before. A word without dots is a host below the server's domain: " +
    "beta is beta.<domain>. DEPLOYMENT is an id, a host or a URL; without one it is the production of the project that this directory is " +
    "linked to. With --json: host, deploymentId.",
  flags: apiFlags,
  positionals: { min: 1, max: 2 },
  examples: [
    { run: "mayfly alias set dpl_8kq2… beta", does: "Serve it at beta.<domain>." },
    { run: "mayfly alias set $(mayfly deploy) beta", does: "Deploy and show it there." },
    { run: "mayfly alias set shop.localhost www.example.com", does: "A host of your own, whose DNS leads here." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const host = invocation.positionals
      .at(-1)!
      .replace(/^https?:\/\//i, "")
      .replace(/[/:].*$/, "")
      .toLowerCase();
    if (host === "") throw usageError(aliasSet, `"${invocation.positionals.at(-1)}" is not a host.`);
    const ref = invocation.positionals.length === 2 ? parseDeploymentRef(invocation.positionals[0]!) : undefined;
    using client = await openSession(invocation);
    const id = ref === undefined ? (await linkedProject(invocation, client))?.productionId : (await getDeployment(client, ref)).id;
    if (id === undefined || id === null) throw usageError(aliasSet, "Which deployment? Name one: mayfly alias set DEPLOYMENT HOST.");
    const set = await setAlias(client, id, host);
    if (invocation.has("json")) terminal.json({ host: set, deploymentId: id });
    else terminal.out(`${set} → ${id}`);
    return 0;
  },
};

export const aliasRm: Command = {
  name: "alias rm",
  summary: "Remove aliases.",
  usage: "alias rm HOST… [options]",
  description: 'The hosts lead nowhere any more; the deployments stay. Asks before it does, or takes --yes. With --json: {"removed":[…]}.',
  flags: { yes: { type: "boolean", short: "y", doc: "Yes, remove them." }, ...apiFlags },
  positionals: { min: 1, max: Number.POSITIVE_INFINITY },
  examples: [{ run: "mayfly alias rm beta.localhost --yes", does: "Take a host away." }],

  async run(invocation) {
    const { terminal, positionals } = invocation;
    if (!(await confirm(invocation, `Remove ${positionals.join(", ")}?`))) {
      throw usageError(aliasRm, `This would remove ${positionals.join(", ")}; add --yes to do it.`);
    }
    using client = await openSession(invocation);
    const removed: string[] = [];
    const hosts = positionals.map(parseDeploymentRef);
    // What was set by one word is removed by it.
    const known = hosts.some((host) => !host.includes(".")) ? await listAliases(client, undefined) : [];
    for (const word of hosts) {
      const host = word.includes(".") ? word : (known.find((alias) => alias.host.startsWith(`${word}.`))?.host ?? word);
      await removeAlias(client, host);
      removed.push(host);
      if (!invocation.has("json")) terminal.out(host);
    }
    if (invocation.has("json")) terminal.json({ removed });
    return 0;
  },
};
