/** What the bubblewrap driver promises beyond the conformance suite: it works for an ordinary user, with and without a control group, and leaves nothing behind. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import type { BubblewrapOptions } from "./bubblewrap.ts";
import { openBubblewrapSandboxes, whyNoBubblewrap } from "./bubblewrap.ts";
import { ask, probeSpec, processesWith, until, within } from "./sandbox.conformance.ts";
import { fakeInternet } from "./testbed.ts";

const isRoot = process.getuid?.() === 0;
const user = isRoot ? { uid: 64_123, gid: 64_123 } : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

/** A directory of the ordinary user's. */
function ownDirectory(): string {
  const directory = scratchDirectory();
  if (isRoot) chownSync(directory, user.uid, user.gid);
  chmodSync(directory, 0o755);
  return directory;
}

const options: BubblewrapOptions = {
  dataDirectory: ownDirectory(),
  nodeBinary: process.execPath,
  networkAllow: [],
  ...(isRoot && { user }),
};
const why = await whyNoBubblewrap(options);

const hasPasta = spawnSync("pasta", ["--version"]).error === undefined;

interface Place {
  /** The control group that the platform is in. */
  readonly group?: string;
  /** Whether /dev/net/tun is open to it, which this machine's need not be. */
  readonly tunnel?: boolean;
  readonly networkAllow?: readonly string[];
}

