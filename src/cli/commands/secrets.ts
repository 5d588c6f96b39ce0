/** `mayfly secrets`: the key that every secret on the server is sealed with. */
import { rotateSecrets } from "../../client/maintenance.ts";
import { apiFlags, type Command } from "../command.ts";
import { counted } from "../output.ts";
import { openSession } from "../session.ts";

export const secretsRotate: Command = {
  name: "secrets rotate",
  summary: "Seal every secret with a new key.",
  usage: "secrets rotate [options]",
  description:
    "Makes a new key and seals every variable and token on the server with it. The old key is dropped by maintenance, when no build that " +
    "began under it can be left. Sites serve on meanwhile; should it be cut off, the next start goes on with it. A backup made before " +
    "keeps the old key. With --json: keyId, resealed.",
  flags: apiFlags,
  positionals: { min: 0, max: 0 },
  examples: [{ run: "mayfly secrets rotate", does: "After somebody who could read the key has left." }],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const facts = await rotateSecrets(client);
    if (invocation.has("json")) terminal.json(facts);
    else terminal.out(`${counted(facts.resealed, "record")} sealed with key ${facts.keyId}`);
    return 0;
  },
};
