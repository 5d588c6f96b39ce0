/**
 * Runs the host's own programs (crun, ip, nft, ldd …): never through a shell, with an environment that holds a PATH and
 * nothing of the platform's, a deadline, and bounded output.
 */
import { spawn } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";

/** Where the host's programs are looked for. */
export const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** On a busy machine a program of some milliseconds may take seconds. */
const commandMsMax = 20_000;
const outputBytesMax = 8 * 1024 * 1024;

/**
 * Runs a program to its end.
 * @returns what it wrote to its standard output
 * @throws Error that names the program and what it wrote to its standard error
 */
export function runCommand(program: string, args: readonly string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { PATH: hostPath }, timeout: commandMsMax, killSignal: "SIGKILL" });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      if (stdout.length > outputBytesMax) child.kill("SIGKILL");
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      if (stderr.length < 2000) stderr += text;
    });
    // A program that exits early need not read its input.
    child.stdin.on("error", () => {}).end(input);
    child.on("error", (error) => reject(new Error(`Cannot run ${program}: ${error.message}`, { cause: error })));
    child.on("close", (code, signal) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${program} ${args[0] ?? ""} failed (${signal ?? code}): ${stderr.trim().slice(0, 500)}`));
    });
  });
}

/** The absolute path of a host program, null when there is none. */
export async function findProgram(name: string): Promise<string | null> {
  for (const directory of hostPath.split(":")) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // looked for in the next directory
    }
  }
  return null;
}
