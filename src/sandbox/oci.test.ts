/** What the OCI driver promises beyond the conformance suite: it leaves nothing behind, sweeps after the dead, and routes as told. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { openOciSandboxes, whyNoOci } from "./oci.ts";
import { ask, probeSpec, processesWith, until, within } from "./sandbox.conformance.ts";
import type { SandboxDriverOptions } from "./sandbox.ts";
import { fakeInternet, tracesOf } from "./testbed.ts";

const options: SandboxDriverOptions = { dataDirectory: scratchDirectory(), nodeBinary: process.execPath, networkAllow: [] };
const why = await whyNoOci(options);

const blockOf = (id: string): string => id.split("-")[1] ?? "";

describe("OCI sandboxes", { skip: why ?? false, timeout: 120_000 }, () => {
  it("leave nothing on the machine", async () => {
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    const driver = await openOciSandboxes(options);
    const first = await driver.create({ ...probeSpec, network: "internet" });
    await ask(first, "0");
    const block = blockOf(first.id);
    assert.ok(tracesOf(block).length >= 5);
    await first.destroy();
    const open = descriptors();
    for (let i = 0; i < 3; i++) {
      const sandbox = await driver.create({ ...probeSpec, network: "internet" });
      await ask(sandbox, "0");
      await sandbox.attach("/usr", "/var/task");
      await sandbox.destroy();
      await until(() => sandbox.stdout.closed && sandbox.stderr.closed, "the streams are closed");
    }
    await until(() => descriptors() <= open, "every descriptor is given back");
    await driver.close();
    assert.deepEqual(tracesOf(block), []);
  });

  it("sweep what a killed process has left, and take its block over", async () => {
    const script = `
      import { spawn } from "node:child_process";
      import { openOciSandboxes } from ${JSON.stringify(new URL("oci.ts", import.meta.url).href)};
      import { probeSpec, ask } from ${JSON.stringify(new URL("sandbox.conformance.ts", import.meta.url).href)};
      const driver = await openOciSandboxes(${JSON.stringify(options)});
      const frozen = await driver.create({ ...probeSpec, network: "internet", env: { ...probeSpec.env, MARK: "left" } });
      await ask(frozen, "0");
      await frozen.freeze();
      const running = await driver.create({ ...probeSpec, argv: ["/bin/sleep", "97531.${process.pid}"] });
      // As a container that was made and is not in its group yet.
      const userId = 700_000 + Number(running.id.split("-")[1]) * 512 + 511;
      spawn("/bin/sleep", ["97532.${process.pid}"], { detached: true, stdio: "ignore", uid: userId }).unref();
      console.log(running.id);
      setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await within(once(owner.stdout, "data"), "the owner's sandboxes")) as [Buffer];
    const block = blockOf(line.toString());
    owner.kill("SIGKILL");
    await once(owner, "exit");
    assert.ok(processesWith(`sleep 97531.${process.pid}`) > 0, "the guest outlives its owner");
    assert.equal(processesWith(`sleep 97532.${process.pid}`), 1);
    assert.notDeepEqual(tracesOf(block), []);

    const driver = await openOciSandboxes(options);
    assert.equal(processesWith(`sleep 97531.${process.pid}`), 0);
    assert.equal(processesWith(`sleep 97532.${process.pid}`), 0);
    const sandbox = await driver.create({ ...probeSpec, network: "internet" });
    assert.equal(await ask(sandbox, "1"), 1);
    await driver.close();
    // Another test's process may have taken the block by now; then what is there is its own.
    if (!existsSync(`/run/mayfly/${block}.lock`)) assert.deepEqual(tracesOf(block), []);
  });

  it("live side by side in several drivers", async () => {
    const drivers = await Promise.all([openOciSandboxes(options), openOciSandboxes({ ...options, dataDirectory: scratchDirectory() })]);
    try {
      const sandboxes = await Promise.all(drivers.map((driver) => driver.create({ ...probeSpec, network: "internet" })));
      assert.equal(new Set(sandboxes.map(({ id }) => blockOf(id))).size, 2);
      const users = await Promise.all(sandboxes.map((sandbox) => ask(sandbox, "process.getuid()")));
      assert.equal(new Set(users).size, 2);
      await drivers[0]?.close();
      assert.equal(await ask(sandboxes[1] ?? assert.fail(), "1"), 1);
    } finally {
      await Promise.all(drivers.map((driver) => driver.close()));
    }
  });

  it("give a writable mount's tree to the guest, but not what a symlink in it points to", async () => {
    const outside = scratchDirectory();
    writeFileSync(join(outside, "file"), "");
    const source = scratchDirectory();
    mkdirSync(join(source, "below"));
    symlinkSync(join(outside, "file"), join(source, "below", "link"));
    symlinkSync(outside, join(source, "directory"));
    const driver = await openOciSandboxes(options);
    try {
      const sandbox = await driver.create({ ...probeSpec, mounts: [{ source, target: "/mnt", writable: true }] });
      const user = await ask(sandbox, "process.getuid()");
      assert.equal(lstatSync(join(source, "below", "link")).uid, user);
      assert.equal(statSync(join(outside, "file")).uid, process.getuid?.());
      assert.equal(statSync(outside).uid, process.getuid?.());
    } finally {
      await driver.close();
    }
  });

  it("reach public addresses and what is allowed, from the host's address, and nothing else", async () => {
    const { near, far, internet, hidden, metadata } = await fakeInternet();
    const connect = (host: string, port: number): string =>
      `new Promise((resolve) => { const s = require("net").connect({ host: "${host}", port: ${port}, timeout: 2000 }); s.on("data", (data) => resolve(String(data))); s.on("error", (e) => resolve(e.code)); s.on("timeout", () => resolve("timeout")); })`;
    for (const allow of [[], ["10.99.99.0/24", far]]) {
      const driver = await openOciSandboxes({ ...options, networkAllow: allow });
      try {
        const sandbox = await driver.create({ ...probeSpec, network: "internet" });
        assert.equal(await ask(sandbox, connect(internet, 80)), near);
        assert.notEqual(await ask(sandbox, connect(internet, 25)), near);
        assert.notEqual(await ask(sandbox, connect(metadata, 80)), near);
        const reached = allow.length > 0;
        assert.equal((await ask(sandbox, connect(hidden, 80))) === near, reached);
        assert.equal((await ask(sandbox, connect(far, 80))) === near, reached);
      } finally {
        await driver.close();
      }
    }
  });

  it("are refused with a sentence where something is wrong", async () => {
    await assert.rejects(openOciSandboxes({ ...options, networkAllow: ["10.0.0.0/8; flush ruleset"] }), { code: "config_invalid" });
    assert.match((await whyNoOci({ ...options, nodeBinary: "/no/such/node" })) ?? "", /root file system/);
  });

  it("share one root file system, which two processes may make at once", async () => {
    const dataDirectory = scratchDirectory();
    const drivers = await Promise.all([1, 2].map(() => openOciSandboxes({ ...options, dataDirectory })));
    await Promise.all(drivers.map((driver) => driver.close()));
    assert.match(readdirSync(join(dataDirectory, "rootfs")).join(), /^[0-9a-f]{32}$/);
    chmodSync(dataDirectory, 0o700);
    rmSync(dataDirectory, { recursive: true });
  });
});
