/**
 * An uncached Function through the gateway, against nginx in front of the same handler on a unix socket: requests, what
 * each adds to the handler's own latency, and the CPU time of the process in between.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";
import { openNginx } from "./web-servers.ts";
import { median, missingPrograms, wrk, type LoadResult } from "./wrk.ts";

const rounds = 3;
const seconds = 4;

/** The handler alone: on a unix socket for nginx, and on a port to know its own latency. */
const handlerServer = `
const handler = require(process.argv[2]);
const answer = (req, res) => {
  res.json = (value) => { res.setHeader("content-type", "application/json; charset=utf-8"); res.end(JSON.stringify(value)); };
  handler(req, res);
};
const { createServer } = require("node:http");
createServer(answer).listen(process.argv[3], () => {
  createServer(answer).listen(0, "127.0.0.1", function () { process.stdout.write(String(this.address().port) + "\\n"); });
});
`;

export async function benchProxy(mayfly: Mayfly, hello: string, scratch: string): Promise<Figure[]> {
  const missing = missingPrograms("/usr/sbin/nginx", "/usr/bin/wrk");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const directory = join(scratch, "proxy");
  mkdirSync(join(directory, "api"), { recursive: true });
  cpSync(join(hello, "api/date.js"), join(directory, "api/date.js"));
  const { host } = new URL(await mayfly.deploy(directory, "--name", "proxy"));
  const socket = join(scratch, "handler.sock");
  writeFileSync(join(scratch, "handler.cjs"), handlerServer);
  const handler = spawn(process.execPath, [join(scratch, "handler.cjs"), join(directory, "api/date.js"), socket], {
    stdio: ["ignore", "pipe", "inherit"],
    env: {},
  });
  try {
    const [line] = (await once(handler.stdout, "data")) as [Buffer];
    using nginx = await openNginx(
      join(scratch, "nginx-proxy"),
      `proxy_pass http://handler; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;`,
      `upstream handler { server unix:${socket}; keepalive 64; }`,
    );
    const targets = {
      mayfly: { url: `${mayfly.api}/api/date`, pid: mayfly.pid },
      nginx: { url: `${nginx.origin}/api/date`, pid: nginx.pid },
      handler: { url: `http://127.0.0.1:${Number(line.toString())}/`, pid: handler.pid! },
    };
    const figures: Figure[] = [];
    for (const connections of [1, 16]) {
      await wrk({ ...targets.mayfly, host, connections, seconds: 2 }); // its instances boot
      const results: Record<keyof typeof targets, LoadResult[]> = { mayfly: [], nginx: [], handler: [] };
      for (let round = 0; round < rounds; round++) {
        for (const [name, target] of Object.entries(targets)) {
          results[name as keyof typeof targets].push(await wrk({ ...target, host, connections, seconds }));
        }
      }
      const of = (name: keyof typeof targets, read: (result: LoadResult) => number) => median(results[name].map(read));
      const added = (name: "mayfly" | "nginx", read: (result: LoadResult) => number) => of(name, read) - of("handler", read);
      const figure = (what: string, unit: Figure["unit"], mine: number, other: number): Figure => ({
        what: `Function through the gateway, ${connections} connections: ${what}`,
        unit,
        mayfly: mine,
        other: { name: "nginx", value: other },
        rounds,
      });
      const p50 = (result: LoadResult) => result.p50Ms;
      const p99 = (result: LoadResult) => result.p99Ms;
      const cpu = (result: LoadResult) => result.cpuUs;
      const perSecond = (result: LoadResult) => result.perSecond;
      figures.push(
        figure("requests", "/s", of("mayfly", perSecond), of("nginx", perSecond)),
        figure("added p50", "ms", added("mayfly", p50), added("nginx", p50)),
        figure("added p99", "ms", added("mayfly", p99), added("nginx", p99)),
        figure("CPU time a request in between", "µs", of("mayfly", cpu), of("nginx", cpu)),
      );
    }
    return figures;
  } finally {
    handler.kill("SIGKILL");
  }
}
