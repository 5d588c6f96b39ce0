/** `mayfly completion`: a shell's completion script on stdout. */
import type { Command } from "../command.ts";
import { completionScript, shells } from "../completion.ts";
import { closestTo } from "../../suggestion.ts";
import { usageError } from "../flags.ts";

export const completion: Command = {
  name: "completion",
  summary: "Print a shell's completion script.",
  usage: "completion bash|zsh|fish",
  description:
    "Prints a script that teaches the shell commands, flags and their values. It is made from the same table as this help. With --json: shell, script.",
  flags: {},
  positionals: { min: 1, max: 1 },
  examples: [
    { run: "source <(mayfly completion bash)", does: "In ~/.bashrc." },
    { run: 'mayfly completion zsh > "${fpath[1]}/_mayfly"', does: "Once; zsh finds it." },
    { run: "mayfly completion fish > ~/.config/fish/completions/mayfly.fish", does: "Once; fish finds it." },
  ],

  async run(invocation) {
    const shell = shells.find((name) => name === invocation.positionals[0]);
    if (shell === undefined) {
      const meant = closestTo(invocation.positionals[0]!, shells);
      throw usageError(completion, `"${invocation.positionals[0]}" is none of ${shells.join(", ")}.`, meant);
    }
    const script = completionScript(shell, await invocation.allCommands());
    if (invocation.has("json")) invocation.terminal.json({ shell, script });
    else invocation.terminal.out(script.trimEnd());
    return 0;
  },
};
