/** Load from wrk, and what it costs the server that answers: CPU time by the kernel's own account. */
import { execFile, execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Load {
  readonly url: string;
  readonly host: string;
  readonly connections: number;
  readonly seconds: number;
  /** Whose CPU time is counted. */
  readonly pid: number;
}

export interface LoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of the server, per request. */
  readonly cpuUs: number;
}

const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** @returns the programs that are missing on this machine, as a sentence; null: none */
export function missingPrograms(...paths: readonly string[]): string | null {
  const missing = paths.filter((path) => !existsSync(path));
  return missing.length === 0
    ? null
    : `skipped: ${missing.join(", ")} not installed (apt-get install nginx-light caddy varnish wrk nghttp2-client)`;
}

/** @throws Error when an answer was not 2xx, or connections broke */
export async function wrk({ url, host, connections, seconds, pid }: Load): Promise<LoadResult> {
  const before = cpuSeconds(pid);
  const { stdout } = await run("wrk", ["-t1", `-c${connections}`, `-d${seconds}s`, "--latency", "-H", `Host: ${host}`, url]);
  const cpu = cpuSeconds(pid) - before;
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`wrk ${url}:\n${stdout}`);
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p50Ms: milliseconds(/^\s+50%\s+(\S+)/m.exec(stdout)?.[1]),
    p99Ms: milliseconds(/^\s+99%\s+(\S+)/m.exec(stdout)?.[1]),
    cpuUs: (cpu * 1_000_000) / requests,
  };
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** That a process has used so far. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function milliseconds(text = ""): number {
  const [, number, unit = ""] = /^([\d.]+)(us|ms|s)$/.exec(text) ?? [];
  return Number(number) * ({ us: 0.001, ms: 1, s: 1000 }[unit] ?? Number.NaN);
}
