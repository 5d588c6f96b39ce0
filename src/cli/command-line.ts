/**
 * One run of the CLI: finds the command, parses, runs it, says what went wrong. Exit codes: 0 done, 1 failed, 2 flags or settings not
 * understood, 130 or 143 interrupted. Only the command that runs is loaded, so that the CLI starts fast.
 */
import { readFile } from "node:fs/promises";
import { MayflyError, messageOf } from "../errors.ts";
import { commonFlags, type Command, type Env, type Invocation } from "./command.ts";
import { closestTo, parseFlags } from "./flags.ts";
import { Terminal, type TextStream } from "./output.ts";

/** The world around a run. */
export interface World {
  /** Words after the program's name. */
  readonly args: readonly string[];
  readonly env: Env;
  readonly cwd: string;
  readonly stdout: TextStream;
  readonly stderr: TextStream;
  /** See {@link Invocation.interruption}. */
  interruption(): AbortSignal;
}

interface Listed {
  readonly summary: string;
  load(): Promise<Command>;
}

/** The commands in the order of the help. */
export const commands: Readonly<Record<string, Listed>> = {
  start: { summary: "Start the platform.", load: async () => (await import("./commands/start.ts")).start },
  deploy: { summary: "Deploy a directory and print its URL.", load: async () => (await import("./commands/deploy.ts")).deploy },
  ls: { summary: "List deployments.", load: async () => (await import("./commands/ls.ts")).ls },
  inspect: { summary: "Show a deployment and its outputs.", load: async () => (await import("./commands/inspect.ts")).inspect },
  logs: { summary: "Show what Functions and builds have logged.", load: async () => (await import("./commands/logs.ts")).logs },
  usage: { summary: "Show what Functions have used.", load: async () => (await import("./commands/usage.ts")).usage },
  rm: { summary: "Remove deployments or a project.", load: async () => (await import("./commands/rm.ts")).rm },
  whoami: { summary: "Show whom the token stands for.", load: async () => (await import("./commands/whoami.ts")).whoami },
};
const synonyms: Readonly<Record<string, string>> = { list: "ls", remove: "rm", log: "logs" };

/** @returns the exit code; errors are printed, none is thrown */
export async function runCommandLine(world: World): Promise<number> {
  const terminal = new Terminal(world);
  const [word, ...rest] = world.args;
  // Until the flags are parsed, this is how a machine's wish is known.
  let json = world.args.includes("--json");
  let invocation: Invocation | undefined;
  try {
    if (word === undefined || word === "--help" || word === "-h" || (word === "help" && rest[0] === undefined)) {
      const { helpOfAll } = await import("./help.ts");
      terminal.out(helpOfAll(Object.entries(commands).map(([name, { summary }]) => ({ name, summary }))));
      return 0;
    }
    if (word === "--version" || word === "-v") {
      const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
      terminal.out(version);
      return 0;
    }
    const command = await findCommand(word === "help" ? rest[0]! : word);
    const flags = { ...command.flags, ...commonFlags };
    const { positionals, given } = parseFlags(command, flags, word === "help" ? ["--help"] : rest);
    json = given.has("json");
    if (given.has("help")) {
      const { helpOf } = await import("./help.ts");
      terminal.out(helpOf(command, flags));
      return 0;
    }
    invocation = {
      positionals,
      has: (flag) => given.has(flag),
      value: (flag) => given.get(flag)?.at(-1),
      values: (flag) => given.get(flag) ?? [],
      terminal,
      env: world.env,
      cwd: world.cwd,
      interruption: world.interruption,
    };
    return await command.run(invocation);
  } catch (error) {
    return await report(terminal, error, json, invocation);
  }
}

async function findCommand(word: string): Promise<Command> {
  const name = synonyms[word] ?? word;
  const listed = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (listed !== undefined) return listed.load();
  const closest = closestTo(word, [...Object.keys(commands), ...Object.keys(synonyms)]);
  const meant = closest === undefined ? "" : ` Did you mean "mayfly ${closest}"?`;
  const what = word.startsWith("-") ? "flag" : "command";
  throw new MayflyError("usage", `"${word}" is not a ${what}.${meant} See "mayfly --help".`);
}

/** Prints an error and says what the exit code is. */
async function report(terminal: Terminal, error: unknown, json: boolean, invocation: Invocation | undefined): Promise<number> {
  terminal.settle();
  const known = error instanceof MayflyError;
  const code = known ? error.code : "internal_error";
  const message = messageOf(error);
  const head = terminal.paintNote("red", "Error:");
  terminal.note(`${head} ${terminal.foreignNote(message)} ${terminal.paintNote("dim", `(${code})`)}`);
  let advice: string | undefined;
  if (known && invocation !== undefined) {
    const { adviceFor } = await import("./session.ts");
    advice = await adviceFor(error, invocation);
    if (advice !== undefined) terminal.note(advice);
  }
  // A bug is reported with its place; what others did wrong is not.
  if (!known && error instanceof Error && error.stack !== undefined) terminal.note(terminal.paintNote("dim", error.stack));
  if (json) terminal.json({ error: { code, message, ...(advice && { advice }), ...(known && detailsOf(error)) } });
  return code === "usage" || code === "config_invalid" ? 2 : 1;
}

/** An error's further fields, without those that would hide its code and message. */
function detailsOf(error: MayflyError): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(error.details).filter(([name]) => name !== "code" && name !== "message"));
}
