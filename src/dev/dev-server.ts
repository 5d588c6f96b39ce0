/**
 * A framework's own development server as a child process: started with a free port, given back what it prints, ended
 * with everything it started. It runs on this machine without a sandbox, as it does without Mayfly.
 *
 *   start ─▶ waiting for the port ─▶ answering ─▶ ended      a server that ends is started again at the next request
 */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stripVTControlCharacters } from "node:util";
import { MayflyError } from "../errors.ts";

/** A server that does not listen by then has something else to say. */
const listenMsMax = 120_000;
const lookEveryMs = 50;
/** What it gets between being asked and being made to end, in ms. */
const endMsMax = 3000;

export interface DevServerOptions {
  /** For `sh -c`, with `$PORT`. */
  readonly command: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly print: (line: string) => void;
}

/** Where something listens on this machine. */
export interface LocalAddress {
  readonly host: string;
  readonly port: number;
}

export class DevServer implements AsyncDisposable {
  readonly #options: DevServerOptions;
  #child: ChildProcess | undefined;
  #address: Promise<LocalAddress> | undefined;
  #closed = false;

  constructor(options: DevServerOptions) {
    this.#options = options;
  }

  /** Where it listens, once it does. @throws MayflyError BUILD_FAILED: it does not come up */
  async address(): Promise<LocalAddress> {
    this.#address ??= this.#start();
    try {
      return await this.#address;
    } catch (error) {
      this.#address = undefined;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("close", resolve));
    signalGroup(child.pid, "SIGTERM");
    const deadline = setTimeout(() => signalGroup(child.pid!, "SIGKILL"), endMsMax);
    await ended;
    clearTimeout(deadline);
  }

  async #start(): Promise<LocalAddress> {
    if (this.#closed) throw new MayflyError("SHUTTING_DOWN");
    const { command, cwd, env, print } = this.#options;
    const port = await freePort();
    const path = [...binDirectories(cwd), env["PATH"] ?? ""].join(delimiter);
    const child = spawn("sh", ["-c", command], {
      cwd,
      env: { ...env, PATH: path, PORT: String(port), HOST: "127.0.0.1", BROWSER: "none", FORCE_COLOR: env["NO_COLOR"] ? "0" : "1" },
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own, so that all of it can be ended.
      detached: true,
    });
    this.#child = child;
    let said: number | undefined;
    for (const stream of [child.stdout, child.stderr]) {
      let rest = "";
      stream.setEncoding("utf8").on("data", (text: string) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          print(line);
          // Not every server listens where it is told to.
          said ??= Number(/https?:\/\/(?:localhost|127\.0\.0\.1|\[::1?\]):(\d+)/.exec(stripVTControlCharacters(line))?.[1]) || undefined;
        }
      });
    }
    const ended = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("close", (code, signal) => resolve(`it ended with ${signal ?? code}`));
    });
    void ended.then(() => (this.#address = undefined));
    const deadline = performance.now() + listenMsMax;
    for (;;) {
      for (const candidate of said === undefined ? [port] : [port, said]) {
        const host = await hostOf(candidate);
        if (host !== null) return { host, port: candidate };
      }
      const why = await Promise.race([ended, sleep(lookEveryMs, null)]);
      if (why !== null) throw new MayflyError("BUILD_FAILED", `\`${command}\` does not serve: ${why}. What it said is in the terminal.`);
      if (performance.now() > deadline) {
        throw new MayflyError("BUILD_FAILED", `\`${command}\` does not listen on port ${port} ($PORT) after ${listenMsMax / 1000} s.`);
      }
    }
  }
}

/** The loopback address at which something takes connections; null: none does. */
async function hostOf(port: number): Promise<string | null> {
  for (const host of ["127.0.0.1", "::1"]) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = connect({ port, host }, () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (connected) return host;
  }
  return null;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // it has ended
  }
}

function binDirectories(cwd: string): string[] {
  const found: string[] = [];
  for (let at = cwd; ; at = dirname(at)) {
    const bin = join(at, "node_modules/.bin");
    if (existsSync(bin)) found.push(bin);
    if (at === dirname(at)) return found;
  }
}
