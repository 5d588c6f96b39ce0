/** What breaks under a platform that serves: its disk, its database, its control plane, an end in the middle of work. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFileSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "../../src/errors.ts";
import { atEnd } from "../at-end.ts";
import { childrenOf } from "../memory.ts";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { scratchDirectory } from "../scratch.ts";
import { eventually, type Mayfly } from "../server.ts";

const site = projectDirectory({
  "index.html": "page",
  "api/a.js": "module.exports = (req, res) => { console.log('said', req.url); res.send('a'); }",
  "api/cold.js": "module.exports = (req, res) => res.send('cold')",
});

/** Asks without end until `over`; whatever is not right is told. */
async function underLoad(mayfly: Mayfly, url: string, act: () => Promise<void>): Promise<void> {
  const over = new AbortController();
  const wrong: string[] = [];
  let asked = 0;
  const ask = async (path: string, expected: string): Promise<void> => {
    while (!over.signal.aborted) {
      const answer = await mayfly.fetch(url + path).then(
        ({ status, text }) => (status === 200 && text === expected ? null : `${path}: ${status} ${text.slice(0, 200)}`),
        (error: unknown) => `${path}: ${String(error)}`,
      );
      asked++;
      if (answer !== null) wrong.push(answer);
      await sleep(5);
    }
  };
  const asking = [ask("/", "page"), ask("/api/a", "a"), ask("/", "page")];
  try {
    await act();
  } finally {
    over.abort();
    await Promise.all(asking);
  }
  assert.ok(asked > 20);
  assert.deepEqual(wrong, []);
}

/** Has a file grow until there is no room. */
function fill(path: string): void {
  for (let bytes = 1 << 20; bytes >= 4096; bytes /= 2) {
    try {
      for (;;) appendFileSync(path, Buffer.alloc(bytes));
    } catch (error) {
      assert.equal(errnoOf(error), "ENOSPC");
    }
  }
}

it("serves on under load while its control plane is killed again and again", async () => {
  const mayfly = await startMayfly();
  const url = await mayfly.deploy(site, "--name", "load");
  await underLoad(mayfly, url, async () => {
    for (let kills = 0; kills < 3; kills++) {
      const [controlPlane] = childrenOf(mayfly.pid);
      if (controlPlane !== undefined) process.kill(controlPlane, "SIGKILL");
      await sleep(300);
    }
    await eventually("the API answers again", async () => ((await mayfly.run("ls")).code === 0 ? true : null));
  });
});

it("serves what it knows, boots included, while the database is locked, damaged and gone; without it the API fails with a code", async () => {
  const mayfly = await startMayfly();
  const url = await mayfly.deploy(site, "--name", "known");
  assert.equal((await mayfly.fetch(`${url}/api/a`)).text, "a");
  const path = join(mayfly.data, "mayfly.db");

  const other = new DatabaseSync(path);
  other.exec("BEGIN EXCLUSIVE");
  await underLoad(mayfly, url, async () => {
    assert.equal((await mayfly.fetch(`${url}/api/cold`)).text, "cold");
    const { code, stderr } = await mayfly.run("env", "add", "LOCKED=x", "--project", "known");
    assert.notEqual(code, 0, stderr);
  });
  other.exec("ROLLBACK");
  other.close();
  await eventually("it writes again", async () => ((await mayfly.run("deploy", site, "--name", "unlocked")).code === 0 ? true : null));

  const away = scratchDirectory();
  for (const suffix of ["", "-wal", "-shm"]) renameSync(path + suffix, join(away, `mayfly.db${suffix}`));
  await underLoad(mayfly, url, () => sleep(300));
  for (let bytes = 0; bytes < 2; bytes++) writeFileSync(path, randomBytes(bytes * 8192));
  const [controlPlane] = childrenOf(mayfly.pid);
  process.kill(controlPlane!, "SIGKILL");
  await underLoad(mayfly, url, async () => {
    await sleep(500);
    const { code, stderr } = await mayfly.run("ls");
    assert.notEqual(code, 0, stderr);
  });
  for (const suffix of ["", "-wal", "-shm"]) {
    rmSync(path + suffix, { force: true });
    renameSync(join(away, `mayfly.db${suffix}`), path + suffix);
  }
  await mayfly.kill();
  const next = await startMayfly({ home: mayfly.home });
  assert.equal((await next.fetch(`http://known.localhost:${next.port}/`)).text, "page", "nothing was lost");
});

