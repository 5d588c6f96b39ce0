/** `mayfly backup` and `mayfly restore`: the whole of a server's data, written while it runs and put back where none runs. */
import { resolve } from "node:path";
import { makeBackup } from "../../client/maintenance.ts";
import { apiFlags, type Command } from "../command.ts";
import { counted, formatBytes } from "../output.ts";
import { openSession } from "../session.ts";

export const backup: Command = {
  name: "backup",
  summary: "Write a backup of the server.",
  usage: "backup [options]",
  description:
    "Writes a backup below the server's data directory while it runs, and prints its path on the server's machine. It holds everything, " +
    "the key of all secrets too: keep it where nobody else reads. With --json: directory, blobs, bytes.",
  flags: apiFlags,
  positionals: { min: 0, max: 0 },
  examples: [
    { run: "rsync -a $(mayfly backup) backups.example.com:mayfly/", does: "On the server's machine: back up, and keep it elsewhere." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const made = await makeBackup(client);
    if (invocation.has("json")) terminal.json(made);
    else {
      terminal.note(`${counted(made.blobs, "file")}, ${formatBytes(made.bytes)}. It holds the key of all secrets.`);
      terminal.out(made.directory);
    }
    return 0;
  },
};

export const restore: Command = {
  name: "restore",
  summary: "Make a data directory of a backup.",
  usage: "restore BACKUP DATA",
  description:
    "Checks a backup and makes the data directory DATA of it, which must be absent or empty. No server is needed; start one on it with " +
    '"mayfly start --data DATA". With --json: directory, blobs, bytes.',
  flags: {},
  positionals: { min: 2, max: 2 },
  examples: [{ run: "mayfly restore backups/2026-11-22T04-00-00-000Z .mayfly && mayfly start", does: "Put a server back." }],

  async run(invocation) {
    const { terminal, cwd, positionals } = invocation;
    const { restoreBackup } = await import("../../backup.ts");
    const data = resolve(cwd, positionals[1]!);
    const { blobs, bytes } = await restoreBackup(resolve(cwd, positionals[0]!), data);
    if (invocation.has("json")) terminal.json({ directory: data, blobs, bytes });
    else {
      terminal.note(`${counted(blobs, "file")}, ${formatBytes(bytes)}.`);
      terminal.out(data);
    }
    return 0;
  },
};
