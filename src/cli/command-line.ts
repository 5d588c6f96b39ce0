/**
 * One run of the CLI: finds the command, parses, runs it, says what went wrong. Exit codes: 0 done, 1 failed, 2 flags or settings not
 * understood, 130 or 143 interrupted. Only the command that runs is loaded, so that the CLI starts fast.
 */
import { readFile } from "node:fs/promises";
import { MayflyError, messageOf } from "../errors.ts";
import { commonFlags, type Command, type Env, type Input, type Invocation } from "./command.ts";
import { commands, findCommand } from "./commands.ts";
import { closestTo } from "../suggestion.ts";
import { parseFlags } from "./flags.ts";
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
  readonly input: Input;
}

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
      terminal.out(helpOfAll(commands, terminal));
      return 0;
    }
    if (word === "--version" || word === "-v" || word === "version") {
      const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
      if (json) terminal.json({ version });
      else terminal.out(version);
      return 0;
    }
    // "mayfly help deploy" is "mayfly deploy --help".
    const found = await chosen(word === "help" ? [...rest, "--help"] : world.args, terminal);
    if (found === undefined) return 0;
    const { command } = found;
    const flags = { ...command.flags, ...commonFlags };
    const { positionals, given } = parseFlags(command, flags, found.rest);
    json = given.has("json");
    if (given.has("help")) {
      const { helpOf } = await import("./help.ts");
      terminal.out(helpOf(command, flags, terminal));
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
      get input() {
        return world.input;
      },
      allCommands: () => Promise.all(Object.values(commands).map((listed) => listed.load())),
    };
    return await command.run(invocation);
  } catch (error) {
    return await report(terminal, error, json, invocation);
  }
}

/** The command that the words name, loaded; a group's name alone lists, or shows the group's help (undefined). */
async function chosen(
  words: readonly string[],
  terminal: Terminal,
): Promise<{ readonly command: Command; readonly rest: readonly string[] } | undefined> {
  const found = findCommand(words);
  if (found.kind === "command") return { command: await found.listed.load(), rest: found.rest };
  if (found.kind === "group") {
    const list = commands[`${found.name} ls`];
    if (list !== undefined && !found.rest.includes("--help") && !found.rest.includes("-h")) {
      return { command: await list.load(), rest: found.rest };
    }
    const { helpOfGroup } = await import("./help.ts");
    terminal.out(helpOfGroup(found.name, commands, terminal));
    return undefined;
  }
  const closest = closestTo(found.words, found.known);
  const meant = closest === undefined ? "" : ` Did you mean "mayfly ${closest}"?`;
  const what = found.words.startsWith("-") ? "flag" : "command";
  const where = found.words.includes(" ") ? `mayfly ${found.words.split(" ", 1)[0]} --help` : "mayfly --help";
  throw new MayflyError("usage", `"${found.words}" is not a ${what}.${meant} See "${where}".`);
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
