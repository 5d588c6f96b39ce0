/** `mayfly settings`: how a project is built and served. */
import { changeSettings, getSettings, settingNames, switches, type Setting, type Settings } from "../../client/settings.ts";
import { apiFlags, type Command } from "../command.ts";
import { usageError } from "../flags.ts";
import { formatTable } from "../output.ts";
import { openProject, projectFlag } from "../project.ts";
import { openSession } from "../session.ts";

export const settings: Command = {
  name: "settings",
  summary: "Show or change a project's settings.",
  usage: "settings [NAME=VALUE…] [options]",
  description:
    "Without NAME=VALUE it shows how the project is built and served; with some it sets them, for deployments from now on. Nothing after the " +
    "= takes a setting back. vercel.json wins over settings of the same name.\n" +
    `Settings: ${settingNames.join(", ")}. nextFunctions is shared or separate; ${switches.join(", ")} is true or false.\n` +
    "With --json: an object of all settings.",
  flags: { ...projectFlag, ...apiFlags },
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  examples: [
    { run: "mayfly settings", does: "Show those of the project that this directory is linked to." },
    { run: "mayfly settings nextFunctions=separate -p shop", does: "Each page of a Next.js project becomes a Function of its own." },
    { run: "mayfly settings buildCommand= outputDirectory=dist", does: "Take one back and set another." },
  ],

  async run(invocation) {
    const { terminal, positionals } = invocation;
    const changes = parseChanges(positionals);
    using client = await openSession(invocation);
    const project = await openProject(invocation, client);
    const now = positionals.length === 0 ? await getSettings(client, project.id) : await changeSettings(client, project.id, changes);
    if (invocation.has("json")) {
      terminal.json(now);
      return 0;
    }
    const head = ["SETTING", "VALUE"].map((title) => terminal.paint("dim", title));
    const rows = Object.entries(now).map(([name, value]) => [name, value === null ? "-" : terminal.foreign(String(value))]);
    for (const line of formatTable([head, ...rows], { columns: terminal.columns })) terminal.out(line);
    return 0;
  },
};

/** @throws MayflyError usage */
function parseChanges(positionals: readonly string[]): Settings {
  const changes: Record<string, Setting> = {};
  for (const positional of positionals) {
    const mark = positional.indexOf("=");
    const name = mark === -1 ? positional : positional.slice(0, mark);
    if (mark === -1) throw usageError(settings, `"${name}" needs a value: ${name}=VALUE.`);
    if (!settingNames.includes(name)) throw usageError(settings, `There is no setting "${name}"; there are ${settingNames.join(", ")}.`);
    const value = positional.slice(mark + 1);
    if (!switches.includes(name)) changes[name] = value === "" ? null : value;
    else if (value === "true" || value === "false" || value === "") changes[name] = value === "true";
    else throw usageError(settings, `${name} is true or false, not "${value}".`);
  }
  return changes;
}
