/**
 * The warm path at 1, 16 and 64 connections, instances frozen between requests, against the same handler behind a bare
 * `node:http` server. Closed loop: a connection asks again as soon as it has its answer.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "undici";
import type { Mayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const connections = [1, 16, 64];
const turns = 5;
const turnMs = 1500;

const bareServer = `
const handler = require(process.argv[2]);
require("node:http").createServer((req, res) => {
  res.json = (value) => { res.setHeader("content-type", "application/json; charset=utf-8"); res.end(JSON.stringify(value)); };
  handler(req, res);
}).listen(0, "127.0.0.1", function () { process.stdout.write(String(this.address().port) + "\\n"); });
`;

export async function benchWarm(mayfly: Mayfly, hello: string, scratch: string): Promise<Figure[]> {
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
    mayfly: { origin: mayfly.api, path: "/api/date", headers: { host: new URL(url).host } },
    bare: { origin: `http://127.0.0.1:${Number(line.toString())}`, path: "/", headers: {} },
  };
  try {
    const figures: Figure[] = [];
    for (const count of connections) {
      const mine = new Sample();
      const other = new Sample();
      await load(targets.mayfly, count, new Sample()); // its instances boot
      for (let turn = 0; turn < turns; turn++) {
        await load(targets.mayfly, count, mine);
        await load(targets.bare, count, other);
      }
      const of = (what: string, unit: Figure["unit"], a: number, b: number): Figure => ({
        what: `warm, ${count} connections: ${what}`,
        unit,
        mayfly: a,
        other: { name: "bare `node:http`", value: b },
        rounds: mine.count,
      });
      const rate = (sample: Sample) => sample.count / ((turns * turnMs) / 1000);
      figures.push(
        of("p50", "ms", mine.p50, other.p50),
        of("p99", "ms", mine.p99, other.p99),
        of("requests", "/s", rate(mine), rate(other)),
      );
    }
    return figures;
  } finally {
    bare.kill("SIGKILL");
  }
}

async function load(
  target: { origin: string; path: string; headers: Record<string, string> },
  count: number,
  sample: Sample,
): Promise<void> {
  const end = performance.now() + turnMs;
  const loop = async () => {
    const client = new Client(target.origin);
    while (performance.now() < end) {
      await sample.time(async () => {
        const { statusCode, body } = await client.request({ path: target.path, method: "GET", headers: target.headers });
        await body.dump();
        if (statusCode !== 200) throw new Error(`${target.origin}${target.path} answered ${statusCode}.`);
      });
    }
    await client.close();
  };
  await Promise.all(Array.from({ length: count }, loop));
}
