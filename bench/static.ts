/** Static files of 1, 10 and 200 KB at 16 connections against nginx and Caddy with one worker each: requests, p99, CPU time. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";
import { openCaddy, openNginx } from "./web-servers.ts";
import { median, missingPrograms, wrk, type LoadResult } from "./wrk.ts";

const sizesKB = [1, 10, 200];
const connections = 16;
const rounds = 3;
const seconds = 4;

export async function benchStatic(mayfly: Mayfly, scratch: string): Promise<Figure[]> {
  const missing = missingPrograms("/usr/sbin/nginx", "/usr/bin/caddy", "/usr/bin/wrk");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const root = join(scratch, "static");
  mkdirSync(root, { recursive: true });
  for (const size of sizesKB) writeFileSync(join(root, `${size}.html`), "x".repeat(size * 1024));
  const url = await mayfly.deploy(root, "--name", "static");
  using nginx = await openNginx(join(scratch, "nginx"), `root ${root};`);
  using caddy = await openCaddy(join(scratch, "caddy"), root);
  const servers = { mayfly: { origin: mayfly.api, pid: mayfly.pid }, nginx, caddy };
  const host = new URL(url).host;

  const figures: Figure[] = [];
  for (const size of sizesKB) {
    const results: Record<keyof typeof servers, LoadResult[]> = { mayfly: [], nginx: [], caddy: [] };
    for (let round = 0; round < rounds; round++) {
      for (const [name, { origin, pid }] of Object.entries(servers)) {
        results[name as keyof typeof servers].push(await wrk({ url: `${origin}/${size}.html`, host, connections, seconds, pid }));
      }
    }
    const of = (name: keyof typeof servers, read: (result: LoadResult) => number) => median(results[name].map(read));
    const compare = (what: string, unit: Figure["unit"], other: "nginx" | "caddy", read: (result: LoadResult) => number): Figure => ({
      what: `static ${size} KB: ${what}`,
      unit,
      mayfly: of("mayfly", read),
      other: { name: other === "nginx" ? "nginx" : "Caddy", value: of(other, read) },
      rounds,
    });
    figures.push(
      compare("requests", "/s", "nginx", (result) => result.perSecond),
      compare("requests", "/s", "caddy", (result) => result.perSecond),
      compare("p99", "ms", "nginx", (result) => result.p99Ms),
      compare("p99", "ms", "caddy", (result) => result.p99Ms),
      compare("CPU time a request", "µs", "nginx", (result) => result.cpuUs),
      compare("CPU time a request", "µs", "caddy", (result) => result.cpuUs),
    );
  }
  return figures;
}
