/**
 * Runs the host's own programs (crun, ip, nft, ldd …): never through a shell, with an environment that holds a PATH and
 * nothing of the platform's, a deadline, and bounded output.
 */
import { closeSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { startChild, type Child } from "./child.ts";
import { openPipe } from "./libc.ts";

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
export async function runCommand(program: string, args: readonly string[], input = ""): Promise<string> {
  const [stdin, stdout, stderr] = [input === "" ? null : openPipe(), openPipe(), openPipe()];
  const [out, err] = [stdout, stderr].map(({ read }) => new Socket({ fd: read, readable: true, writable: false }));
  const inwards = stdin === null ? null : new Socket({ fd: stdin.write, readable: false, writable: true });
  // A program that exits early need not read its input.
  inwards?.on("error", () => {}).end(input);
  let child: Child | undefined;
  const [said, complaint] = [read(out!, outputBytesMax, () => child?.kill()), read(err!, outputBytesMax, () => child?.kill())];
  try {
    const descriptors = [stdin?.read ?? null, stdout.write, stderr.write];
    child = await startChild({ program: await pathOf(program), args, env: { PATH: hostPath }, descriptors, msMax: commandMsMax });
  } catch (error) {
    inwards?.destroy();
    throw error;
  } finally {
    for (const descriptor of [stdin?.read, stdout.write, stderr.write]) if (descriptor !== undefined) closeSync(descriptor);
  }
  const { code, signal } = await child.ended;
  inwards?.destroy();
  const output = await said;
  if (code === 0) return output;
  throw new Error(`${program} ${args[0] ?? ""} failed (${signal ?? code}): ${(await complaint).trim().slice(0, 500)}`);
}

/** All of a stream as text, up to a bound where reading ends. */
function read(stream: Socket, bytesMax: number, onMore: () => void): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      if (text.length <= bytesMax) text += chunk;
      else {
        onMore();
        // Who writes may be another than whom that ends.
        stream.destroy();
      }
    });
    stream.on("error", () => {}).once("close", () => resolve(text));
  });
}

/** Where programs were found. */
const paths = new Map<string, string>();

/** The absolute path of a host program. @throws Error that names it, when there is none */
export async function pathOf(program: string): Promise<string> {
  const path = paths.get(program) ?? (await findProgram(program));
  if (path === null) throw new Error(`Cannot run ${program}: it is not installed.`);
  paths.set(program, path);
  return path;
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
