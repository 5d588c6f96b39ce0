/** `mayfly use-vercel-cli`: the unmodified `vercel` client talks to this server from now on, or from a directory of its own. */
import { resolve } from "node:path";
import { getUser } from "../../client/deployments.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command } from "../command.ts";
import { resolveApi, resolveToken } from "../credentials.ts";
import { usageError } from "../flags.ts";
import { openSession } from "../session.ts";
import { pointVercelAt, putVercelBack, vercelDirectory } from "../vercel-config.ts";

export const useVercelCli: Command = {
  name: "use-vercel-cli",
  summary: "Point the vercel client at this server.",
  usage: "use-vercel-cli [--dir DIR] [--undo] [options]",
  description:
    "Writes the two files from which the vercel client of npm takes its server and token; then `vercel deploy`, `vercel logs`, " +
    "`vercel env` and so on work against this server, unmodified. What the files had before is kept beside them, and --undo puts it back. " +
    "With --dir nothing of yours is touched: the files are written there, and `vercel -Q DIR …` uses them.\n" +
    "With --json: directory, api.",
  flags: {
    dir: { type: "string", value: "DIR", doc: "Write the files to this directory, not to the client's own." },
    undo: { type: "boolean", doc: "Put back what was there before." },
    ...apiFlags,
  },
  positionals: { min: 0, max: 0 },
  examples: [
    { run: "mayfly use-vercel-cli && npx vercel deploy", does: "From now on vercel means this server." },
    { run: "mayfly use-vercel-cli --dir ~/.mayfly-vercel && npx vercel -Q ~/.mayfly-vercel deploy", does: "Only where -Q says so." },
    { run: "mayfly use-vercel-cli --undo", does: "vercel means vercel.com again." },
  ],

  async run(invocation) {
    const { terminal, env } = invocation;
    const given = invocation.value("dir");
    const directory = given === undefined ? vercelDirectory(env, process.platform) : resolve(invocation.cwd, given);
    if (invocation.has("undo")) {
      if (!(await putVercelBack(directory))) throw new MayflyError("not_found", `${directory} has nothing to put back.`);
      if (invocation.has("json")) terminal.json({ directory });
      else terminal.note(`The vercel client's files in ${directory} are what they were before.`);
      return 0;
    }
    const api = resolveApi(invocation.value("api"), env);
    const token = await resolveToken(api, invocation.value("token"), env);
    // Before anything is changed: does this token work there?
    using client = await openSession(invocation);
    const { username, teamId } = await getUser(client);
    if (token === undefined) throw new MayflyError("unauthorized");
    if (!/^\w+$/.test(token.value))
      throw usageError(useVercelCli, "The vercel client takes tokens of letters, digits and underscores only.");
    const kept = await pointVercelAt(directory, api, token.value, teamId);
    if (invocation.has("json")) {
      terminal.json({ directory, api });
      return 0;
    }
    terminal.note(`vercel is ${username} at ${api} now. Its files: ${directory}`);
    if (kept)
      terminal.note(
        `What was there before is kept; "mayfly use-vercel-cli${given === undefined ? "" : ` --dir ${given}`} --undo" puts it back.`,
      );
    terminal.out(given === undefined ? "npx vercel deploy" : `npx vercel -Q ${directory} deploy`);
    return 0;
  },
};
