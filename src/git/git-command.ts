/**
 * Runs `git` on the host as little trusted as it deserves: no configuration but ours, no hook, no prompt, no helper, no
 * redirect, only the protocols that are named. Arguments are a list, so nothing reaches a shell; a token travels in the
 * environment alone, bound to the host's address. No command that checks files out is ever run.
 */
import { spawn, type ChildProcessByStdio } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { errnoOf, MayflyError } from "../errors.ts";
import { hostPath } from "../sandbox/command.ts";

const stderrBytesMax = 16_384;

/** What every run is told, whatever a repository says. */
const settings: Readonly<Record<string, string>> = {
  "core.hooksPath": "/dev/null",
  "core.fsmonitor": "false",
  "core.askPass": "",
  "credential.helper": "",
  "http.followRedirects": "false",
  "fetch.recurseSubmodules": "false",
  "submodule.recurse": "false",
  "protocol.version": "2",
  "gc.auto": "0",
  "maintenance.auto": "false",
};

export interface GitCall {
  /** The bare repository; git is told it, never left to find one. */
  readonly directory: string;
  /** An empty directory, as HOME. */
  readonly home: string;
  /** Sub-command and arguments; whoever puts outside strings in has checked that none can be an option. */
  readonly parameters: readonly string[];
  /** Further settings, secret ones too. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Protocols that may be spoken; none by default. */
  readonly protocols?: readonly string[];
  readonly signal: AbortSignal;
}

/** @throws MayflyError git_refused with what git has said, or why it was ended; internal_error without git */
export async function runGit(call: GitCall, stdoutBytesMax = 1_048_576): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await streamGit(call, async (child) => {
    child.stdin.end();
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength;
      if (bytes > stdoutBytesMax) throw new MayflyError("git_refused", `git ${call.parameters[0]} says more than ${stdoutBytesMax} bytes.`);
      chunks.push(chunk);
    }
  });
  return Buffer.concat(chunks);
}

export type GitProcess = ChildProcessByStdio<Writable, Readable, Readable>;

/** Runs git while `use` writes and reads; ends it, and what it has started, when `use` or the signal says so. */
export async function streamGit(call: GitCall, use: (child: GitProcess) => Promise<void>): Promise<void> {
  const child = spawn("git", [`--git-dir=${call.directory}`, ...call.parameters], {
    cwd: call.home,
    env: environment(call),
    stdio: ["pipe", "pipe", "pipe"],
    detached: true, // a group of its own: `git fetch` has children
  });
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  };
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr = (stderr + chunk.toString("utf8")).slice(-stderrBytesMax)));
  child.stdin.on("error", () => {}); // it ended without reading on: its exit code says why
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  ended.catch(() => {});
  call.signal.addEventListener("abort", kill, { once: true });
  if (call.signal.aborted) kill();
  let code: number | null;
  try {
    await use(child);
    code = await ended;
  } catch (error) {
    kill();
    await ended.catch(() => {});
    throw failure(call, error, stderr);
  } finally {
    call.signal.removeEventListener("abort", kill);
  }
  if (code !== 0) throw failure(call, undefined, stderr);
}

function failure(call: GitCall, error: unknown, stderr: string): Error {
  if (call.signal.aborted) return call.signal.reason instanceof Error ? call.signal.reason : new MayflyError("server_closing");
  if (error instanceof MayflyError) return error;
  if (errnoOf(error) === "ENOENT") return new MayflyError("internal_error", "There is no program `git` on this machine.", { cause: error });
  const said = stderr
    .split("\n")
    .filter((line) => /^(fatal|error|remote):/.test(line))
    .slice(-5)
    .join(" ");
  return new MayflyError("git_refused", `git ${call.parameters[0]}: ${said === "" ? "it ended without a word" : said}`, {
    ...(error === undefined ? {} : { cause: error }),
    details: { stderr },
  });
}

function environment(call: GitCall): Record<string, string> {
  const all = Object.entries({ ...settings, ...call.settings });
  return {
    PATH: hostPath,
    HOME: call.home,
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_ATTR_NOSYSTEM: "1",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "/bin/false",
    SSH_ASKPASS: "/bin/false",
    GIT_ALLOW_PROTOCOL: (call.protocols ?? []).join(":") || "none",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_CONFIG_COUNT: String(all.length),
    ...Object.fromEntries(
      all.flatMap(([key, value], i) => [
        [`GIT_CONFIG_KEY_${i}`, key],
        [`GIT_CONFIG_VALUE_${i}`, value],
      ]),
    ),
  };
}
