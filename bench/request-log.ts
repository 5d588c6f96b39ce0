/** What writing requests down costs (decision 9): the gateway's CPU time per request to a file of 10 KB, by what is written. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openMayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";
import { median, missingPrograms, wrk } from "./wrk.ts";

const connections = 16;
const rounds = 6;
const seconds = 3;

/** The settings that differ, by what they have written down. */
const settings = {
  "the first 1,000 a second": {},
  nothing: { MAYFLY_LOG_REQUESTS: "none" },
  "all of them": { MAYFLY_LOG_REQUESTS_RATE_MAX: "100000" },
};

export async function benchRequestLog(scratch: string): Promise<Figure[]> {
  const missing = missingPrograms("/usr/bin/wrk");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const site = join(scratch, "request-log", "site");
  mkdirSync(site, { recursive: true });
  writeFileSync(join(site, "10.html"), "x".repeat(10 * 1024));
  await using opened = new AsyncDisposableStack();
  const servers = [];
  for (const [index, [written, env]] of Object.entries(settings).entries()) {
    const mayfly = await openMayfly({ home: join(scratch, "request-log", String(index)), env });
    opened.defer(() => mayfly.stop());
    const { host } = new URL(await mayfly.deploy(site, "--name", "logged"));
    servers.push({ written, load: { url: `${mayfly.api}/10.html`, host, connections, seconds, pid: mayfly.pid }, cpuUs: [] as number[] });
  }
  for (let round = 0; round < rounds; round++) {
    for (const { load, cpuUs } of servers) cpuUs.push((await wrk(load)).cpuUs);
  }
  const [usual, ...others] = servers;
  return others.map(({ written, cpuUs }) => ({
    what: `a request's CPU time, ${usual!.written} written down`,
    unit: "µs",
    mayfly: median(usual!.cpuUs),
    other: { name: `${written} written down`, value: median(cpuUs) },
    rounds,
  }));
}
