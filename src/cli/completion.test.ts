/** The scripts are run by the shells themselves, where the machine has them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { commands } from "./commands.ts";
import { completionScript, shells, type Shell } from "./completion.ts";

const has = (program: string) => spawnSync(program, ["-c", "true"]).status === 0;

describe("completion", () => {
  const directory = scratchDirectory();
  before(async () => {
    const loaded = await Promise.all(Object.values(commands).map((command) => command.load()));
    for (const shell of shells) writeFileSync(join(directory, shell), completionScript(shell, loaded));
  });
  const run = (shell: Shell, script: string): string => {
    const { status, stdout, stderr } = spawnSync(shell, ["-c", script, shell, join(directory, shell)], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };

  it("completes commands, second words, flags and values in bash", { skip: !has("bash") }, () => {
    const complete = (...words: string[]): string[] => {
      const line = ["mayfly", ...words].map((word) => `'${word}'`).join(" ");
      const script = `. "$1"; COMP_WORDS=(${line}); COMP_CWORD=${words.length}; _mayfly; echo "\${COMPREPLY[@]}"`;
      return run("bash", script).split(" ");
    };
    assert.deepEqual(complete("depl"), ["deploy"]);
    assert.deepEqual(complete("env", ""), ["ls", "add", "rm", "pull"]);
    assert.deepEqual(complete("deploy", "--pr"), ["--prod", "--prebuilt"]);
    assert.deepEqual(complete("env", "add", "--target", "p"), ["production", "preview"]);
  });

  it("completes in fish", { skip: !has("fish") }, () => {
    const complete = (line: string): string[] =>
      run("fish", `source $argv[-1]; complete -C '${line}'`)
        .split("\n")
        .map((entry) => entry.split("\t", 1)[0]!);
    assert.deepEqual(complete("mayfly env a"), ["add"]);
    assert.deepEqual(complete("mayfly env add --target pre"), ["preview"]);
  });

  it("is a script that zsh understands", { skip: !has("zsh") }, () => {
    assert.equal(spawnSync("zsh", ["-n", join(directory, "zsh")]).status, 0);
  });
});
