/** Runs a program inside the build sandbox with its output in the build's log. The last part of it is kept, to tell why it failed. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { MayflyError } from "../errors.ts";

const tailCharsMax = 8192;
/** After its end a command's last output may take so long to arrive. */
const lastOutputMs = 1000;

export interface CommandEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it wrote, both streams. */
  readonly tail: string;
}

/**
 * @param argv program, looked up in PATH and in `node_modules/.bin` from `cwd` up to `top`, and its arguments
 * @param prefix of each line in the log, where several run at once; with one, lines are shown when they are whole
 * @throws MayflyError BUILD_FAILED when it cannot be started, BUILD_OUT_OF_MEMORY when it was killed
 */
export async function runCommand(argv: readonly [string, ...string[]], cwd: string, top: string, prefix = ""): Promise<CommandEnd> {
  const [program, ...args] = argv;
  const env = { ...process.env, PATH: [...binDirectories(cwd, top), process.env["PATH"] ?? ""].join(delimiter) };
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let tail = "";
  for (const [from, to] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ] as const) {
    const show = prefix === "" ? (chunk: Buffer) => void to.write(chunk) : prefixLines(to, prefix);
    from.on("data", (chunk: Buffer) => {
      show(chunk);
      tail = (tail + chunk.toString("utf8")).slice(-tailCharsMax);
    });
  }
  const { promise, resolve, reject } = Promise.withResolvers<CommandEnd>();
  child.once("error", (error) => reject(new MayflyError("BUILD_FAILED", `Cannot run "${program}": ${error.message}`, { cause: error })));
  // What it has left running may hold its output open for ever.
  const over = (exitCode: number | null, signal: NodeJS.Signals | null): void => resolve({ exitCode, signal, tail });
  child.once("close", over);
  child.once("exit", (exitCode, signal) => void setTimeout(over, lastOutputMs, exitCode, signal).unref());
  const end = await promise;
  // Nothing but the kernel's out-of-memory killer sends SIGKILL in here; a shell reports it as 137.
  if (end.signal === "SIGKILL" || end.exitCode === 137) {
    throw new MayflyError("BUILD_OUT_OF_MEMORY", `"${argv.join(" ")}" was killed: it needed more memory than a build may have.`);
  }
  return end;
}

/** The project's own command, run by `sh -c` as Vercel does: it is the project's code, in the project's sandbox. */
export function runShell(command: string, cwd: string, top: string): Promise<CommandEnd> {
  return runCommand(["sh", "-c", command], cwd, top);
}

/** What is left without an end of line is shown when the next one comes; package managers leave none. */
function prefixLines(to: NodeJS.WriteStream, prefix: string): (chunk: Buffer) => void {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  return (chunk) => {
    const lines = (rest + decoder.write(chunk)).split("\n");
    rest = lines.pop()!.slice(-tailCharsMax);
    for (const line of lines) to.write(`${prefix}${line}\n`);
  };
}

function binDirectories(cwd: string, top: string): string[] {
  const found: string[] = [];
  for (let at = cwd; ; at = dirname(at)) {
    const bin = join(at, "node_modules/.bin");
    if (existsSync(bin)) found.push(bin);
    if (at === top || at === dirname(at)) return found;
  }
}
