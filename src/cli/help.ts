/** Help texts, from the commands' own words and flags. */
import type { Command, Flags } from "./command.ts";

/** Widest line. */
const columns = 100;

/** The list of commands. */
export function helpOfAll(commands: readonly { readonly name: string; readonly summary: string }[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return [
    "Mayfly: a self-hosted platform for serverless deployments.",
    "",
    "Usage: mayfly COMMAND [options]",
    "",
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    'More: "mayfly COMMAND --help". Version: "mayfly --version".',
  ].join("\n");
}

/** One command's help: usage, what it does, flags, examples. */
export function helpOf(command: Command, flags: Flags): string {
  const heads = Object.entries(flags).map(([name, { short, type, value, multiple }]) => {
    const dashed = `${short === undefined ? "    " : `-${short}, `}--${name}`;
    return `${dashed}${type === "string" ? ` ${value ?? "VALUE"}` : ""}${multiple === true ? " …" : ""}`;
  });
  const width = Math.max(...heads.map((head) => head.length));
  return [
    `Usage: mayfly ${command.usage}`,
    "",
    ...wrap(command.description, columns),
    "",
    "Options:",
    ...Object.values(flags).flatMap(({ doc }, index) =>
      wrap(doc, columns - width - 4).map((line, n) => `  ${(n === 0 ? (heads[index] ?? "") : "").padEnd(width)}  ${line}`),
    ),
    "",
    "Examples:",
    ...command.examples.flatMap(({ run, does }) => [`  ${run}`, `      ${does}`]),
  ].join("\n");
}

function wrap(text: string, width: number): string[] {
  return text.split("\n").flatMap((paragraph) => {
    const lines = [""];
    for (const word of paragraph.split(" ")) {
      const line = lines.at(-1)!;
      if (line !== "" && line.length + 1 + word.length > width) lines.push(word);
      else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
    }
    return lines;
  });
}
