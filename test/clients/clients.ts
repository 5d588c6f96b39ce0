/**
 * The official clients as a person has them: packages from npm, unmodified, at the versions that the lock file here
 * names. Installed at first use into a cache below node_modules, so that nobody pays for them who does not test with them.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type * as VercelClient from "./vercel-client.ts";
import type { Run } from "../server.ts";

const root = join(import.meta.dirname, "../..");
const cache = join(root, "node_modules/.cache/mayfly-clients");
const files = ["package.json", "package-lock.json"];
/** A command that takes longer hangs. */
const runMsMax = 120_000;

/** The versions that are tested, the newest first. */
export const versions = ["60.1.3", "43.1.0"] as const;
export type Version = (typeof versions)[number];

/** Installs them unless they are there. */
export function installClients(): void {
  const installed = join(cache, "installed.json");
  const lock = readFileSync(join(import.meta.dirname, "package-lock.json"), "utf8");
  if (existsSync(installed) && readFileSync(installed, "utf8") === lock) return;
  mkdirSync(cache, { recursive: true });
  for (const name of [...files, ".npmrc"]) {
    copyFileSync(name === ".npmrc" ? join(root, name) : join(import.meta.dirname, name), join(cache, name));
  }
  // Not `npm ci`: it wants native parts of other platforms in the lock file too, which not every registry has.
  const { status, stderr } = spawnSync("npm", ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: cache,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`The official clients could not be installed:\n${stderr}`);
  copyFileSync(join(import.meta.dirname, "package-lock.json"), installed);
}

/** `createDeployment` of `@vercel/client`. */
export function vercelClient(): typeof VercelClient {
  return createRequire(join(cache, "package.json"))("@vercel/client") as typeof VercelClient;
}

export interface ClientOptions {
  readonly cwd: string;
  /** The client's global directory, as `mayfly use-vercel-cli --dir` writes it. */
  readonly global: string;
  readonly env: Readonly<Record<string, string>>;
  /** What it reads from standard input. */
  readonly input?: string;
}

/** Starts the client. */
export function spawnVercel(version: Version, args: readonly string[], { cwd, global, env, input }: ClientOptions): ChildProcess {
  const installed = join(cache, "node_modules", `vercel-${version.split(".", 1)[0]}`);
  const { bin } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as { bin: { vercel: string } };
  const program = join(installed, bin.vercel);
  const child = spawn(process.execPath, [program, "--global-config", global, ...args], {
    cwd,
    env: { ...env, VERCEL_TELEMETRY_DISABLED: "1", NO_UPDATE_NOTIFIER: "1" },
    stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  child.stdin?.end(input);
  return child;
}

/** Runs the client to its end. */
export async function runVercel(version: Version, args: readonly string[], options: ClientOptions): Promise<Run> {
  const child = spawnVercel(version, args, options);
  let stdout = "";
  let stderr = "";
  child.stdout!.on("data", (chunk: Buffer) => (stdout += chunk));
  child.stderr!.on("data", (chunk: Buffer) => (stderr += chunk));
  const deadline = setTimeout(() => {
    stderr += `\nIt did not end in ${runMsMax / 1000} s.`;
    child.kill("SIGKILL");
  }, runMsMax);
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(deadline);
  return { code, stdout, stderr };
}
