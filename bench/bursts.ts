/** 200 requests at once to a Function that has no instance: until all are answered, with pooled sandboxes and without. */
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Client } from "undici";
import { openMayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const rounds = 3;
const requests = 200;

export async function benchBursts(hello: string, scratch: string): Promise<Figure[]> {
  const samples = { on: new Sample(), off: new Sample() };
  for (let round = 0; round < rounds; round++) {
    for (const [pooling, size] of [
      ["on", "8"],
      ["off", "0"],
    ] as const) {
      const home = join(scratch, `burst-${pooling}-${round}`);
      const directory = join(home, "project");
      mkdirSync(join(directory, "api"), { recursive: true });
      cpSync(join(hello, "api/date.js"), join(directory, "api/date.js"));
      const mayfly = await openMayfly({ home, env: { MAYFLY_POOL_SIZE: size } });
      try {
        const host = new URL(await mayfly.deploy(directory, "--name", "burst")).host;
        const clients = Array.from({ length: requests }, () => new Client(mayfly.api));
        await Promise.all(
          clients.map((client) => client.request({ path: "/_mayfly/health", method: "GET" }).then(({ body }) => body.dump())),
        );
        await samples[pooling].time(() =>
          Promise.all(
            clients.map(async (client) => {
              const { statusCode, body } = await client.request({ path: "/api/date", method: "GET", headers: { host } });
              await body.dump();
              if (statusCode !== 200) throw new Error(`The burst was answered ${statusCode}.`);
            }),
          ),
        );
        await Promise.all(clients.map((client) => client.close()));
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
  ];
}
