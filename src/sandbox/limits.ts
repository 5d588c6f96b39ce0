/** A guest's limits in the terms of the kernel's interfaces, shared by the drivers that can set them. */
import { readFileSync } from "node:fs";
import type { CgroupLimits } from "./cgroup.ts";
import type { SandboxLimits, SandboxSpec } from "./sandbox.ts";

export const MB = 1024 * 1024;
/** Memory that comes with one CPU: the scale on which a Function's share of CPU time is cut. */
const memoryMBPerCpu = 1769;
/** Of a build, relative to a Function with one CPU: when both want the processor. Alone, a build has all of it. */
const buildWeight = 0.1;
/** Of /dev/shm. */
export const shmBytes = 64 * MB;

/** Files and directories in a file system in memory of so many bytes: each takes a kilobyte that its size does not count. */
export const memoryFilesMax = (bytes: number): number => Math.max(1024, Math.ceil(bytes / 4096));

/** CPUs' worth of time that come with so much memory. */
export const cpusOf = (memoryMB: number): number => memoryMB / memoryMBPerCpu;

/** Pages of /tmp count as the guest's memory, so its size is granted on top. */
export function cgroupLimits(spec: SandboxSpec, limits: SandboxLimits): CgroupLimits {
  return {
    memoryBytes: limits.memoryMB * MB + spec.tmpBytes,
    cpus: limits.cpuByMemory ? cpusOf(limits.memoryMB) : null,
    // Whoever waits for a page comes before whoever waits for a build.
    weight: spec.purpose === "build" ? buildWeight : 1,
    processesMax: spec.processesMax,
  };
}

/** What can be given of a number of open files: only root with CAP_SYS_RESOURCE may go beyond its own hard limit. */
export function openFilesWithin(wanted: number, limits: string = readFileSync("/proc/self/limits", "utf8")): number {
  const hard = /^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1];
  return hard === undefined ? wanted : Math.min(wanted, Number(hard));
}
