/** What a process and its children have needed of memory, by the kernel's own account (Linux). */
import { readdirSync, readFileSync } from "node:fs";

/** Peak resident megabytes of `pid` and its direct children that are Node processes of the platform. */
export function peakMemoryMB(pid: number): Map<number, number> {
  const peaks = new Map<number, number>();
  for (const process of [pid, ...childrenOf(pid)]) {
    const status = readFileSync(`/proc/${process}/status`, "utf8");
    const peak = /VmHWM:\s+(\d+) kB/.exec(status)?.[1];
    if (peak !== undefined) peaks.set(process, Number(peak) / 1024);
  }
  return peaks;
}

/** Direct children, by pid. */
export function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
      } catch {
        return false; // it has ended meanwhile
      }
    })
    .map(Number);
}
