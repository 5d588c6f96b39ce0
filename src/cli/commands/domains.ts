/** `mayfly domains`: hosts of a person's own at which a project's production answers. */
import { addDomain, listDomains, listProjectDomains, removeDomain } from "../../client/domains.ts";
import { getProject } from "../../client/projects.ts";
import { apiFlags, confirm, type Command } from "../command.ts";
import { usageError } from "../flags.ts";
import { formatDuration, formatTable } from "../output.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession } from "../session.ts";

export const domainsLs: Command = {
  name: "domains ls",
  summary: "List the domains of projects.",
  usage: "domains ls [PROJECT] [options]",
  description: "Lists domains, of all projects or of one. With --json: an array of objects.",
  flags: apiFlags,
  positionals: { min: 0, max: 1 },
  examples: [{ run: "mayfly domains ls", does: "All of them." }],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const named = invocation.positionals[0];
    const domains =
      named === undefined ? await listDomains(client) : await listProjectDomains(client, (await getProject(client, named)).id);
    if (invocation.has("json")) {
      terminal.json(domains);
      return 0;
    }
    if (domains.length === 0) {
      terminal.note('There is no domain yet. Add one with "mayfly domains add HOST --project NAME".');
      return 0;
    }
    const nowMs = Date.now();
    const head = ["DOMAIN", "AGE"].map((title) => terminal.paint("dim", title));
    const rows = domains.map(({ name, createdAtMs }) => [
      terminal.foreign(name),
      createdAtMs === null ? "" : formatDuration(nowMs - createdAtMs),
    ]);
    for (const line of formatTable([head, ...rows])) terminal.out(line);
    return 0;
  },
};

export const domainsAdd: Command = {
  name: "domains add",
  summary: "Serve a project's production at a domain.",
  usage: "domains add DOMAIN [options]",
  description:
    "The project's production deployment answers at this host too, now and after every promotion. Its DNS must lead to this server. " +
    "With --json: name, projectId.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly domains add www.example.com --project shop", does: "Serve shop there." }],

  async run(invocation) {
    const { terminal } = invocation;
    const name = invocation.positionals[0]!.toLowerCase();
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    await addDomain(client, project.id, name);
    if (invocation.has("json")) terminal.json({ name, projectId: project.id });
    else terminal.out(`${name} → ${project.name}`);
    return 0;
  },
};

export const domainsRm: Command = {
  name: "domains rm",
  summary: "Remove a domain.",
  usage: "domains rm DOMAIN [options]",
  description: 'The host leads nowhere any more. Asks before it does, or takes --yes. With --json: {"removed":[…]}.',
  flags: { ...projectFlag, yes: { type: "boolean", short: "y", doc: "Yes, remove it." }, ...apiFlags },
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly domains rm www.example.com --project shop --yes", does: "Take it away." }],

  async run(invocation) {
    const { terminal } = invocation;
    const name = invocation.positionals[0]!.toLowerCase();
    if (!(await confirm(invocation, `Remove ${name}?`))) throw usageError(domainsRm, `This would remove ${name}; add --yes to do it.`);
    using client = await openSession(invocation);
    await removeDomain(client, (await openProject(invocation, client)).id, name);
    if (invocation.has("json")) terminal.json({ removed: [name] });
    else terminal.out(name);
    return 0;
  },
};
