/** The API: how long calls take, and deploys of 1,000 files of which one changed, by our client and by the official one. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Pool } from "undici";
import { installClients, runVercel, versions } from "../test/clients/clients.ts";
import { cleanEnv, type Mayfly } from "../test/server.ts";
import { Sample } from "./sample.ts";
import type { Figure } from "./table.ts";

const calls = 200;
const uploads = 1000;
/** As many as the official client sends at once. */
const uploadsAtOnce = 50;
const deploys = 3;
const files = 1000;

export async function benchApi(mayfly: Mayfly, scratch: string): Promise<Figure[]> {
  const tokens = JSON.parse(readFileSync(join(mayfly.home, "config", "mayfly", "credentials.json"), "utf8")) as Record<string, string>;
  const token = Object.values(tokens)[0]!;
  const pool = new Pool(mayfly.api, { connections: uploadsAtOnce });
  const call = async (method: "GET" | "POST", path: string, body?: string | Buffer, headers: Record<string, string> = {}) => {
    const response = await pool.request({ method, path, headers: { authorization: `Bearer ${token}`, ...headers }, body: body ?? null });
    const text = await response.body.text();
    if (response.statusCode >= 300) throw new Error(`${method} ${path}: ${response.statusCode} ${text}`);
    return text;
  };

  const directory = join(scratch, "thousand");
  for (let index = 0; index < files; index++) {
    mkdirSync(join(directory, `d${index % 20}`), { recursive: true });
    writeFileSync(join(directory, `d${index % 20}`, `f${index}.txt`), `file ${index}`);
  }
  const change = (round: number) => writeFileSync(join(directory, "d0", "f0.txt"), `changed ${round} ${Math.random()}`);
  await mayfly.deploy(directory, "--name", "thousand");

  const reads = new Sample();
  const lists = new Sample();
  const writes = new Sample();
  for (let index = 0; index < calls; index++) {
    await reads.time(() => call("GET", "/v9/projects/thousand"));
    await lists.time(() => call("GET", "/v6/deployments?limit=20"));
    if (index % 4 !== 0) continue;
    await writes.time(() => call("POST", "/v10/projects/thousand/env?upsert=true", JSON.stringify({ key: "K", value: String(index) })));
  }

  const sent = new Sample();
  await sent.time(async () => {
    let next = 0;
    await Promise.all(
      Array.from({ length: uploadsAtOnce }, async () => {
        while (next < uploads) {
          const content = Buffer.from(`upload ${next++} ${Math.random()}`);
          const sha1 = createHash("sha1").update(content).digest("hex");
          await call("POST", "/v2/files", content, { "x-now-digest": sha1, "content-type": "application/octet-stream" });
        }
      }),
    );
  });
  await pool.close();

  installClients();
  const env = { ...cleanEnv(mayfly.home), VERCEL_TOKEN: token };
  const global = join(scratch, "vercel");
  mkdirSync(global);
  writeFileSync(join(global, "config.json"), JSON.stringify({ api: mayfly.api, telemetry: { enabled: false } }));
  writeFileSync(join(global, "auth.json"), JSON.stringify({ token }));
  const ours = new Sample();
  const theirs = new Sample();
  const [version] = versions;
  const vercel = async () => {
    const { code, stderr } = await runVercel(version, ["deploy", "--yes"], { cwd: directory, global, env });
    if (code !== 0) throw new Error(`vercel deploy ended with ${code}:\n${stderr}`);
  };
  change(-1);
  await vercel(); // links the directory
  for (let round = 0; round < deploys; round++) {
    change(round);
    await ours.time(() => mayfly.deploy(directory, "--name", "thousand"));
    change(deploys + round);
    await theirs.time(vercel);
  }

  const figure = (what: string, value: number, sample: Sample, other: Figure["other"] = null): Figure => ({
    what,
    unit: "ms",
    mayfly: value,
    other,
    rounds: sample.count,
  });
  return [
    figure("API: GET a project, p50", reads.p50, reads),
    figure("the same, p99", reads.p99, reads),
    figure("API: list 20 deployments, p50", lists.p50, lists),
    figure("the same, p99", lists.p99, lists),
    figure("API: set a variable (on disk when answered), p50", writes.p50, writes),
    figure("the same, p99", writes.p99, writes),
    figure(`${uploads} uploads of tiny files, ${uploadsAtOnce} at once`, sent.p50, sent),
    figure("deploy of 1,000 files of which 1 changed, to the same server", ours.p50, ours, {
      name: `vercel deploy ${version}`,
      value: theirs.p50,
    }),
  ];
}
