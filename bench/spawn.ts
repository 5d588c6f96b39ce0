/**
 * For how long a process of the data plane's size stands still while it starts a program: Node's own spawn, which forks, beside
 * ours (src/sandbox/child.ts). Told by the longest pause between two turns of the event loop.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { startChild } from "../src/sandbox/child.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const rounds = 40;
const ballastMB = 100;
const program = "/bin/true";

export async function benchSpawn(): Promise<Figure[]> {
  // Pages that were written, as the data plane has them.
  const ballast = Array.from({ length: ballastMB }, (_, index) => Buffer.alloc(1024 * 1024, index));
  const [ours, nodes] = [new Sample(), new Sample()];
  for (let round = 0; round < rounds; round++) {
    ours.add(
      await longestPauseMs(async () => {
        const child = await startChild({ program, args: [], env: {}, descriptors: [null, null, null], msMax: 10_000 });
        await child.ended;
      }),
    );
    nodes.add(await longestPauseMs(() => once(spawn(program, [], { env: {}, stdio: "ignore" }), "exit")));
  }
  const figure = (what: string, read: (sample: Sample) => number): Figure => ({
    what: `a process of ${ballast.length} MB starts a program and stands still: ${what}`,
    unit: "ms",
    mayfly: read(ours),
    other: { name: "`child_process.spawn`", value: read(nodes) },
    rounds,
  });
  return [figure("p50", (sample) => sample.p50), figure("longest", (sample) => sample.quantile(1))];
}

async function longestPauseMs(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  let over = false;
  const look = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (!over) setImmediate(look);
  };
  setImmediate(look);
  await work();
  over = true;
  look();
  return longest;
}
