/** A Function's answer that the edge keeps, 10 KB at 16 connections, against Varnish and nginx's proxy_cache before a server of the same answer. */
import { createServer } from "node:http";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { writeFiles, type Mayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";
import { openNginx, openVarnish } from "./web-servers.ts";
import { median, missingPrograms, wrk, type LoadResult } from "./wrk.ts";

const connections = 16;
const rounds = 3;
const seconds = 3;
const body = "x".repeat(10 * 1024);

export async function benchCached(mayfly: Mayfly, scratch: string): Promise<Figure[]> {
  const missing = missingPrograms("/usr/sbin/nginx", "/usr/sbin/varnishd", "/usr/bin/wrk");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const project = join(scratch, "cached");
  writeFiles(project, {
    "api/kept.js": `module.exports = (req, res) => { res.setHeader("cache-control", "s-maxage=3600"); res.setHeader("content-type", "text/html"); res.end("x".repeat(${body.length})); };`,
  });
  const { host } = new URL(await mayfly.deploy(project, "--name", "cached"));
  const origin = createServer((_request, response) => {
    response.setHeader("cache-control", "s-maxage=3600").setHeader("content-type", "text/html").end(body);
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const { port } = origin.address() as AddressInfo;
  try {
    const cacheDirectory = join(scratch, "nginx-cached", "cache");
    mkdirSync(cacheDirectory, { recursive: true });
    using nginx = await openNginx(
      join(scratch, "nginx-cached"),
      `proxy_pass http://127.0.0.1:${port}; proxy_cache kept; proxy_cache_valid 200 1h; proxy_ignore_headers cache-control;`,
      `proxy_cache_path ${cacheDirectory} keys_zone=kept:10m;`,
    );
    using varnish = await openVarnish(join(scratch, "varnish"), port);
    const servers = { mayfly: { origin: mayfly.api, pid: mayfly.pid }, nginx, varnish };
    const results: Record<keyof typeof servers, LoadResult[]> = { mayfly: [], nginx: [], varnish: [] };
    for (let round = 0; round < rounds; round++) {
      for (const [name, server] of Object.entries(servers)) {
        const url = `${server.origin}/api/kept`;
        if (round === 0) await fetch(url, { headers: { host } }).then((response) => response.text());
        results[name as keyof typeof servers].push(await wrk({ url, host, connections, seconds, pid: server.pid }));
      }
    }
    const of = (name: keyof typeof servers, read: (result: LoadResult) => number) => median(results[name].map(read));
    const compare = (what: string, unit: Figure["unit"], other: "nginx" | "varnish", read: (result: LoadResult) => number): Figure => ({
      what: `cached Function response, 10 KB: ${what}`,
      unit,
      mayfly: of("mayfly", read),
      other: { name: other === "nginx" ? "nginx proxy_cache" : "Varnish", value: of(other, read) },
      rounds,
    });
    return (["nginx", "varnish"] as const).flatMap((other) => [
      compare("requests", "/s", other, (result) => result.perSecond),
      compare("p99", "ms", other, (result) => result.p99Ms),
      compare("CPU time a request", "µs", other, (result) => result.cpuUs),
    ]);
  } finally {
    origin.close();
    origin.closeAllConnections();
  }
}
