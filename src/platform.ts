/**
 * The composition root: the only file that picks drivers. Two processes make a node:
 *
 *   data plane (data-plane.ts)         gateway, functions     answers requests; reads store and blobs
 *   control plane (control-plane.ts)   api, deploy, build     makes deployments; writes store and blobs
 *
 * They meet in the data directory and on one unix socket, over which the gateway hands API calls on. Neither loads what
 * only the other needs: what a process has loaded it holds in memory for good.
 */
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { BlobStore } from "./blobs/blob-store.ts";
import { openDiskBlobs } from "./blobs/disk.ts";
import { systemClock } from "./clock.ts";
import type { Config } from "./config.ts";
import { MayflyError, messageOf } from "./errors.ts";
import type { GitHost } from "./git/git-host.ts";
import type { GithubOptions } from "./git/github.ts";
import { openSqliteLogs } from "./logs/sqlite.ts";
import type { GitSource } from "./model.ts";
import { openBubblewrapSandboxes } from "./sandbox/bubblewrap.ts";
import { openOciSandboxes } from "./sandbox/oci.ts";
import { probe } from "./sandbox/probe.ts";
import { openProcessSandboxes } from "./sandbox/process.ts";
import type { SandboxDriver } from "./sandbox/sandbox.ts";
import { openSeal } from "./store/seal.ts";
import { openSqliteStore } from "./store/sqlite.ts";
import { openSqliteUsage } from "./usage/sqlite.ts";

export type Log = (line: string) => void;

/** @param directory the data directory */
export const openBlobs = (directory: string): BlobStore => openDiskBlobs({ directory: join(directory, "blobs") });

/** What both planes open: the data directory with database, blobs, logs and key. */
export async function openData(config: Config) {
  const directory = resolve(config.data);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new MayflyError("data_directory_unusable", `Cannot make the data directory ${directory}: ${messageOf(error)}`, { cause: error });
  }
  const clock = systemClock;
  const store = await openSqliteStore({ path: join(directory, "mayfly.db") });
  const blobs = openBlobs(directory);
  const logs = await openSqliteLogs({
    path: join(directory, "logs.db"),
    clock,
    linesMax: config.logLinesMax,
    requestsMax: config.logRequestsMax,
    bufferLinesMax: config.logBufferLinesMax,
  });
  const usage = await openSqliteUsage({
    path: join(directory, "usage.db"),
    clock,
    daysMax: config.usageDaysMax,
    bufferRowsMax: config.usageBufferRowsMax,
  });
  const seal = openSeal(join(directory, "secret.key"));
  const close = async () => {
    await usage.close();
    await logs.close();
    await store.close();
    await blobs.close();
  };
  return { directory, clock, store, blobs, logs, usage, seal, close };
}

/**
 * The sandbox that `config.sandbox` asks for; `auto` is the strongest that works here.
 * @throws MayflyError sandbox_unavailable, also when it is too weak for untrusted code and that is what will run
 */
export async function openSandboxes(config: Config, log: Log): Promise<SandboxDriver> {
  const sandboxes = await chooseSandboxes(config, log);
  const { fileIsolation, processIsolation, networkIsolation, seccomp, memoryLimit, processLimit } = sandboxes.can;
  const strong = fileIsolation && processIsolation && networkIsolation && seccomp && memoryLimit === "tree" && processLimit;
  if (!config.untrusted || strong) return sandboxes;
  await sandboxes.close();
  throw new MayflyError(
    "sandbox_unavailable",
    `Untrusted code needs a sandbox with its own files, processes and network, seccomp, and limits of memory and processes; "${sandboxes.name}" does not give all of them here. Run Mayfly as root on Linux with crun.`,
  );
}

async function chooseSandboxes(config: Config, log: Log): Promise<SandboxDriver> {
  const options = {
    dataDirectory: resolve(config.data),
    nodeBinary: process.execPath,
    networkAllow: config.networkAllow.split(",").filter((network) => network !== ""),
    log,
  };
  /** The strongest first. */
  const drivers: Readonly<Record<string, () => Promise<SandboxDriver>>> = {
    oci: () => openOciSandboxes({ ...options, runtime: config.ociRuntime as "crun" | "runc" }),
    bubblewrap: () => openBubblewrapSandboxes(options),
    process: () => openProcessSandboxes(options),
  };
  const reasons: string[] = [];
  for (const [name, open] of Object.entries(drivers)) {
    if (config.sandbox !== "auto" && config.sandbox !== name) continue;
    let why: string | null;
    try {
      const sandboxes = await open();
      // What isolates nothing has nothing to prove.
      why = sandboxes.can.fileIsolation ? await probe(sandboxes) : null;
      if (why === null) {
        if (reasons.length > 0) log(`Warning: weaker isolation than "oci" would give. ${reasons.join(" ")}`);
        return sandboxes;
      }
      await sandboxes.close();
    } catch (error) {
      why = messageOf(error);
    }
    reasons.push(`${name}: ${why}`);
  }
  throw new MayflyError("sandbox_unavailable", `The sandbox asked for does not work here. ${reasons.join(" ")}`);
}

/** A host's driver is loaded when it is first needed: GitLab's client takes a fifth of a second. */
export const gitHosts = (options: GithubOptions): Readonly<Record<GitSource["provider"], () => Promise<GitHost>>> => ({
  github: async () => (await import("./git/github.ts")).createGithub(options),
  gitlab: async () => (await import("./git/gitlab.ts")).createGitlab(options),
});
