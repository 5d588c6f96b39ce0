/**
 * The processes of one bubblewrap guest, as the host sees them: who they are, how they end, and signals to them. Invariant:
 * a number that was given to another process meanwhile is never taken for the guest's.
 */
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "../errors.ts";
import type { Channels } from "./channels.ts";

/** A stop signal, or the end after SIGKILL, must have come about within this time. */
export const signalMsMax = 5000;

/**
 * The processes of one guest: bwrap, which is ours and reports the end; its child, which is first in the guest and reaps;
 * and all below that.
 */
export class Container {
  /** The guest's first process, as the host numbers it. */
  readonly pid: number;
  readonly channels: Channels;
  /** Lets the guest start. */
  readonly go: () => void;
  /** What the guest's program ended with, settled when bwrap has. */
  readonly exited: Promise<number | null>;
  readonly #started: string | undefined;

  constructor(child: ChildProcess, pid: number, channels: Channels, go: () => void) {
    this.pid = pid;
    this.channels = channels;
    this.go = go;
    this.#started = readStat(pid)?.[19];
    this.exited = new Promise((done) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        channels.keepUnread();
        done(code ?? (signal === null ? null : 128 + constants.signals[signal]));
      };
      if (child.exitCode !== null || child.signalCode !== null) end(child.exitCode, child.signalCode);
      else child.once("exit", end);
    });
  }

  /** With the first process all others go: the kernel ends a process namespace so. */
  kill(): void {
    if (this.#isThere()) signal(this.pid, "SIGKILL");
  }

  /** Resolves when no process of the guest is left. */
  async gone(): Promise<void> {
    const deadline = performance.now() + signalMsMax;
    while (this.#isThere()) {
      if (performance.now() > deadline) throw new Error(`Process ${this.pid} survives SIGKILL.`);
      await sleep(1);
    }
  }

  /** The guest's processes, without the first, which is bwrap's own code. */
  processes(): readonly number[] {
    if (!this.#isThere()) return [];
    const pids = childrenOf(this.pid);
    for (const pid of pids) pids.push(...childrenOf(pid));
    return pids;
  }

  #isThere(): boolean {
    const fields = readStat(this.pid);
    return fields !== undefined && fields[19] === this.#started && !"ZX".includes(fields[0] ?? "");
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
      try {
        return readFileSync(`/proc/${pid}/task/${thread}/children`, "latin1").split(" ").filter(Boolean).map(Number);
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}

/** The fields of /proc/PID/stat from the state on, undefined when the process is gone (proc_pid_stat(5), which counts from 3). */
export function readStat(pid: number): readonly string[] | undefined {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "latin1");
    return line.slice(line.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (errnoOf(error) !== "ESRCH") throw error;
  }
}
