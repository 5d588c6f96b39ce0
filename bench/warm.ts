/**
 * The warm path at 1, 16 and 64 connections, instances frozen when they rest, against the same handler behind a bare
 * `node:http` server. Closed loop: a connection asks again as soon as it has its answer. Load from wrk, which takes little
 * of the two processors that gateway, instances and load share.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";
import { median, missingPrograms, wrk, type LoadResult } from "./wrk.ts";

const connections = [1, 16, 64];
const turns = 5;
const turnS = 2;
/** Until the code is compiled and as many instances live as the load asks for. */
const warmUpS = 6;

const bareServer = `
const handler = require(process.argv[2]);
require("node:http").createServer((req, res) => {
  res.json = (value) => { res.setHeader("content-type", "application/json; charset=utf-8"); res.end(JSON.stringify(value)); };
  handler(req, res);
}).listen(0, "127.0.0.1", function () { process.stdout.write(String(this.address().port) + "\\n"); });
`;

export async function benchWarm(mayfly: Mayfly, hello: string, scratch: string): Promise<Figure[]> {
  const missing = missingPrograms("/usr/bin/wrk");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const directory = join(scratch, "warm");
  mkdirSync(join(directory, "api"), { recursive: true });
  cpSync(join(hello, "api/date.js"), join(directory, "api/date.js"));
  const url = await mayfly.deploy(directory, "--name", "warm");
  writeFileSync(join(scratch, "bare.cjs"), bareServer);
  const bare = spawn(process.execPath, [join(scratch, "bare.cjs"), join(directory, "api/date.js")], {
    stdio: ["ignore", "pipe", "inherit"],
    env: {},
  });
  const [line] = (await once(bare.stdout, "data")) as [Buffer];
  const targets = {
    mayfly: { url: `${mayfly.api}/api/date`, host: new URL(url).host, pid: mayfly.pid },
    bare: { url: `http://127.0.0.1:${Number(line.toString())}/`, host: "localhost", pid: bare.pid! },
  };
  try {
    const figures: Figure[] = [];
    for (const count of connections) {
      const mine: LoadResult[] = [];
      const other: LoadResult[] = [];
      await wrk({ ...targets.mayfly, connections: count, seconds: warmUpS });
      for (let turn = 0; turn < turns; turn++) {
        mine.push(await wrk({ ...targets.mayfly, connections: count, seconds: turnS }));
        other.push(await wrk({ ...targets.bare, connections: count, seconds: turnS }));
      }
      const of = (what: string, unit: Figure["unit"], value: (result: LoadResult) => number): Figure => ({
        what: `warm, ${count} connections: ${what}`,
        unit,
        mayfly: median(mine.map(value)),
        other: { name: "bare `node:http`", value: median(other.map(value)) },
        rounds: turns,
      });
      figures.push(
        of("p50", "ms", (result) => result.p50Ms),
        of("p99", "ms", (result) => result.p99Ms),
        of("requests", "/s", (result) => result.perSecond),
        of("CPU time a request, of the data plane alone", "µs", (result) => result.cpuUs),
      );
    }
    return figures;
  } finally {
    bare.kill("SIGKILL");
  }
}
