/** What waiting costs: memory of a pooled sandbox, of an idle frozen instance, of a Function that nobody asks for. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "undici";
import { openMayfly } from "../test/server.ts";
import { childrenOf } from "../test/memory.ts";
import type { Figure } from "./table.ts";

const instances = 300;
const idleFunctions = 1000;
const poolSize = 20;

export async function benchDensity(scratch: string): Promise<Figure[]> {
  if (process.platform !== "linux") return [];
  const home = join(scratch, "density");
  const before = new Set(guests());
  const mayfly = await openMayfly({
    home,
    env: { MAYFLY_POOL_SIZE: String(poolSize), MAYFLY_INSTANCES_MAX: String(instances), MAYFLY_QUEUE_WAIT_MS_MAX: "120000" },
  });
  try {
    const figure = (what: string, value: number, rounds = 1): Figure => ({ what, unit: "MB", mayfly: value, other: null, rounds });
    const mine = () => guests().filter((pid) => !before.has(pid));
    await settled(() => mine().length >= poolSize);
    const pooled = mean(pssOfMB(mine()));
    const plane = pssMB(mayfly.pid);
    const [control] = childrenOf(mayfly.pid);
    const figures = [
      figure("data plane at rest", plane),
      ...(control === undefined ? [] : [figure("control plane at rest", pssMB(control))]),
      figure("a pooled sandbox (frozen, generic)", pooled, poolSize),
    ];

    const directory = join(home, "many");
    mkdirSync(join(directory, "api"), { recursive: true });
    for (let i = 0; i < idleFunctions; i++) {
      writeFileSync(join(directory, "api", `f${i}.js`), `// ${i}\nmodule.exports = (req, res) => res.json({ i: ${i} });`);
    }
    const host = new URL(await mayfly.deploy(directory, "--name", "many")).host;
    const client = new Client(mayfly.api);
    await client.request({ path: "/", method: "GET", headers: { host } }).then(({ body }) => body.dump());
    figures.push(
      figure(`a deployed Function at zero (data plane, of ${idleFunctions})`, (pssMB(mayfly.pid) - plane) / idleFunctions, idleFunctions),
    );

    for (let i = 0; i < instances; i++) {
      const { statusCode, body } = await client.request({ path: `/api/f${i}`, method: "GET", headers: { host } });
      await body.dump();
      if (statusCode !== 200) throw new Error(`Function ${i} answered ${statusCode}.`);
    }
    await client.close();
    await settled(() => mine().length >= instances);
    const all = mine();
    return [
      ...figures,
      figure(`an idle, frozen instance (of ${all.length} at once, the pooled ones included)`, mean(pssOfMB(all)), all.length),
    ];
  } finally {
    await mayfly.stop();
  }
}

/** Runtimes inside sandboxes, by pid. */
function guests(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("/var/lang/bin/node\0");
      } catch {
        return false; // it has ended meanwhile
      }
    });
}

/** Proportional set size: pages that several processes share count once. */
function pssMB(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) / 1024;
}

/** Of those that live still: instances may end between a look at the list and one at them. */
function pssOfMB(pids: readonly number[]): number[] {
  return pids.flatMap((pid) => {
    try {
      return [pssMB(pid)];
    } catch {
      return [];
    }
  });
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

async function settled(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!isSo()) {
    if (Date.now() > deadline) throw new Error("It did not settle in a minute.");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
