/** What is below the front: a server that only reads and writes sockets, as Node accepts them and as the front does, against nginx with a file. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Figure } from "./table.ts";
import { openNginx, type WebServer } from "./web-servers.ts";
import { median, missingPrograms, wrk, type LoadResult } from "./wrk.ts";

const sizesKB = [1, 10];
const connections = 16;
const rounds = 5;
const seconds = 2;

export async function benchSockets(scratch: string): Promise<Figure[]> {
  const missing = missingPrograms("/usr/sbin/nginx", "/usr/bin/wrk");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const root = join(scratch, "sockets");
  mkdirSync(root, { recursive: true });
  for (const size of sizesKB) writeFileSync(join(root, `${size}.html`), "x".repeat(size * 1024));
  using nginx = await openNginx(join(scratch, "nginx-sockets"), `root ${root};`);
  const figures: Figure[] = [];
  for (const size of sizesKB) {
    using accepted = await openBareServer(size * 1024, "accepted");
    using adopted = await openBareServer(size * 1024, "adopted");
    const servers = { accepted, adopted, nginx };
    const results: Record<keyof typeof servers, LoadResult[]> = { accepted: [], adopted: [], nginx: [] };
    for (let round = 0; round < rounds; round++) {
      for (const [name, { origin, pid }] of Object.entries(servers)) {
        const result = await wrk({ url: `${origin}/${size}.html`, host: "localhost", connections, seconds, pid });
        results[name as keyof typeof servers].push(result);
      }
    }
    const of = (name: keyof typeof servers) => median(results[name].map((result) => result.cpuUs));
    for (const other of ["accepted", "nginx"] as const) {
      figures.push({
        what: `sockets alone, ${size} KB: CPU time an answer`,
        unit: "µs",
        mayfly: of("adopted"),
        other: { name: other === "nginx" ? "nginx with a file" : "as Node reads", value: of(other) },
        rounds,
      });
    }
  }
  return figures;
}

async function openBareServer(bytes: number, way: "accepted" | "adopted"): Promise<WebServer> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "bare-server.ts"), String(bytes), way], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  return { origin: `http://127.0.0.1:${String(port).trim()}`, pid: child.pid!, [Symbol.dispose]: () => void child.kill("SIGTERM") };
}