/** Runs a script as a platform of the ordinary user's, with a driver of its own. */
function runPlatform(dataDirectory: string, script: string, { group, tunnel = false, networkAllow = [] }: Place = {}): ChildProcess {
  const own = { dataDirectory, nodeBinary: process.execPath, networkAllow };
  const source = `
    import { openBubblewrapSandboxes } from ${JSON.stringify(new URL("bubblewrap.ts", import.meta.url).href)};
    import { probeSpec, ask } from ${JSON.stringify(new URL("sandbox.conformance.ts", import.meta.url).href)};
    if (process.getuid() !== ${user.uid}) throw new Error("not the ordinary user");
    const log = (line) => console.error(line);
    const driver = await openBubblewrapSandboxes({ ...${JSON.stringify(own)}, ...(${tunnel} && { log }) });
    ${script}`;
  const node = [process.execPath, "--input-type=module-typescript", "-e", source] as const;
  if (!isRoot) return spawn(node[0], node.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
  // What root prepares, and then is the ordinary user.
  const prepare = [
    ...(group === undefined ? [] : ['echo $$ > "$group"/cgroup.procs']),
    ...(tunnel ? ["mount -t tmpfs none /mnt", "mknod -m 666 /mnt/tun c 10 200", "mount --bind /mnt/tun /dev/net/tun"] : []),
    `exec setpriv --reuid=${user.uid} --regid=${user.gid} --clear-groups "$@"`,
  ].join(" && ");
  return spawn("unshare", ["--mount", "sh", "-c", prepare, "sh", ...node], {
    env: { ...process.env, group: group ?? "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** The first line of what it says; the rest is what the test runner says in it. */
async function heard(platform: ChildProcess): Promise<string> {
  let said = "";
  platform.stdout?.setEncoding("utf8").on("data", (text: string) => (said += text));
  await within(once(platform, "exit"), "the platform's end");
  return said.split("\n")[0] ?? "";
}

/** Where version 2 of control groups is mounted. */
const unified = readFileSync("/proc/self/mountinfo", "utf8")
  .split("\n")
  .find((line) => line.includes(" - cgroup2 "))
  ?.split(" ")[4];

describe("bubblewrap sandboxes", { skip: why ?? false, timeout: 120_000 }, () => {
  it("serve a platform that is an ordinary user's", async () => {
    const dataDirectory = ownDirectory();
    const code = ownDirectory();
    writeFileSync(join(code, "index.js"), "module.exports = 'attached'");
    const platform = runPlatform(
      dataDirectory,
      `const sandbox = await driver.create({ ...probeSpec, network: "internet" });
       await ask(sandbox, "0");
       await sandbox.freeze();
       await sandbox.attach(${JSON.stringify(code)}, "/var/task");
       await sandbox.thaw();
       console.log(await ask(sandbox, "require('/var/task').concat(' for ', process.getuid())"), JSON.stringify(driver.can.freeze));
       await driver.close();`,
    );
    assert.equal(await heard(platform), 'attached for 1000 "process"');
    assert.deepEqual(readdirSync(join(dataDirectory, "sandboxes")), []);
  });

  it("freeze, count and kill by a control group that is delegated to that user", async (t) => {
    if (!isRoot || unified === undefined) return t.skip("only root can delegate a group of version 2");
    const group = join(unified, `mayfly-test-${process.pid}`);
    mkdirSync(group);
    after(() => {
      for (const each of ["mayfly-host", "mayfly", "."]) {
        try {
          rmdirSync(join(group, each));
        } catch {
          // not made
        }
      }
    });
    for (const file of [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]) chownSync(join(group, file), user.uid, user.gid);
    const platform = runPlatform(
      ownDirectory(),
      `const sandbox = await driver.create(probeSpec);
       await ask(sandbox, 'require("child_process").spawn("sh", ["-c", "while :; do :; done"], { detached: true }).pid');
       await sandbox.freeze();
       const before = await sandbox.usage();
       await new Promise((done) => setTimeout(done, 100));
       console.log(driver.can.freeze, (await sandbox.usage()).cpuMs - before.cpuMs < 5, before.cpuMs > 0);
       await sandbox.destroy();
       await driver.close();`,
      { group },
    );
    assert.equal(await heard(platform), "tree true true");
    assert.deepEqual(
      readdirSync(group, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? readdirSync(join(group, entry.name)).filter((name) => name.startsWith("bubblewrap")) : [],
      ),
      [],
    );
  });

  it("reach public addresses and what is allowed by pasta, and nothing else", async (t) => {
    if (!isRoot) return t.skip("only root can make another machine to be reached");
    if (!hasPasta) return t.skip("pasta is not installed");
    const { near, far, internet, hidden, metadata } = await fakeInternet();
    let hits = 0;
    const server = createServer((socket) => {
      hits++;
      socket.destroy();
    }).listen(0, "0.0.0.0");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    const hosts = own.filter(({ family }) => family === "IPv4").map(({ address }) => address);
    const closed = [
      ...["0.0.0.0", ...hosts].map((host) => [host, port]),
      [internet, 25],
      [metadata, 80],
      [far, 80],
      ["169.254.169.254", 80],
    ];
    const script = `
      const at = ([host, port]) => ask(sandbox, \`new Promise((done) => { const s = require("net").connect({ host: "\${host}", port: \${port}, timeout: 1000 }); s.on("data", (data) => done(String(data))); s.on("connect", () => setTimeout(done, 300, "connected")); s.on("error", () => done("refused")); s.on("timeout", () => done("refused")); })\`);
      const sandbox = await driver.create({ ...probeSpec, network: "internet" });
      const gateway = await ask(sandbox, \`Buffer.from(/^eth0\\t00000000\\t(\\w+)/m.exec(require("fs").readFileSync("/proc/net/route", "utf8"))[1], "hex").reverse().join(".")\`);
      const answers = [await at(${JSON.stringify([internet, 80])}), await at(${JSON.stringify([hidden, 80])})];
      for (const each of ${JSON.stringify(closed)}) answers.push(await at(each));
      answers.push(await at([gateway, ${port}]));
      console.log(JSON.stringify(answers));
      await driver.close();`;
    try {
      for (const networkAllow of [[], ["10.99.99.0/24"]]) {
        const platform = runPlatform(ownDirectory(), script, { networkAllow, tunnel: true });
        const answers = JSON.parse(await heard(platform)) as string[];
        assert.deepEqual(answers, [near, networkAllow.length > 0 ? near : "refused", ...closed.map(() => "refused"), "refused"]);
      }
      assert.equal(hits, 0);
      await until(() => processesWith("pasta --foreground") === 0, "pasta is gone");
    } finally {
      server.close();
    }
  });

  it("end with their platform, however that ends, and the next one clears up", async () => {
    const dataDirectory = ownDirectory();
    const seconds = `1${randomBytes(4).readUInt32BE()}`;
    const platform = runPlatform(
      dataDirectory,
      `const frozen = await driver.create({ ...probeSpec, argv: ["/bin/sh", "-c", "setsid sleep ${seconds} & sleep ${seconds}"] });
       await new Promise((done) => setTimeout(done, 100));
       await frozen.freeze();
       await driver.create({ ...probeSpec, network: "internet", argv: ["/bin/sleep", "${seconds}"] });
       console.log("up");
       setInterval(() => {}, 1000);`,
      { tunnel: hasPasta },
    );
    await within(once(platform.stdout ?? assert.fail(), "data"), "the guests");
    assert.ok(processesWith(`sleep ${seconds}`) >= 3);
    platform.kill("SIGKILL");
    await until(() => processesWith(seconds) === 0, "nothing is left");
    await until(() => processesWith("pasta --foreground") === 0, "pasta is gone");
    assert.equal(readdirSync(join(dataDirectory, "sandboxes")).length, 1);
    const next = runPlatform(dataDirectory, "await driver.close();");
    await heard(next);
    assert.deepEqual(readdirSync(join(dataDirectory, "sandboxes")), []);
  });

  it("are cleared away by the next platform when bwrap was killed half-way", async () => {
    const dataDirectory = ownDirectory();
    // Many are made while the platform is killed, so that some of them are half-made.
    const platform = runPlatform(
      dataDirectory,
      `setInterval(() => driver.create({ ...probeSpec, argv: ["/bin/sleep", "60"] }).catch(() => {}), 5);
       setTimeout(() => process.kill(process.pid, "SIGKILL"), 400);`,
    );
    await within(once(platform, "exit"), "the platform's end");
    await heard(runPlatform(dataDirectory, "await driver.close();"));
    await until(() => processesWith(`bubblewrap-${platform.pid}-`) === 0, "nothing is left");
  });

  it("leave nothing open", async () => {
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    const driver = await openBubblewrapSandboxes(options);
    try {
      await (await driver.create(probeSpec)).destroy();
      const open = descriptors();
      for (let i = 0; i < 3; i++) {
        const sandbox = await driver.create(probeSpec);
        await ask(sandbox, "0");
        await sandbox.destroy();
        await until(() => sandbox.stdout.closed && sandbox.stderr.closed, "the streams are closed");
      }
      await until(() => descriptors() <= open, "every descriptor is given back");
    } finally {
      await driver.close();
    }
  });

  it("are refused with a sentence where something is wrong", async () => {
    if (isRoot) assert.match((await whyNoBubblewrap({ ...options, user: { uid: 0, gid: 0 } })) ?? "", /not for root/);
    assert.match((await whyNoBubblewrap({ ...options, nodeBinary: "/no/such/node" })) ?? "", /root file system/);
    const driver = await openBubblewrapSandboxes(options);
    try {
      const smuggled = { ...probeSpec.env, X: "x\0--bind\0/\0/mnt" };
      await assert.rejects(driver.create({ ...probeSpec, env: smuggled }), { code: "sandbox_unavailable", message: /zero byte/ });
    } finally {
      await driver.close();
    }
  });
});
