/** What a command of the CLI is: its words, its flags, what it does. Help texts, parsing and suggestions come from this. */
import type { Terminal } from "./output.ts";

export interface FlagSpec {
  readonly type: "boolean" | "string";
  /** One letter. */
  readonly short?: string;
  /** May be given more than once. */
  readonly multiple?: boolean;
  /** What the value is called in the help: `NAME`. */
  readonly value?: string;
  /** The values it may have, for checks and completion. */
  readonly choices?: readonly string[];
  /** One sentence. */
  readonly doc: string;
}

export type Flags = Readonly<Record<string, FlagSpec>>;

/** Environment variables, handed in: nothing in the CLI but main.js sees the process. */
export type Env = Readonly<Record<string, string | undefined>>;

export interface Example {
  /** The command line. */
  readonly run: string;
  /** What it does. */
  readonly does: string;
}

/** One call of a command. */
export interface Invocation {
  readonly positionals: readonly string[];
  /** Whether a boolean flag was given. */
  has(flag: string): boolean;
  /** The last value of a string flag. */
  value(flag: string): string | undefined;
  /** All values of a flag that may be repeated. */
  values(flag: string): readonly string[];
  readonly terminal: Terminal;
  readonly env: Env;
  readonly cwd: string;
  /**
   * Aborted at the first Ctrl-C (or SIGTERM), the second ends the process. Until it is first asked for, those signals do
   * what they always do.
   */
  interruption(): AbortSignal;
  readonly input: Input;
  /** Every command there is, loaded, in the order of the help. */
  allCommands(): Promise<readonly Command[]>;
}

/** Standard input. */
export interface Input {
  /** A person sits there, not a pipe. */
  readonly isTerminal: boolean;
  /** The line that a person types; hidden: it is not shown. undefined: the input has ended. Only on a terminal. */
  ask(question: string, options?: { readonly hidden?: boolean }): Promise<string | undefined>;
  /** All of a pipe. @throws MayflyError payload_too_large */
  read(): Promise<string>;
}

export interface Command {
  /** One word, or two: `env add`. */
  readonly name: string;
  /** For the list of commands. */
  readonly summary: string;
  /** After `mayfly `: `deploy [DIR] [options]`. */
  readonly usage: string;
  /** What a person should know beyond the flags. */
  readonly description: string;
  readonly flags: Flags;
  /** How many positional arguments it takes. */
  readonly positionals: { readonly min: number; readonly max: number };
  readonly examples: readonly Example[];
  /** @returns the exit code @throws MayflyError, which is printed and makes 1 (2 for `usage`) */
  run(invocation: Invocation): Promise<number>;
}

/** Flags of every command. */
export const commonFlags = {
  json: { type: "boolean", doc: 'Print JSON on stdout, errors as {"error":{"code","message"}} too.' },
  help: { type: "boolean", short: "h", doc: "Show this help." },
} as const satisfies Flags;

/** Whether a person agrees; `--yes` does so beforehand, and where nobody can be asked the answer is no. */
export async function confirm(invocation: Invocation, question: string): Promise<boolean> {
  if (invocation.has("yes")) return true;
  if (!invocation.input.isTerminal || !invocation.terminal.isLive || invocation.has("json")) return false;
  return /^y(es)?$/i.test((await invocation.input.ask(`${question} [y/N] `))?.trim() ?? "");
}

/** Flags of every command that talks to the API. */
export const apiFlags = {
  api: { type: "string", value: "URL", doc: "The server's API (else MAYFLY_API, else http://127.0.0.1:3000)." },
  token: { type: "string", value: "TOKEN", doc: "Token for it (else MAYFLY_TOKEN, else the one stored for this server)." },
} as const satisfies Flags;
