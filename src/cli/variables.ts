/** Environment variables as people give them to a command: `NAME=value`, or `NAME` for the shell's own value. */
import { MayflyError } from "../errors.ts";
import type { Env } from "./command.ts";

/** @throws MayflyError invalid_env */
export function parseVariables(flag: string, pairs: readonly string[], env: Env): Readonly<Record<string, string>> {
  const variables = new Map<string, string>();
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    const name = at === -1 ? pair : pair.slice(0, at);
    if (!/^[A-Za-z_]\w*$/.test(name)) {
      throw new MayflyError(
        "invalid_env",
        `${flag} has the name "${name}"; names have letters, digits and underscores: ${flag} NAME=value.`,
      );
    }
    const value = at === -1 ? env[name] : pair.slice(at + 1);
    if (value === undefined) {
      throw new MayflyError("invalid_env", `${flag} ${name} has no value and this shell has none for it: ${flag} ${name}=value.`);
    }
    variables.set(name, value);
  }
  return Object.fromEntries(variables);
}
