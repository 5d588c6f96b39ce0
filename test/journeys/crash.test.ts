/** Ends that nobody planned: what was acknowledged is kept, nothing half-made is served, sites outlive the control plane. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { atEnd } from "../at-end.ts";
import { childrenOf } from "../memory.ts";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import { scratchDirectory } from "../scratch.ts";
import { eventually, writeFiles } from "../server.ts";

it("serves on while the control plane is dead, and brings it back", async () => {
  const mayfly = await startMayfly();
  const url = await mayfly.deploy(
    projectDirectory({ "index.html": "page", "api/a.js": "module.exports = (req, res) => res.send('a')" }),
    "--name",
    "alive",
  );
  const [controlPlane] = childrenOf(mayfly.pid);
  assert.ok(controlPlane);
  process.kill(controlPlane, "SIGKILL");
  for (let i = 0; i < 20; i++) {
    assert.equal((await mayfly.fetch(url)).text, "page");
    assert.equal((await mayfly.fetch(`${url}/api/a`)).text, "a");
  }
  await eventually("the API answers again", async () => ((await mayfly.run("ls")).code === 0 ? true : null));
});

it(
  "finishes or fails every acknowledged deployment after kill -9 at any point, and serves only whole ones",
  { timeout: 240_000 },
  async () => {
    let mayfly = await startMayfly();
    const directory = projectDirectory({
      "package.json": JSON.stringify({ scripts: { build: "sleep 0.3; mkdir -p public && cp *.txt public/" } }),
      "api/a.js": "module.exports = (req, res) => res.send('a')",
    });
    writeFiles(directory, { "n.txt": "warm-up" });
    await mayfly.deploy(directory, "--name", "warm-up");
    const acknowledged: { id: string; url: string; index: number }[] = [];
    for (let index = 0; index < 8; index++) {
      writeFiles(directory, { "n.txt": String(index) });
      // --no-wait returns when the server has acknowledged; the kill then hits another moment of the build each time.
      const { code, stdout, stderr } = await mayfly.run("deploy", directory, "--name", `kill-${index}`, "--no-wait", "--json");
      assert.equal(code, 0, stderr);
      acknowledged.push({ ...(JSON.parse(stdout) as { id: string; url: string }), index });
      await new Promise((resolve) => setTimeout(resolve, index * 130));
      await mayfly.kill();
      mayfly = await startMayfly({ home: mayfly.home });
    }
    for (const { id, index } of acknowledged) {
      const state = await eventually(`deployment ${index} is final`, async () => {
        const { stdout } = await mayfly.run("inspect", id, "--json");
        const deployment = JSON.parse(stdout) as { readyState: string; host: string };
        return ["READY", "ERROR"].includes(deployment.readyState) ? deployment : null;
      });
      const reply = await mayfly.fetch(`http://${state.host}:${mayfly.port}/n.txt`);
      if (state.readyState === "READY") assert.deepEqual([reply.status, reply.text], [200, String(index)]);
      else assert.equal(reply.status, 404);
    }
    assert.deepEqual(readdirSync(join(mayfly.data, "blobs", "incoming")), [], "no half blob is left");
  },
);

it("keeps answering when a deployment's upload is cut off in the middle", async () => {
  const mayfly = await startMayfly();
  const directory = projectDirectory({ "index.html": "x", "big.bin": Buffer.alloc(60_000_000, 1) });
  const child = mayfly.spawn("deploy", directory, "--name", "cut");
  await new Promise((resolve) => setTimeout(resolve, 350));
  child.kill("SIGKILL");
  assert.equal((await mayfly.fetch(await mayfly.deploy(directory, "--name", "cut"))).text, "x");
});

it(
  "refuses deployments while the disk is full, and serves on",
  { skip: process.getuid?.() === 0 ? false : "mounting a small disk needs root" },
  async () => {
    const home = scratchDirectory();
    const disk = join(home, "data");
    mkdirSync(disk);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=48m", "mayfly-test", disk]);
    atEnd(() => void execFileSync("umount", ["--lazy", disk]));
    const mayfly = await startMayfly({ home, env: { MAYFLY_DISK_FREE_BYTES_MIN: "0" }, flags: ["--sandbox", "process"] });
    const url = await mayfly.deploy(
      projectDirectory({ "index.html": "page", "api/a.js": "module.exports = (req, res) => res.send('a')" }),
      "--name",
      "small",
    );
    const tooBig = await mayfly.run("deploy", projectDirectory({ "big.bin": randomBytes(60_000_000) }), "--name", "big");
    assert.equal(tooBig.code, 1);
    assert.match(tooBig.stderr, /disk_full/);
    assert.equal((await mayfly.fetch(url)).text, "page");
    assert.equal((await mayfly.fetch(`${url}/api/a`)).text, "a");
    assert.deepEqual(readdirSync(join(disk, "blobs", "incoming")), [], "the half file is gone");
    await mayfly.deploy(projectDirectory({ "index.html": "again" }), "--name", "small");
    await mayfly.stop();

    const careful = await startMayfly({ home, env: { MAYFLY_DISK_FREE_BYTES_MIN: "1000000000" }, flags: ["--sandbox", "process"] });
    const refused = await careful.run("deploy", projectDirectory({ "index.html": "no room" }), "--name", "small");
    assert.match(refused.stderr, /disk_full/);
    assert.equal((await careful.fetch(`http://${new URL(url).hostname}:${careful.port}/`)).text, "page");
  },
);
