/**
 * Processes that no control group holds: a platform that is killed between the making of a container and its move into
 * its group leaves one that waits for ever. They are known by what they were started with, or as whom.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export interface Stray {
  readonly args: readonly string[];
  readonly userId: number;
}

const waitMsMax = 5000;

/**
 * Kills all that `isStray`, and what they start meanwhile; resolves when none is left, or after 5 s.
 * @param withGroup each with all of its process group
 */
export async function killStrays(isStray: (process: Stray) => boolean, { withGroup = false } = {}): Promise<void> {
  const deadline = performance.now() + waitMsMax;
  while (signalStrays(isStray, withGroup) > 0 && performance.now() < deadline) await sleep(2);
}

function signalStrays(isStray: (process: Stray) => boolean, withGroup: boolean): number {
  let count = 0;
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const text = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      // The kernel's own have none, and the dead have none any more.
      if (text === "" || !isStray({ args: text.split("\0"), userId: statSync(`/proc/${pid}`).uid })) continue;
      process.kill(withGroup ? -groupOf(pid) : Number(pid), "SIGKILL");
      count++;
    } catch {
      // It has ended meanwhile, or is not ours to kill.
    }
  }
  return count;
}

/** proc_pid_stat(5): the third word behind the name, which may hold anything but ends with the last bracket. */
function groupOf(pid: string): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
}
