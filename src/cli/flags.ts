/** From words to a command's flags and arguments. Hides node's parser; what is wrong becomes a usage error that helps. */
import { parseArgs } from "node:util";
import { MayflyError } from "../errors.ts";
import { closestTo } from "../suggestion.ts";
import type { Command, Flags } from "./command.ts";

export interface ParsedFlags {
  readonly positionals: readonly string[];
  readonly given: ReadonlyMap<string, readonly string[]>;
}

/** @throws MayflyError usage: unknown flag (with the closest known one), a missing or superfluous value or argument */
export function parseFlags(command: Pick<Command, "name" | "positionals" | "usage">, flags: Flags, args: readonly string[]): ParsedFlags {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { type, short, multiple }]) => [
      name,
      { type, ...(short && { short }), ...(multiple && { multiple }) },
    ]),
  );
  // Not strict, because node's own messages know nothing of suggestions; the tokens are checked here instead.
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const positionals: string[] = [];
  const given = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) {
      const closest = closestTo(name, Object.keys(flags));
      throw usageError(command, `"${rawName}" is not a flag of "mayfly ${command.name}".`, closest && `--${closest}`);
    }
    if (flag.type === "boolean" && value !== undefined) throw usageError(command, `${rawName} takes no value.`);
    if (flag.type === "string" && (value === undefined || (inlineValue !== true && value.startsWith("-") && value !== "-"))) {
      throw usageError(command, `${rawName} needs a value: ${rawName} ${flag.value ?? "VALUE"} (or ${rawName}=VALUE).`);
    }
    if (flag.choices !== undefined && !flag.choices.includes(value ?? "")) {
      const closest = closestTo(value ?? "", flag.choices);
      throw usageError(command, `${rawName} is "${value}"; it may be ${flag.choices.join(", ")}.`, closest);
    }
    given.set(name, [...(given.get(name) ?? []), value ?? ""]);
  }
  if (!given.has("help")) checkCount(command, positionals);
  return { positionals, given };
}

/** A usage error that ends with where to read more. */
export function usageError(command: Pick<Command, "name">, message: string, suggestion?: string): MayflyError {
  const meant = suggestion === undefined ? "" : ` Did you mean ${suggestion}?`;
  return new MayflyError("usage", `${message}${meant} See "mayfly ${command.name} --help".`);
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A span of time like `30d` in milliseconds. @throws MayflyError usage */
export function parseSpan(command: Pick<Command, "name">, label: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, count, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? [];
  if (count === undefined) throw usageError(command, `${label} is "${text}"; it looks like 30s, 10m, 12h or 30d.`);
  return Number(count) * unitsMs[unit!]!;
}

/** The value of `--since` in milliseconds since 1970. @throws MayflyError usage */
export function parseSince(command: Pick<Command, "name">, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (count !== undefined) return Date.now() - Number(count) * unitsMs[unit!]!;
  const timestampMs = /^\d{12,}$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(timestampMs)) {
    throw usageError(command, `--since is "${text}"; it may be 30s, 10m, 2h, 1d or a date like 2026-11-22T04:00.`);
  }
  return timestampMs;
}

function checkCount(command: Pick<Command, "name" | "positionals" | "usage">, positionals: readonly string[]): void {
  const { min, max } = command.positionals;
  if (positionals.length < min) throw usageError(command, `Something is missing; usage: mayfly ${command.usage}.`);
  const extra = positionals[max];
  if (extra !== undefined) throw usageError(command, `"${extra}" is one argument too many; usage: mayfly ${command.usage}.`);
}
