/**
 * 200 requests at once to a Function that has no instance: until all are answered, with pooled sandboxes and without. Another
 * Function is asked again and again meanwhile, which tells how long the data plane stands still.
 */
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Client } from "undici";
import { openMayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const rounds = 3;
const requests = 200;
/** The burst, and the boots that fill the pool again. */
const watchMs = 3000;

export async function benchBursts(hello: string, scratch: string): Promise<Figure[]> {
  const samples = { on: new Sample(), off: new Sample() };
  const neighbour = new Sample();
  for (let round = 0; round < rounds; round++) {
    for (const [pooling, size] of [
      ["on", "8"],
      ["off", "0"],
    ] as const) {
      const home = join(scratch, `burst-${pooling}-${round}`);
      const directory = join(home, "project");
      mkdirSync(join(directory, "api"), { recursive: true });
      for (const name of ["date", "neighbour"]) cpSync(join(hello, "api/date.js"), join(directory, `api/${name}.js`));
      const mayfly = await openMayfly({ home, env: { MAYFLY_POOL_SIZE: size } });
      try {
        const host = new URL(await mayfly.deploy(directory, "--name", "burst")).host;
        const clients = Array.from({ length: requests }, () => new Client(mayfly.api));
        await Promise.all(
          clients.map((client) => client.request({ path: "/_mayfly/health", method: "GET" }).then(({ body }) => body.dump())),
        );
        const ask = async (client: Client, path: string): Promise<void> => {
          const { statusCode, body } = await client.request({ path, method: "GET", headers: { host } });
          await body.dump();
          if (statusCode !== 200) throw new Error(`${path} was answered ${statusCode}.`);
        };
        const watcher = new Client(mayfly.api);
        const watch = async (): Promise<void> => {
          for (const untilMs = performance.now() + watchMs; performance.now() < untilMs;) {
            await neighbour.time(() => ask(watcher, "/api/neighbour"));
          }
        };
        await ask(watcher, "/api/neighbour");
        const burst = samples[pooling].time(() => Promise.all(clients.map((client) => ask(client, "/api/date"))));
        // The pool is filled again when all are answered: that is felt, too.
        await Promise.all([burst, pooling === "on" ? watch() : undefined]);
        await Promise.all([watcher, ...clients].map((client) => client.close()));
      } finally {
        await mayfly.stop();
      }
    }
  }
  return [
    {
      what: `burst of ${requests} to a cold Function, until all are answered (8 pooled sandboxes)`,
      unit: "ms",
      mayfly: samples.on.p50,
      other: { name: "without pooling", value: samples.off.p50 },
      rounds,
    },
    {
      what: "another Function asked from the burst on, until the pool is full again, one request after the other: p50",
      unit: "ms",
      mayfly: neighbour.p50,
      other: null,
      rounds: neighbour.count,
    },
    { what: "the same: p99", unit: "ms", mayfly: neighbour.p99, other: null, rounds: neighbour.count },
    { what: "the same: longest", unit: "ms", mayfly: neighbour.quantile(1), other: null, rounds: neighbour.count },
  ];
}