it(
  "serves on, Functions and cold boots included, while its disk is full, refuses deployments, and goes on when there is room",
  { skip: process.getuid?.() === 0 ? false : "mounting a small disk needs root" },
  async () => {
    const home = scratchDirectory();
    const disk = join(home, "data");
    mkdirSync(disk);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=400m", "mayfly-test", disk]);
    atEnd(() => void execFileSync("umount", ["--lazy", disk]));
    const mayfly = await startMayfly({ home, env: { MAYFLY_DISK_FREE_BYTES_MIN: "0" } });
    const url = await mayfly.deploy(site, "--name", "full");
    assert.equal((await mayfly.fetch(`${url}/api/a?before`)).text, "a");
    const filler = join(disk, "filler");
    await underLoad(mayfly, url, async () => {
      fill(filler);
      // What the deployment leaves behind goes after it is ready, and makes room again.
      await sleep(1000);
      fill(filler);
      // Its bundle was never unpacked here: that it fails is no harm to others, and it has a code.
      const cold = await mayfly.fetch(`${url}/api/cold`, { headers: { accept: "application/json" } });
      if (cold.status !== 200) assert.match(String(cold.headers["x-vercel-error"]), /^[A-Z_]+$/, cold.text);
      const refused = await mayfly.run("deploy", projectDirectory({ "new.bin": randomBytes(3_000_000) }), "--name", "no-room");
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /disk_full/);
    });
    rmSync(filler);
    assert.equal((await mayfly.fetch(`${url}/api/cold`)).text, "cold");
    await mayfly.deploy(projectDirectory({ "index.html": "again" }), "--name", "no-room");
    assert.equal((await mayfly.fetch(`${url}/api/a?after`)).text, "a");
    await eventually("its log goes on", async () =>
      (await mayfly.run("logs", url, "--function", "api/a")).stdout.includes("/api/a?after") ? true : null,
    );
    assert.deepEqual(readdirSync(join(disk, "blobs", "incoming")), []);
  },
);

for (const keptMB of [100, 0]) {
  it(
    `a build that fills the disk, of which ${keptMB} MB are kept free, ends with that reason; its neighbours and the platform do not notice`,
    { skip: process.getuid?.() === 0 ? false : "mounting a small disk needs root" },
    async () => {
      const home = scratchDirectory();
      const disk = join(home, "data");
      mkdirSync(disk);
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=500m", "mayfly-test", disk]);
      atEnd(() => void execFileSync("umount", ["--lazy", disk]));
      const mayfly = await startMayfly({ home, env: { MAYFLY_DISK_FREE_BYTES_MIN: String(keptMB * 2 ** 20), MAYFLY_BUILDS_MAX: "2" } });
      const url = await mayfly.deploy(site, "--name", "neighbour");
      const glutton = projectDirectory({
        "package.json": JSON.stringify({ scripts: { build: "node fill.cjs" } }),
        "fill.cjs": 'const block = Buffer.alloc(1 << 22, 1); for (let n = 0; ; n++) require("fs").writeFileSync("part" + n, block);',
      });
      await underLoad(mayfly, url, async () => {
        const { code, stderr } = await mayfly.run("deploy", glutton, "--name", "glutton");
        assert.equal(code, 1);
        assert.match(stderr, /disk_full/);
      });
      const { json } = await mayfly.call("GET", "/v6/deployments?app=glutton");
      assert.deepEqual(
        (json["deployments"] as { state: string }[]).map(({ state }) => state),
        ["ERROR"],
      );
      assert.equal((await mayfly.fetch(`${await mayfly.deploy(site, "--name", "neighbour")}/api/cold`)).text, "cold");
    },
  );
}

it("ends in order in the middle of uploads and builds; the next start takes them up", async () => {
  let mayfly = await startMayfly();
  const slow = projectDirectory({
    "page.txt": "built",
    "package.json": JSON.stringify({ scripts: { build: "trap '' TERM; sleep 2; mkdir public && cp page.txt public/index.html" } }),
  });
  const { code, stdout, stderr } = await mayfly.run("deploy", slow, "--name", "slow", "--no-wait", "--json");
  assert.equal(code, 0, stderr);
  const { id } = JSON.parse(stdout) as { id: string };
  const upload = mayfly.spawn("deploy", projectDirectory({ "big.bin": randomBytes(80_000_000) }), "--name", "big");
  const uploaded = new Promise((resolve) => upload.once("exit", resolve));
  await sleep(700);
  await mayfly.stop();
  assert.equal(mayfly.process.exitCode, 0, mayfly.output);
  await uploaded;
  mayfly = await startMayfly({ home: mayfly.home });
  const state = await eventually("it is built", async () => {
    const deployment = JSON.parse((await mayfly.run("inspect", id, "--json")).stdout) as { readyState: string; host: string };
    return ["READY", "ERROR"].includes(deployment.readyState) ? deployment : null;
  });
  assert.equal(state.readyState, "READY");
  assert.equal((await mayfly.fetch(`http://${state.host}:${mayfly.port}/`)).text, "built");
  assert.deepEqual(readdirSync(join(mayfly.data, "blobs", "incoming")), []);
});
