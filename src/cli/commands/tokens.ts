/** `mayfly tokens`: what other machines and people are let in with. */
import { addToken, listTokens, removeToken } from "../../client/tokens.ts";
import { MayflyError } from "../../errors.ts";
import { apiFlags, type Command } from "../command.ts";
import { parseSpan } from "../flags.ts";
import { formatDuration, formatTable } from "../output.ts";
import { openSession } from "../session.ts";

export const tokensLs: Command = {
  name: "tokens ls",
  summary: "List tokens.",
  usage: "tokens ls [options]",
  description: "Lists tokens without their text: an owner sees those of the team. With --json: an array of objects.",
  flags: apiFlags,
  positionals: { min: 0, max: 0 },
  examples: [{ run: "mayfly tokens ls", does: "Which there are, and when each was used last." }],

  async run(invocation) {
    const { terminal } = invocation;
    using client = await openSession(invocation);
    const tokens = await listTokens(client);
    if (invocation.has("json")) {
      terminal.json(tokens);
      return 0;
    }
    const nowMs = Date.now();
    const ago = (timeMs: number | null): string => (timeMs === null ? "never" : `${formatDuration(nowMs - timeMs)} ago`);
    const head = ["NAME", "SCOPE", "PROJECT", "USED", "EXPIRES", "ID"].map((title) => terminal.paint("dim", title));
    const rows = tokens.map(({ id, name, scope, projectId, usedAtMs, expiresAtMs }) => [
      terminal.foreign(name),
      scope,
      projectId ?? "all",
      ago(usedAtMs),
      expiresAtMs === null ? "never" : expiresAtMs <= nowMs ? terminal.paint("red", "has") : `in ${formatDuration(expiresAtMs - nowMs)}`,
      id,
    ]);
    for (const line of formatTable([head, ...rows], { columns: terminal.columns, optional: [2, 3] })) terminal.out(line);
    return 0;
  },
};

export const tokensAdd: Command = {
  name: "tokens add",
  summary: "Make a token.",
  usage: "tokens add NAME [options]",
  description:
    "Makes a token and prints it, this once. Use it elsewhere with --token or MAYFLY_TOKEN, or in the vercel client. " +
    "With --json: token, value.",
  flags: {
    "read-only": { type: "boolean", doc: "It can look, and change nothing." },
    project: { type: "string", short: "p", value: "NAME", doc: "It reaches this project alone." },
    expires: { type: "string", value: "SPAN", doc: "It ends after so long: 12h, 30d (default: never)." },
    ...apiFlags,
  },
  positionals: { min: 1, max: 1 },
  examples: [
    { run: "mayfly tokens add laptop", does: "For another machine of yours." },
    { run: "mayfly tokens add ci --project shop --expires 90d", does: "For a pipeline that deploys one project." },
  ],

  async run(invocation) {
    const { terminal } = invocation;
    const spanMs = parseSpan(tokensAdd, "--expires", invocation.value("expires"));
    using client = await openSession(invocation);
    const made = await addToken(client, {
      name: invocation.positionals[0]!,
      readOnly: invocation.has("read-only"),
      project: invocation.value("project"),
      expiresAtMs: spanMs === undefined ? undefined : Date.now() + spanMs,
    });
    if (invocation.has("json")) terminal.json(made);
    else {
      terminal.note("Keep it now: it is not shown again.");
      terminal.out(made.value);
    }
    return 0;
  },
};

export const tokensRm: Command = {
  name: "tokens rm",
  summary: "Revoke a token.",
  usage: "tokens rm ID|NAME [options]",
  description: 'The token is refused from now on. A name must be that of one token only. With --json: {"removed":[…]}, ids.',
  flags: apiFlags,
  positionals: { min: 1, max: 1 },
  examples: [{ run: "mayfly tokens rm laptop", does: "That machine can no longer deploy." }],

  async run(invocation) {
    const { terminal } = invocation;
    const wanted = invocation.positionals[0]!;
    using client = await openSession(invocation);
    const found = (await listTokens(client)).filter(({ id, name }) => id === wanted || name === wanted);
    if (found.length > 1) throw new MayflyError("conflict", `${found.length} tokens have the name "${wanted}"; name one by its id.`);
    if (found.length === 0) throw new MayflyError("not_found", `There is no token "${wanted}".`);
    await removeToken(client, found[0]!.id);
    if (invocation.has("json")) terminal.json({ removed: [found[0]!.id] });
    else terminal.out(found[0]!.id);
    return 0;
  },
};
