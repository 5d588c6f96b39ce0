/** Completion scripts for bash, zsh and fish, made from the table of commands. Each is complete in itself: no call back. */
import { commonFlags, type Command, type FlagSpec } from "./command.ts";

export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

export function completionScript(shell: Shell, commands: readonly Command[]): string {
  return { bash, zsh, fish }[shell](commands);
}

interface Word {
  readonly name: string;
  readonly summary: string;
  /** Second words of a group. */
  readonly members: readonly Command[];
}

/** First words, each once, with what may follow. */
function wordsOf(commands: readonly Command[]): readonly Word[] {
  const groups = Map.groupBy(commands, ({ name }) => name.split(" ", 1)[0]!);
  return [...groups].map(([name, members]) => {
    const [only] = members;
    const single = members.length === 1 && only!.name === name;
    return {
      name,
      summary: single ? only!.summary : `${members.map((member) => secondWord(member)).join(", ")}`,
      members: single ? [] : members,
    };
  });
}

const secondWord = ({ name }: Command): string => name.slice(name.indexOf(" ") + 1);
const flagsOf = (command: Command): [string, FlagSpec][] => Object.entries({ ...command.flags, ...commonFlags });
/** For a string between single quotes of bash and zsh. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const takesDirectory = (command: Command): boolean => command.usage.includes("[DIR]");

function bash(commands: readonly Command[]): string {
  const words = wordsOf(commands);
  const cases = commands.flatMap((command) => {
    const flags = flagsOf(command)
      .map(([name]) => `--${name}`)
      .join(" ");
    const choices = flagsOf(command).filter(([, { choices: values }]) => values !== undefined);
    return [
      `    ${quoted(command.name)})`,
      `      words=${quoted(flags)}${takesDirectory(command) ? " directories=1" : ""}`,
      ...(choices.length === 0
        ? []
        : [
            '      case "$before" in',
            ...choices.map(([name, flag]) => `        --${name}) words=${quoted(flag.choices!.join(" "))} ;;`),
            "      esac",
          ]),
      "      ;;",
    ];
  });
  return `# bash completion of mayfly: source this file, or put it into /etc/bash_completion.d/
_mayfly() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" first="\${COMP_WORDS[1]-}" second="\${COMP_WORDS[2]-}"
  local name="$first" words= directories=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W ${quoted([...words.map(({ name }) => name), "help", "--help", "--version"].join(" "))} -- "$current"))
    return
  fi
  case "$first" in
${words
  .filter(({ members }) => members.length > 0)
  .map(
    ({ name, members }) =>
      `    ${name})\n      if [ "$COMP_CWORD" -eq 2 ]; then COMPREPLY=($(compgen -W ${quoted(members.map(secondWord).join(" "))} -- "$current")); return; fi\n      name="$first $second" ;;`,
  )
  .join("\n")}
  esac
  case "$name" in
${cases.join("\n")}
  esac
  if [ -n "$directories" ] && [ "\${current#-}" = "$current" ]; then COMPREPLY=($(compgen -d -- "$current"))
  else COMPREPLY=($(compgen -W "$words" -- "$current")); fi
}
complete -F _mayfly mayfly
`;
}

function zsh(commands: readonly Command[]): string {
  const words = wordsOf(commands);
  const described = (entries: readonly (readonly [string, string])[]): string =>
    entries.map(([name, summary]) => quoted(`${name.replaceAll(":", "\\:")}:${summary}`)).join(" ");
  const argumentsOf = (command: Command): string =>
    [
      ...flagsOf(command).map(([name, { type, short, value, choices, doc, multiple }]) => {
        const text = doc.replaceAll(/[[\]\\:]/g, "\\$&");
        const action = type === "string" ? `:${value ?? "VALUE"}:${choices === undefined ? "" : `(${choices.join(" ")})`}` : "";
        const again = multiple === true ? "*" : "";
        const long = quoted(`${again}--${name}${type === "string" ? "=" : ""}[${text}]${action}`);
        return short === undefined ? long : `${long} ${quoted(`${again}-${short}[${text}]${action}`)}`;
      }),
      takesDirectory(command) ? quoted("*:directory:_files -/") : quoted("*: :"),
    ].join(" ");
  return `#compdef mayfly
# zsh completion of mayfly: put it as _mayfly into a directory of $fpath
_mayfly() {
  local name="\${words[2]-}"
  if (( CURRENT == 2 )); then
    local -a entries=(${described(words.map(({ name, summary }) => [name, summary]))})
    _describe command entries
    return
  fi
  case "$name" in
${words
  .filter(({ members }) => members.length > 0)
  .map(
    ({ name, members }) => `    ${name})
      if (( CURRENT == 3 )); then
        local -a entries=(${described(members.map((member) => [secondWord(member), member.summary]))})
        _describe command entries
        return
      fi
      name="$name \${words[3]}"; shift words; (( CURRENT-- )) ;;`,
  )
  .join("\n")}
  esac
  shift words; (( CURRENT-- ))
  case "$name" in
${commands.map((command) => `    ${quoted(command.name)}) _arguments -S ${argumentsOf(command)} ;;`).join("\n")}
  esac
}
if [ "\${funcstack[1]}" = "_mayfly" ]; then _mayfly "$@"; else compdef _mayfly mayfly; fi
`;
}

function fish(commands: readonly Command[]): string {
  const words = wordsOf(commands);
  const text = (value: string): string => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const condition = (command: Command): string => {
    const [first, second] = command.name.split(" ");
    return text(`__fish_seen_subcommand_from ${first}${second === undefined ? "" : `; and __fish_seen_subcommand_from ${second}`}`);
  };
  const lines = [
    "# fish completion of mayfly: put it into ~/.config/fish/completions/mayfly.fish",
    "complete -c mayfly -f",
    ...words.map(({ name, summary }) => `complete -c mayfly -n __fish_use_subcommand -a ${name} -d ${text(summary)}`),
  ];
  for (const { name, members } of words) {
    const others = members.map(secondWord).join(" ");
    for (const member of members) {
      lines.push(
        `complete -c mayfly -n ${text(`__fish_seen_subcommand_from ${name}; and not __fish_seen_subcommand_from ${others}`)} -a ${secondWord(member)} -d ${text(member.summary)}`,
      );
    }
  }
  for (const command of commands) {
    for (const [name, { type, short, choices, doc }] of flagsOf(command)) {
      const parts = [`complete -c mayfly -n ${condition(command)} -l ${name}`];
      if (short !== undefined) parts.push(`-s ${short}`);
      if (type === "string") parts.push(choices === undefined ? "-r" : `-x -a ${text(choices.join(" "))}`);
      lines.push(`${parts.join(" ")} -d ${text(doc)}`);
    }
    if (takesDirectory(command)) lines.push(`complete -c mayfly -n ${condition(command)} -a '(__fish_complete_directories)'`);
  }
  return `${lines.join("\n")}\n`;
}
