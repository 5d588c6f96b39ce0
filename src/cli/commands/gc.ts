/** `mayfly gc`: clears away what no deployment needs any more. */
import { collectGarbage } from "../../client/maintenance.ts";
import { apiFlags, type Command } from "../command.ts";
import { counted, formatBytes } from "../output.ts";
import { openSession } from "../session.ts";

export const gc: Command = {
  name: "gc",
  summary: "Clear away what nothing needs any more.",
  usage: "gc [--dry-run] [options]",
  description:
    "Removes deployments that are older than their project keeps them, and files that no deployment uses; never what a host leads to. A " +
    "server does this by itself from time to time; this does it now. With --json: deployments, kept, waiting, deleted, bytes.",
  flags: { "dry-run": { type: "boolean", doc: "Say what would go; nothing goes." }, ...apiFlags },
  positionals: { min: 0, max: 0 },
  examples: [{ run: "mayfly gc --dry-run", does: "How much could go?" }],

  async run(invocation) {
    const { terminal } = invocation;
    const dryRun = invocation.has("dry-run");
    using client = await openSession(invocation);
    const report = await collectGarbage(client, dryRun);
    if (invocation.has("json")) {
      terminal.json(report);
      return 0;
    }
    const { deployments, deleted, bytes, waiting, kept } = report;
    for (const id of deployments) terminal.out(id);
    const verb = dryRun ? "would go" : "have gone";
    terminal.note(`${counted(deployments.length, "deployment")} and ${counted(deleted, "file")} (${formatBytes(bytes)}) ${verb}.`);
    terminal.note(terminal.paintNote("dim", `${counted(kept, "file")} in use; ${counted(waiting, "file")} unused, but not for long.`));
    return 0;
  },
};
