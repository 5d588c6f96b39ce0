/**
 * kill -9 of the whole platform at random moments of starts, boots, requests and builds, as often as 5 s allow
 * (`npm run test:kills`: for minutes): the next start sweeps, and after an end in order nothing of it is on the machine.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "../../src/errors.ts";
import { whyNoOci } from "../../src/sandbox/oci.ts";
import { tracesOf } from "../../src/sandbox/testbed.ts";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { childrenOf } from "../memory.ts";
import { scratchDirectory } from "../scratch.ts";
import { eventually, type Mayfly } from "../server.ts";

const killingMs = Number(process.env["KILLING_MS"] ?? 5_000);
const killsMin = 2;
const why = await whyNoOci({ dataDirectory: scratchDirectory(), nodeBinary: process.execPath, networkAllow: [] });

/** One that has ended meanwhile, since the other plane had, is as good. */
function killHard(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errnoOf(error) !== "ESRCH") throw error;
  }
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`);

/** Blocks of sandboxes, by who holds them. */
function blocks(): ReadonlyMap<string, number> {
  const held = new Map<string, number>();
  for (const name of existsSync("/run/mayfly") ? readdirSync("/run/mayfly") : []) {
    if (!name.endsWith(".lock")) continue;
    try {
      held.set(name.slice(0, -".lock".length), Number(readFileSync(join("/run/mayfly", name), "utf8")));
    } catch {
      // given back meanwhile
    }
  }
  return held;
}

it("leaves nothing behind, whenever it is killed", { skip: why ?? false, timeout: killingMs + 240_000 }, async (test) => {
  const home = scratchDirectory();
  const temporary = scratchDirectory();
  const options = { home, flags: ["--sandbox", "oci"], env: { TMPDIR: temporary, MAYFLY_BUILDS_MAX: "2" } };
  const ours = new Set<string>();
  const pids = new Set<number>();
  const note = (mayfly: Mayfly): readonly number[] => {
    const own = [mayfly.pid, ...childrenOf(mayfly.pid)];
    for (const pid of own) pids.add(pid);
    for (const [block, pid] of blocks()) if (own.includes(pid)) ours.add(block);
    return own;
  };
  const site = projectDirectory({
    "index.html": "page",
    "api/a.js": "module.exports = (req, res) => res.end('a')",
    "api/slow.js": `require("child_process").spawn("setsid", ["sleep", "1000"], { stdio: "ignore" });
      module.exports = (req, res) => setTimeout(() => res.end("slow"), 1000)`,
    "package.json": JSON.stringify({ scripts: { build: "mkdir -p public && cp index.html public/ && (setsid sleep 1000 &) ; sleep 0.4" } }),
  });

  let mayfly = await startMayfly(options);
  const url = new URL(await mayfly.deploy(site, "--name", "kept"));
  const listed = readdirSync(mayfly.data);
  const deadline = Date.now() + killingMs;
  let kills = 0;
  while (kills < killsMin || Date.now() < deadline) {
    note(mayfly);
    const at = (path: string): string => `http://${url.hostname}:${mayfly.port}${path}`;
    const work = [
      ...["/api/a", "/api/slow", "/api/slow", "/", "/api/a"].map((path) => mayfly.fetch(at(path)).catch(() => null)),
      mayfly.run("deploy", site, "--name", `other-${kills}`, "--force", "--no-wait"),
      mayfly.run("deploy", site, "--name", "kept", "--force", "--no-wait"),
    ];
    await sleep(Math.random() * 1500);
    const own = note(mayfly);
    // The data plane alone, both at once, or the control plane first.
    const order = [[mayfly.pid], own, own.toReversed()][kills % 3]!;
    for (const pid of order) killHard(pid);
    await mayfly.kill();
    kills++;
    await Promise.all(work);
    // One more that does not even come to its start.
    const early = mayfly.spawn("start", "--port", "0", "--data", mayfly.data, "--no-example", "--sandbox", "oci");
    await sleep(Math.random() * 1200);
    early.kill("SIGKILL");
    kills++;
    mayfly = await startMayfly(options);
    assert.equal((await mayfly.fetch(at("/"))).text, "page");
    assert.equal((await mayfly.fetch(at("/api/a"))).text, "a");
  }
  test.diagnostic(`${kills} kills`);

  await eventually("what was cut off is finished", async () => {
    const { stdout } = await mayfly.run("ls", "--json");
    return /"(QUEUED|BUILDING|INITIALIZING)"/.test(stdout) ? null : true;
  });
  note(mayfly);
  await mayfly.stop();
  await eventually("all its processes are gone", () => ([...pids].some(isAlive) ? null : true));

  assert.ok(ours.size >= 2, "it had blocks of sandboxes");
  for (const block of ours) {
    const traces = tracesOf(block);
    // Another process of this machine may have taken the block by now; then what is there is its own.
    const holder = blocks().get(block);
    if (holder === undefined || pids.has(holder)) assert.deepEqual(traces, [], `block ${block}`);
  }
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  for (const place of [realpathSync(home), realpathSync(temporary)])
    assert.deepEqual(
      mounts.filter((line) => line.includes(place)),
      [],
    );
  // Node's own, of the command line, is a cache for all that come later.
  assert.deepEqual(
    readdirSync(temporary).filter((name) => name !== "node-compile-cache"),
    [],
  );
  assert.deepEqual(
    readdirSync(mayfly.data).filter((name) => !listed.includes(name)),
    [],
    "the data directory",
  );
  for (const empty of ["run", "builds", "blobs/incoming", "sandboxes"]) {
    const place = join(mayfly.data, empty);
    if (existsSync(place)) assert.deepEqual(readdirSync(place), [], empty);
  }
  for (const whole of ["rootfs", "compiled", "toolchains", "bundles", "functions"]) {
    const place = join(mayfly.data, whole);
    const names = existsSync(place) ? readdirSync(place) : [];
    assert.deepEqual(
      names.filter((name) => name.startsWith(".") || /\.[0-9a-z]{8,12}$/.test(name)),
      [],
      `${whole}: ${names.join(" ")}`,
    );
  }
});
