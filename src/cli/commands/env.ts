/** `mayfly env`: a project's environment variables. Values come from standard input or a hidden question, and are never shown. */
import { readFile, rename, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { addVariable, envTargets, listVariables, pullVariables, removeVariable, type EnvTarget } from "../../client/env.ts";
import { MayflyError, messageOf } from "../../errors.ts";
import { apiFlags, confirm, type Command, type Flags, type Invocation } from "../command.ts";
import { usageError } from "../flags.ts";
import { formatDuration, formatTable } from "../output.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession } from "../session.ts";

const targetFlag = (doc: string, multiple: boolean): Flags => ({
  target: { type: "string", short: "t", value: "TARGET", choices: envTargets, multiple, doc },
});
const branchFlag: Flags = { branch: { type: "string", value: "BRANCH", doc: "Only for previews of this Git branch." } };

export const envLs: Command = {
  name: "env ls",
  summary: "List environment variables.",
  usage: "env ls [options]",
  description: "Lists a project's variables without their values. With --json: an array of objects.",
  flags: { ...targetFlag("Only those of production, preview or development.", false), ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: 0 },
  examples: [
    { run: "mayfly env ls", does: "Of the linked project." },
    { run: "mayfly env ls --project shop --target production", does: "What production of shop sees." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const variables = await listVariables(client, project.id, invocation.value("target"));
    if (invocation.has("json")) {
      terminal.json(variables);
      return 0;
    }
    if (variables.length === 0) {
      terminal.note(`${project.name} has no variable yet. Set one with "mayfly env add NAME".`);
      return 0;
    }
    const nowMs = Date.now();
    const head = ["NAME", "TARGETS", "KIND", "AGE"].map((title) => terminal.paint("dim", title));
    const rows = variables.map(({ name, targets, gitBranch, type, createdAtMs }) => [
      terminal.foreign(name),
      terminal.foreign(targets.join(", ") + (gitBranch === null ? "" : ` (${gitBranch})`)),
      type === "sensitive" ? "sensitive" : "readable",
      createdAtMs === null ? "" : formatDuration(nowMs - createdAtMs),
    ]);
    for (const line of formatTable([head, ...rows])) terminal.out(line);
    return 0;
  },
};

export const envAdd: Command = {
  name: "env add",
  summary: "Set an environment variable.",
  usage: "env add NAME[=VALUE] [options]",
  description:
    "Deployments made from now on see it; those that there are do not change. The value is what follows =, else all of standard input " +
    "(one newline at its end is dropped), else it is asked for and not shown. It is encrypted on the server. Unless --readable, or only " +
    "for development, it is sensitive: builds and Functions see it, nobody can read it back. With --json: name, targets, sensitive.",
  flags: {
    ...targetFlag("production, preview or development (default: production and preview).", true),
    ...branchFlag,
    readable: { type: "boolean", doc: 'People may read it back, with "mayfly env pull".' },
    force: { type: "boolean", doc: "Replace the variable of that name." },
    ...projectFlag,
    ...apiFlags,
  },
  positionals: { min: 1, max: 1 },
  examples: [
    { run: "mayfly env add API_KEY", does: "Asks for the value." },
    { run: "mayfly env add API_KEY --target production < key.txt", does: "From a file, for production only." },
    { run: "mayfly env add GREETING=hello --readable --target development", does: "What developers pull." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const word = invocation.positionals[0]!;
    const at = word.indexOf("=");
    const name = at === -1 ? word : word.slice(0, at);
    if (!/^[A-Za-z_]\w*$/.test(name)) {
      throw new MayflyError("invalid_env", `"${name}" cannot be a variable's name; names have letters, digits and underscores.`);
    }
    const given = invocation.values("target") as readonly EnvTarget[];
    const gitBranch = invocation.value("branch");
    const targets: readonly EnvTarget[] = given.length > 0 ? given : gitBranch === undefined ? ["production", "preview"] : ["preview"];
    if (gitBranch !== undefined && targets.join() !== "preview") throw usageError(envAdd, "--branch is for the target preview alone.");
    const sensitive = !invocation.has("readable") && !targets.includes("development");
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const value = at === -1 ? await readValue(invocation, name) : word.slice(at + 1);
    await addVariable(client, project.id, { name, value, targets, gitBranch, sensitive, force: invocation.has("force") });
    if (invocation.has("json")) terminal.json({ name, targets, sensitive });
    else terminal.note(`${name} is set for ${targets.join(" and ")} of ${project.name}. The next deployment sees it.`);
    return 0;
  },
};

async function readValue({ input, terminal }: Invocation, name: string): Promise<string> {
  if (!input.isTerminal || !terminal.isLive) return (await input.read()).replace(/\r?\n$/, "");
  const value = await input.ask(`Value of ${name} (not shown): `, { hidden: true });
  if (value === undefined) throw new MayflyError("canceled", "No value was given.");
  return value;
}

export const envRm: Command = {
  name: "env rm",
  summary: "Remove an environment variable.",
  usage: "env rm NAME [options]",
  description:
    'Removes the variable; deployments that there are keep it. Asks before it does, or takes --yes. With --json: {"removed":[…]}, ids.',
  flags: {
    ...targetFlag("Only that of this target.", false),
    ...branchFlag,
    yes: { type: "boolean", short: "y", doc: "Yes, remove it." },
    ...projectFlag,
    ...apiFlags,
  },
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly env rm API_KEY --yes", does: "From every target." }],

  async run(invocation) {
    const { terminal } = invocation;
    const wanted = invocation.positionals[0]!;
    const branch = invocation.value("branch");
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const found = (await listVariables(client, project.id, invocation.value("target"))).filter(
      ({ name, gitBranch }) => name === wanted && (branch === undefined || gitBranch === branch),
    );
    if (found.length === 0) throw new MayflyError("not_found", `${project.name} has no such variable "${wanted}".`);
    const where = found.map(({ targets }) => targets.join(", ")).join("; ");
    if (!(await confirm(invocation, `Remove ${wanted} (${where}) of ${project.name}?`))) {
      throw usageError(envRm, `This would remove ${wanted} (${where}) of ${project.name}; add --yes to do it.`);
    }
    for (const { id } of found) await removeVariable(client, project.id, id);
    if (invocation.has("json")) terminal.json({ removed: found.map(({ id }) => id) });
    else terminal.out(wanted);
    return 0;
  },
};

export const envPull: Command = {
  name: "env pull",
  summary: "Write a project's variables to a file.",
  usage: "env pull [FILE] [options]",
  description:
    'Writes the readable variables as NAME="value" lines to FILE (default: .env.local), readable by you alone. Sensitive ones stay on ' +
    "the server. A file that this command did not write is replaced after a question, or with --yes. With --json: the variables on stdout, no file.",
  flags: {
    ...targetFlag("production, preview or development (the default).", false),
    ...branchFlag,
    yes: { type: "boolean", short: "y", doc: "Yes, replace the file." },
    ...projectFlag,
    ...apiFlags,
  },
  positionals: { min: 0, max: 1 },
  examples: [
    { run: "mayfly env pull", does: "Development's variables to .env.local." },
    { run: "mayfly env pull .env.preview --target preview", does: "What previews see." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const target = (invocation.value("target") ?? "development") as EnvTarget;
    const variables = await pullVariables(client, project.id, target, invocation.value("branch"));
    if (invocation.has("json")) {
      terminal.json(variables);
      return 0;
    }
    const path = resolve(invocation.cwd, invocation.positionals[0] ?? ".env.local");
    const before = await readFile(path, "utf8").catch(() => undefined);
    if (before !== undefined && !before.startsWith(fileHead) && !(await confirm(invocation, `Replace ${path}?`))) {
      throw new MayflyError("conflict", `${path} was not written by this command; replace it with --yes.`);
    }
    const lines = Object.entries(variables).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
    try {
      await writeFile(`${path}.new`, [fileHead, ...lines, ""].join("\n"), { mode: 0o600 });
      await rename(`${path}.new`, path);
    } catch (error) {
      throw new MayflyError("config_invalid", `Cannot write ${path}: ${messageOf(error)}`, { cause: error });
    }
    terminal.note(`${lines.length} variables of ${project.name} (${target}):`);
    terminal.out(path);
    return 0;
  },
};

/** First line of a pulled file: what has it may be written over. */
const fileHead = "# Pulled by Mayfly: changes are lost at the next pull.";
