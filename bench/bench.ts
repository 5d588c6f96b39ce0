/**
 * `npm run bench [-- CASE…]`: every promised figure, each beside the thing it must beat, measured in the same run. Prints
 * the table of BENCHMARKS.md.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { openMayfly } from "../test/server.ts";
import { benchApi } from "./api.ts";
import { benchBuilds, benchProjects, benchSharing } from "./builds.ts";
import { benchBursts } from "./bursts.ts";
import { benchCached } from "./cached.ts";
import { benchConnections } from "./connections.ts";
import { benchColdStarts } from "./cold-starts.ts";
import { benchDensity } from "./density.ts";
import { benchDeploys } from "./deploys.ts";
import { benchLargeDeploys } from "./deploys-large.ts";
import { benchHttp2 } from "./http2.ts";
import { benchProxy } from "./proxy.ts";
import { benchRequestLog } from "./request-log.ts";
import { benchScale } from "./scale.ts";
import { benchSockets } from "./sockets.ts";
import { benchSpawn } from "./spawn.ts";
import { benchStatic } from "./static.ts";
import { freePort } from "./web-servers.ts";
import { tableOf, type Figure } from "./table.ts";
import { benchWarm } from "./warm.ts";

const hello = join(dirname(import.meta.dirname), "examples", "hello");
const scratch = mkdtempSync(join(tmpdir(), "mayfly-bench-"));

const cases: Readonly<Record<string, () => Promise<Figure[]>>> = {
  api: () => withServer(benchApi),
  deploys: () => withServer((mayfly, directory) => benchDeploys(mayfly, hello, directory)),
  builds: () => withServer(benchBuilds),
  projects: () => withServer(benchProjects),
  sharing: () => withServer(benchSharing),
  clients: () => withServer((mayfly, directory) => benchLargeDeploys(mayfly, directory)),
  cold: () => benchColdStarts(scratch),
  warm: () => withServer((mayfly, directory) => benchWarm(mayfly, hello, directory)),
  bursts: () => benchBursts(hello, scratch),
  spawn: benchSpawn,
  static: () => withServer(benchStatic),
  sockets: () => benchSockets(scratch),
  http2: async () => {
    const httpsPort = await freePort();
    return withServer((mayfly, directory) => benchHttp2(mayfly, directory, httpsPort), ["--https-port", String(httpsPort)]);
  },
  proxy: () => withServer((mayfly, directory) => benchProxy(mayfly, hello, directory)),
  cached: () => withServer(benchCached),
  scale: benchScale,
  connections: () => withServer(benchConnections),
  density: () => benchDensity(scratch),
  "request-log": () => benchRequestLog(scratch),
};

async function withServer(
  bench: (mayfly: Awaited<ReturnType<typeof openMayfly>>, directory: string) => Promise<Figure[]>,
  flags: readonly string[] = [],
): Promise<Figure[]> {
  const home = mkdtempSync(join(scratch, "server-"));
  const mayfly = await openMayfly({ home, flags });
  try {
    const directory = join(home, "projects");
    mkdirSync(directory);
    return await bench(mayfly, directory);
  } finally {
    await mayfly.stop();
  }
}

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(cases);
const unknown = chosen.filter((name) => !Object.hasOwn(cases, name));
if (unknown.length > 0) {
  console.error(`There is no case ${unknown.join(", ")}; there are ${Object.keys(cases).join(", ")}.`);
  process.exit(2);
}
try {
  console.log(`${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.versions.node}`);
  for (const name of chosen) {
    const figures = await cases[name]!();
    console.log(`\n### ${name}\n\n${tableOf(figures)}`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
