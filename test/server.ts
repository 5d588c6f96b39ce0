/** A real Mayfly for journeys and the bench: `bin/mayfly start` as a process of its own, on any port, with its own data and home. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { request, type Dispatcher } from "undici";

const root = dirname(import.meta.dirname);
const program = join(root, "bin", "mayfly");
const startMsMax = 180_000;

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly text: string;
}

export interface ApiError {
  readonly code: string;
  readonly message: string;
  readonly missing?: readonly string[];
}

export interface StartOptions {
  /** Of an earlier server, to start another on the same data. */
  readonly home?: string;
  /** `MAYFLY_…` settings. */
  readonly env?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  /** Deploy examples/hello as a first start does. */
  readonly hello?: boolean;
}

/** A running server that the caller stops. */
export async function openMayfly(options: StartOptions & { readonly home: string }): Promise<Mayfly> {
  const { home } = options;
  const env = { ...cleanEnv(home), ...options.env };
  const flags = [
    "--port",
    "0",
    "--data",
    join(home, "data"),
    ...(options.hello === true ? [] : ["--no-example"]),
    ...(options.flags ?? []),
  ];
  const child = spawn(program, ["start", ...flags], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const port = await new Promise<number>((resolve, reject) => {
    const deadline = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`Mayfly did not start:\n${output}`));
    }, startMsMax);
    const read = (chunk: Buffer) => {
      output += chunk;
      const found = /Mayfly answers at http:\/\/\S+?:(\d+)/.exec(output);
      if (found === null) return;
      clearTimeout(deadline);
      resolve(Number(found[1]));
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("exit", (code) => {
      clearTimeout(deadline);
      reject(new Error(`Mayfly ended with ${code}:\n${output}`));
    });
  });
  return new Mayfly(child, home, port, env, () => output);
}

export class Mayfly {
  readonly home: string;
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #env: Readonly<Record<string, string>>;
  readonly #output: () => string;

  constructor(child: ChildProcess, home: string, port: number, env: Readonly<Record<string, string>>, output: () => string) {
    this.#child = child;
    this.home = home;
    this.port = port;
    this.#env = env;
    this.#output = output;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get process(): ChildProcess {
    return this.#child;
  }

  /** What the server has printed. */
  get output(): string {
    return this.#output();
  }

  get api(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get data(): string {
    return join(this.home, "data");
  }

  /** That `start` has made for this machine's user. */
  get token(): string {
    const credentials = readFileSync(join(this.home, "config", "mayfly", "credentials.json"), "utf8");
    return Object.values(JSON.parse(credentials) as Record<string, string>)[0]!;
  }

  /** A call of the API, with the token of this machine's user. */
  async call(
    method: Dispatcher.HttpMethod,
    path: string,
    body?: string | Buffer,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<{ readonly status: number; readonly json: Readonly<Record<string, unknown>> & { readonly error?: ApiError } }> {
    const response = await request(this.api + path, {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...headers },
      ...(body === undefined ? {} : { body }),
    });
    return { status: response.statusCode, json: (await response.body.json()) as Record<string, unknown> };
  }

  /** Runs the command line against this server. */
  run(...parameters: string[]): Promise<Run> {
    return runMayfly({ ...this.#env, MAYFLY_API: this.api }, ...parameters);
  }

  /** Runs the command line with `input` on its standard input. */
  pipe(input: string, ...parameters: string[]): Promise<Run> {
    const child = spawn(program, parameters, { env: { ...this.#env, MAYFLY_API: this.api }, stdio: ["pipe", "pipe", "pipe"] });
    child.stdin.end(input);
    return collect(child);
  }

  /** Starts the command line and gives the process. */
  spawn(...parameters: string[]): ChildProcess {
    return spawn(program, parameters, { env: { ...this.#env, MAYFLY_API: this.api }, stdio: ["ignore", "pipe", "pipe"] });
  }

  /** Deploys and returns the URL; throws with what was printed when it fails. */
  async deploy(directory: string, ...flags: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run("deploy", directory, ...flags);
    if (code !== 0) throw new Error(`mayfly deploy ended with ${code}:\n${stderr}`);
    return stdout.trim();
  }

  /** A request to a deployment's URL, whatever DNS says of its host. */
  async fetch(
    url: string,
    options: { method?: Dispatcher.HttpMethod; headers?: Record<string, string>; body?: string | Buffer } = {},
  ): Promise<Reply> {
    const target = new URL(url);
    const response = await request(`${this.api}${target.pathname}${target.search}`, {
      method: options.method ?? "GET",
      headers: { ...options.headers, host: target.host },
      ...(options.body === undefined ? {} : { body: options.body }),
    });
    const body = Buffer.from(await response.body.arrayBuffer());
    return { status: response.statusCode, headers: response.headers, body, text: body.toString("utf8") };
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Ends it as a person would. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill(signal);
    await ended;
  }
}

/** Runs the command line and collects what it prints. */
export function runMayfly(env: Readonly<Record<string, string>>, ...parameters: string[]): Promise<Run> {
  return collect(spawn(program, parameters, { env, stdio: ["ignore", "pipe", "pipe"] }));
}

async function collect(child: ChildProcess): Promise<Run> {
  let stdout = "";
  let stderr = "";
  child.stdout!.on("data", (chunk: Buffer) => (stdout += chunk));
  child.stderr!.on("data", (chunk: Buffer) => (stderr += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

export function writeFiles(directory: string, files: Readonly<Record<string, string | Buffer>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
}

/** The environment of a person whose home is `home`, on a machine like this one. */
export function cleanEnv(home: string): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "", HOME: home, XDG_CONFIG_HOME: join(home, "config"), NO_COLOR: "1" };
}

/** Asks until the answer is not null, at most 30 s. */
export async function eventually<T>(what: string, ask: () => Promise<T | null> | T | null): Promise<T> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (Date.now() > deadline) throw new Error(`It did not come to pass in 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
