/** Static files over HTTP/2 and TLS, 4 connections with 8 requests at a time each, against nginx with one worker: requests, CPU time. */
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Mayfly } from "../test/server.ts";
import type { Figure } from "./table.ts";
import { openNginx } from "./web-servers.ts";
import { cpuSeconds, median, missingPrograms } from "./wrk.ts";

const run = promisify(execFile);
const sizesKB = [1, 10];
const requests = 20_000;
const rounds = 5;

/** @param mayfly speaks TLS at `httpsPort` */
export async function benchHttp2(mayfly: Mayfly, scratch: string, httpsPort: number): Promise<Figure[]> {
  const missing = missingPrograms("/usr/sbin/nginx", "/usr/bin/h2load", "/usr/bin/openssl");
  if (missing !== null) {
    console.log(missing);
    return [];
  }
  const root = join(scratch, "http2");
  mkdirSync(root, { recursive: true });
  for (const size of sizesKB) writeFileSync(join(root, `${size}.html`), "x".repeat(size * 1024));
  const { hostname } = new URL(await mayfly.deploy(root, "--name", "http2"));
  const [key, certificate] = [join(scratch, "key.pem"), join(scratch, "certificate.pem")];
  const options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(" ");
  execFileSync("openssl", ["req", ...options, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  using nginx = await openNginx(
    join(scratch, "nginx-http2"),
    `root ${root};`,
    "",
    `ssl http2; ssl_certificate ${certificate}; ssl_certificate_key ${key}`,
  );
  const servers = { mayfly: { port: httpsPort, pid: mayfly.pid }, nginx: { port: Number(new URL(nginx.origin).port), pid: nginx.pid } };

  const figures: Figure[] = [];
  for (const size of sizesKB) {
    const results: Record<keyof typeof servers, Load[]> = { mayfly: [], nginx: [] };
    for (let round = 0; round < rounds; round++) {
      for (const [name, { port, pid }] of Object.entries(servers)) {
        results[name as keyof typeof servers].push(await h2load(`https://${hostname}:${port}/${size}.html`, port, pid));
      }
    }
    const compare = (what: string, unit: Figure["unit"], read: (load: Load) => number): Figure => ({
      what: `HTTP/2, static ${size} KB: ${what}`,
      unit,
      mayfly: median(results.mayfly.map(read)),
      other: { name: "nginx", value: median(results.nginx.map(read)) },
      rounds,
    });
    figures.push(
      compare("requests", "/s", (load) => load.perSecond),
      compare("CPU time a request", "µs", (load) => load.cpuUs),
    );
  }
  return figures;
}

interface Load {
  readonly perSecond: number;
  readonly cpuUs: number;
}

/** @throws Error when not every answer was 2xx */
async function h2load(url: string, port: number, pid: number): Promise<Load> {
  const before = cpuSeconds(pid);
  const { stdout } = await run("h2load", ["-t1", "-c4", "-m8", `-n${requests}`, `--connect-to=127.0.0.1:${port}`, url]);
  const cpu = cpuSeconds(pid) - before;
  if (!stdout.includes(`status codes: ${requests} 2xx`)) throw new Error(`h2load ${url}:\n${stdout}`);
  return { perSecond: Number(/([\d.]+) req\/s/.exec(stdout)?.[1]), cpuUs: (cpu * 1_000_000) / requests };
}
