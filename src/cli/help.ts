/** Help texts, from the commands' own words and flags. Fits the terminal; in a pipe a line has 100 characters. */
import type { Command, Flags } from "./command.ts";
import type { Listed } from "./commands.ts";
import type { Terminal } from "./output.ts";

/** Widest line. */
const columnsMax = 100;

/** How a text is shown: plain and as wide as it may be unless a terminal is given. */
type Looks = Pick<Terminal, "paint" | "columns"> | undefined;

const paint = (looks: Looks, style: "bold" | "dim" | "cyan", text: string): string => looks?.paint(style, text) ?? text;
const widthOf = (looks: Looks): number => Math.max(40, Math.min(columnsMax, looks?.columns ?? columnsMax));

/** All commands under their headings. */
export function helpOfAll(commands: Readonly<Record<string, Listed>>, looks?: Looks): string {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const sections = Map.groupBy(Object.entries(commands), ([, { section }]) => section);
  return [
    "Mayfly: a self-hosted platform for serverless deployments.",
    "",
    `${paint(looks, "bold", "Usage:")} mayfly COMMAND [options]`,
    ...[...sections].flatMap(([section, entries]) => [
      "",
      paint(looks, "bold", `${section}:`),
      ...entries.map(([name, { summary }]) => `  ${paint(looks, "cyan", name.padEnd(width))}  ${summary}`),
    ]),
    "",
    paint(looks, "bold", "Begin:"),
    "  mayfly start                    in one terminal",
    "  mayfly deploy examples/hello    in another",
    "",
    'More: "mayfly COMMAND --help". Version: "mayfly --version".',
  ].join("\n");
}

/** The commands of one first word. */
export function helpOfGroup(group: string, commands: Readonly<Record<string, Listed>>, looks?: Looks): string {
  const members = Object.entries(commands).filter(([name]) => name.startsWith(`${group} `));
  const width = Math.max(...members.map(([name]) => name.length));
  return [
    `${paint(looks, "bold", "Usage:")} mayfly ${group} COMMAND [options]`,
    "",
    ...members.map(([name, { summary }]) => `  ${paint(looks, "cyan", name.padEnd(width))}  ${summary}`),
    "",
    `More, with examples: "mayfly ${members[0]![0]} --help".`,
  ].join("\n");
}

/** One command's help: usage, what it does, flags, examples. */
export function helpOf(command: Command, flags: Flags, looks?: Looks): string {
  const heads = Object.entries(flags).map(([name, { short, type, value, multiple }]) => {
    const dashed = `${short === undefined ? "    " : `-${short}, `}--${name}`;
    return `${dashed}${type === "string" ? ` ${value ?? "VALUE"}` : ""}${multiple === true ? " …" : ""}`;
  });
  const width = Math.max(...heads.map((head) => head.length));
  const columns = widthOf(looks);
  return [
    `${paint(looks, "bold", "Usage:")} mayfly ${command.usage}`,
    "",
    ...wrap(command.description, columns),
    "",
    paint(looks, "bold", "Options:"),
    ...Object.values(flags).flatMap(({ doc }, index) =>
      wrap(doc, columns - width - 4).map(
        (line, n) => `  ${paint(looks, "cyan", (n === 0 ? (heads[index] ?? "") : "").padEnd(width))}  ${line}`,
      ),
    ),
    "",
    paint(looks, "bold", "Examples:"),
    ...command.examples.flatMap(({ run, does }) => [`  ${paint(looks, "cyan", run)}`, `      ${does}`]),
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
