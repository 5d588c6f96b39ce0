/** `mayfly whoami`: the user whom the token stands for. */
import { getUser } from "../../client/deployments.ts";
import { apiFlags, type Command } from "../command.ts";
import { openSession } from "../session.ts";

export const whoami: Command = {
  name: "whoami",
  summary: "Show whom the token stands for.",
  usage: "whoami [options]",
  description: "Asks the server whom the token stands for: a quick test of address and token. With --json: id, username, email, api.",
  flags: apiFlags,
  positionals: { min: 0, max: 0 },
  examples: [
    { run: "mayfly whoami", does: "Print the user's name." },
    { run: "mayfly whoami --api https://mayfly.example.com --token mayfly_…", does: "Try a token." },
  ],

  async run(invocation) {
    using client = await openSession(invocation);
    const user = await getUser(client);
    if (invocation.has("json")) invocation.terminal.json({ ...user, api: client.api });
    else invocation.terminal.out(user.username);
    return 0;
  },
};
