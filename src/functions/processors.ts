/**
 * How busy the machine's processors are, by the kernel's own count. Looked at when somebody asks, at most so often, so it
 * costs nothing at rest. Where the kernel does not tell, they count as never busy.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

const lookMsMin = 200;
/** Beyond this share nothing is left for another instance. */
const saturatedShare = 0.9;

export class Processors {
  readonly count = availableParallelism();
  #atMs = Number.NEGATIVE_INFINITY;
  #idle = 0;
  #all = 0;
  #busyShare = 0;

  /** Whether all of them were busy of late. */
  get saturated(): boolean {
    this.#look();
    return this.#busyShare > saturatedShare;
  }

  #look(): void {
    const nowMs = performance.now();
    if (nowMs - this.#atMs < lookMsMin) return;
    this.#atMs = nowMs;
    // user nice system idle iowait irq softirq steal, in ticks since the machine's start
    const ticks = processorTicks();
    const all = ticks.reduce((sum, each) => sum + each, 0);
    const idle = (ticks[3] ?? 0) + (ticks[4] ?? 0);
    if (all > this.#all && this.#all > 0) this.#busyShare = 1 - (idle - this.#idle) / (all - this.#all);
    this.#all = all;
    this.#idle = idle;
  }
}

function processorTicks(): readonly number[] {
  try {
    const [first = ""] = readFileSync("/proc/stat", "latin1").split("\n", 1);
    return first.split(/ +/).slice(1, 9).map(Number);
  } catch {
    return [];
  }
}
