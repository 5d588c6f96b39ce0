/**
 * Guests that want out, want more than their share, or want to be a nuisance: against every driver that claims to hold
 * them. Each attack has limits from its first line, and targets only what the test itself has made.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, closeSync, lstatSync, mkdirSync, openSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import koffi from "koffi";
import { scratchDirectory } from "../../test/scratch.ts";
import { ask, probeSpec, processesWith, until, within } from "./sandbox.conformance.ts";
import type { Sandbox, SandboxDriver, SandboxSpec } from "./sandbox.ts";
import { eachDriver } from "./testbed.ts";

const MB = 1024 * 1024;
const memoryMBPerCpu = 1769;

const [EPERM, EACCES, EINVAL, ENOSYS, EAFNOSUPPORT] = [1, 13, 22, 38, 97];
const killedBySIGSYS = 1031;
/** What attacks.c may come to; where nothing is said, EPERM. */
const answers: Readonly<Record<string, readonly number[]>> = {
  clone3: [ENOSYS],
  unknown_call: [ENOSYS],
  ...Object.fromEntries(
    "packet_socket vsock_socket alg_socket bluetooth_socket key_socket x25_socket packet_socket_in_disguise x25_socket_in_disguise"
      .split(" ")
      .map((name) => [name, [EAFNOSUPPORT]]),
  ),
  // Where a user namespace has only one user, there is no other one to become.
  root_user: [EPERM, EINVAL],
  root_group: [EPERM, EINVAL],
  root_groups: [EPERM, EINVAL],
  priority: [EPERM, EACCES],
  x32: [ENOSYS, killedBySIGSYS],
  i386: [killedBySIGSYS],
  getpid: [0],
};

/** The directory of the compiled attacks.c, or why there is none. */
function compile(): { readonly directory: string } | { readonly why: string } {
  const directory = scratchDirectory();
  chmodSync(directory, 0o755);
  const source = join(import.meta.dirname, "attacks.c");
  const result = spawnSync("gcc", ["-O1", "-static", "-o", join(directory, "attacks"), source], { encoding: "utf8" });
  if (result.error !== undefined) return { why: "no C compiler (gcc) is installed" };
  assert.equal(result.status, 0, result.stderr);
  return { directory };
}
const compiled = process.platform === "linux" ? compile() : { why: "its system calls are Linux's" };

const uniqueSeconds = (): string => `1${randomBytes(4).readUInt32BE()}`;
const shell = (script: string): Partial<SandboxSpec> => ({ argv: ["/bin/sh", "-c", script] });

function attacks(name: string, open: () => Promise<SandboxDriver>): void {
  describe(`attacks: ${name}`, { timeout: 240_000 }, () => {
    let driver: SandboxDriver;
    before(async () => {
      driver = await open();
    });
    after(() => driver.close());

    const withSandbox = async (change: Partial<SandboxSpec>, test: (sandbox: Sandbox) => Promise<void>): Promise<void> => {
      const sandbox = await driver.create({ ...probeSpec, ...change });
      try {
        await test(sandbox);
      } finally {
        await within(sandbox.destroy(), "the destruction");
      }
    };

    it("by system calls", (t) => {
      if (!driver.can.seccomp) return t.skip("the driver has no filter");
      if ("why" in compiled) return t.skip(compiled.why);
      const mounts = [{ source: compiled.directory, target: "/mnt", writable: false }];
      return withSandbox({ argv: ["/mnt/attacks"], mounts }, async (sandbox) => {
        const lines = (await within(text(sandbox.stdout), "the attacks")).trim().split("\n");
        const wrong = lines.filter((line) => {
          const [attack = "", errno] = line.split(" ");
          return !(answers[attack] ?? [EPERM]).includes(Number(errno));
        });
        assert.deepEqual(wrong, []);
        assert.ok(lines.length > 75 && lines.at(-1) === "getpid 0", `${lines.length} attacks, the last ${lines.at(-1)}`);
      });
    });

    it("by descriptors that the platform has open", async (t) => {
      if (!driver.can.fileIsolation) return t.skip("the driver cannot");
      // As if a shell had left one to the platform that started this test.
      const secret = join(scratchDirectory(), "secret");
      writeFileSync(secret, "secret");
      const descriptor = openSync(secret, "r");
      const fcntl = koffi.load(null).func("int fcntl(int, int, int)") as (...numbers: number[]) => number;
      const F_SETFD = 2;
      assert.equal(fcntl(descriptor, F_SETFD, 0), 0);
      const other = await open();
      try {
        const list = `echo /proc/self/fd/*; for each in /proc/self/fd/*; do readlink $each; done`;
        const sandbox = await other.create({ ...probeSpec, ...shell(list) });
        const [own = "", ...targets] = (await within(text(sandbox.stdout), "the list")).trim().split("\n");
        const numbers = own.split(" ").map((path) => Number(path.split("/").at(-1)));
        assert.deepEqual(numbers.slice(0, 5), [0, 1, 2, 3, 4]);
        // The one more is the directory that is being listed; it is closed when its turn comes.
        assert.ok(numbers.length <= 6, own);
        assert.ok(!targets.includes(secret));
        await sandbox.destroy();
      } finally {
        await other.close();
        closeSync(descriptor);
      }
    });

    it("by looking at and signalling processes of the host and of neighbours", (t) => {
      if (!driver.can.processIsolation) return t.skip("the driver cannot");
      return withSandbox({}, (one) =>
        withSandbox({}, async (two) => {
          const seconds = uniqueSeconds();
          await ask(two, `require("child_process").spawn("sleep", ["${seconds}"]).pid`);
          await until(() => processesWith(`sleep ${seconds}`) === 1, "the neighbour's child runs");
          const numbers = execFileSync("ps", ["-axww", "-o", "pid=,args="], { encoding: "utf8" }).split("\n");
          const neighbour = Number.parseInt(numbers.find((line) => line.includes(`sleep ${seconds}`)) ?? "", 10);
          for (const pid of [process.pid, process.ppid, neighbour]) {
            assert.equal(await ask(one, `process.kill(${pid}, 0)`), "refused ESRCH");
            for (const part of ["environ", "root/etc/shadow", "cwd", "maps", "fd"]) {
              assert.match(String(await ask(one, `require("fs").readFileSync("/proc/${pid}/${part}")`)), /^refused (ENOENT|EACCES)/);
            }
          }
          // All that it can see and all that it cannot: the neighbour lives on.
          await ask(one, `(() => { try { process.kill(-1, "SIGCONT"); } catch {} })()`);
          // A thread's number is its process's, too.
          const own = (await ask(one, `require("fs").readdirSync("/proc/self/task").map(Number)`)) as number[];
          for (let pid = 2; pid < 40; pid++) if (!own.includes(pid)) await ask(one, `process.kill(${pid}, "SIGKILL")`);
          assert.equal(await ask(two, "1"), 1);
          assert.equal(processesWith(`sleep ${seconds}`), 1);
        }),
      );
    });

    it("by sockets without an address of the network", async (t) => {
      if (!driver.can.networkIsolation) return t.skip("the driver cannot");
      let hits = 0;
      const path = `\0mayfly-attack-${randomBytes(6).toString("hex")}`;
      const server = createServer((socket) => {
        hits++;
        socket.destroy();
      }).listen({ path });
      await once(server, "listening");
      try {
        await withSandbox({ network: "internet" }, async (sandbox) => {
          const connect = `new Promise((resolve) => require("net").connect({ path: ${JSON.stringify(path)} }, () => resolve("connected")).on("error", (e) => resolve(e.code)))`;
          assert.equal(await ask(sandbox, connect), "ECONNREFUSED");
          const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
          const ipv6 = own.filter(({ family, scopeid }) => family === "IPv6" && !scopeid).map(({ address }) => address);
          for (const address of ipv6) {
            const send = `new Promise((resolve) => require("dgram").createSocket("udp6").send("x", 9, "${address}", (e) => resolve(e?.code ?? "sent")))`;
            await ask(sandbox, send);
          }
        });
        assert.equal(hits, 0);
      } finally {
        server.close();
      }
    });

    it("by paths that lead elsewhere between a look and a step", async (t) => {
      if (!driver.can.fileIsolation) return t.skip("the driver cannot");
      const source = scratchDirectory();
      const outside = scratchDirectory();
      writeFileSync(join(outside, "file"), "host");
      mkdirSync(join(source, "directory"));
      writeFileSync(join(source, "directory", "file"), "guest");
      symlinkSync(outside, join(source, "link"));
      const code = scratchDirectory();
      chmodSync(code, 0o755);
      // Of the trees in play; other tests mount theirs meanwhile.
      const mounts = (): readonly string[] =>
        readFileSync("/proc/self/mountinfo", "utf8")
          .split("\n")
          .filter((line) => [source, outside, code].some((directory) => line.includes(directory)));
      assert.deepEqual(mounts(), []);
      const mount = { source, target: "/mnt", writable: true };
      // A directory and a symlink change places, over and over, in a tree that the host gives away and in the way of attach.
      const swap = `
        (() => { const { Worker } = require("worker_threads");
          new Worker(\`const fs = require("fs");
            fs.mkdirSync("/tmp/spot"); fs.symlinkSync("/proc/1/root", "/tmp/way");
            for (let end = Date.now() + 20000; Date.now() < end; ) {
              for (const [a, b] of [["/mnt/directory", "/mnt/link"], ["/tmp/spot", "/tmp/way"]]) try {
                fs.renameSync(a, a + "2"); fs.renameSync(b, a); fs.renameSync(a, b); fs.renameSync(a + "2", a);
              } catch {} }\`, { eval: true }); return 0; })()`;
      await withSandbox({ mounts: [mount] }, async (sandbox) => {
        await ask(sandbox, swap);
        for (let round = 0; round < 5; round++) {
          // Another guest with the same tree: the host gives it away while it moves.
          const other = await driver.create({ ...probeSpec, mounts: [mount] }).catch(() => null);
          for (let i = 0; i < 20; i++) await sandbox.attach(code, "/tmp/spot").catch(() => {});
          await other?.destroy();
        }
      });
      assert.equal(statSync(outside).uid, process.getuid?.());
      assert.equal(lstatSync(join(outside, "file")).uid, process.getuid?.());
      assert.equal(readFileSync(join(outside, "file"), "utf8"), "host");
      assert.deepEqual(mounts(), []);
    });

    it("by CPU time", (t) => {
      if (!driver.can.cpuLimit) return t.skip("the driver cannot");
      return withSandbox({ limits: { memoryMB: 512, cpuByMemory: false } }, async (sandbox) => {
        const threads = `(() => { const { Worker } = require("worker_threads");
          for (let i = 0; i < 2; i++) new Worker("for (const end = Date.now() + 10000; Date.now() < end; );", { eval: true }); })(), 0`;
        await ask(sandbox, threads);
        await sleep(100);
        for (const memoryMB of [128, 512, 885]) {
          await sandbox.setLimits({ memoryMB, cpuByMemory: true });
          await sleep(50);
          const [start, begun] = [performance.now(), await sandbox.usage()];
          await sleep(1000);
          const used = (await sandbox.usage()).cpuMs - begun.cpuMs;
          const share = used / (performance.now() - start);
          t.diagnostic(`${memoryMB} MB: ${share.toFixed(3)} of a CPU, ${(memoryMB / memoryMBPerCpu).toFixed(3)} is its share`);
          // The machine is shared, so only the upper bound is sure.
          assert.ok(share < (memoryMB / memoryMBPerCpu) * 1.2 + 0.02 && share > 0.01, `${memoryMB} MB took ${share} of a CPU`);
        }
      });
    });

    it("by memory, of a sub-process", (t) => {
      if (driver.can.memoryLimit !== "tree") return t.skip("the driver cannot");
      return withSandbox({ tmpBytes: MB }, async (sandbox) => {
        const hog = `require("child_process").spawnSync("node", ["-e", "const all = []; for (let i = 0; i < 64; i++) all.push(Buffer.alloc(8 << 20, 1))"]).signal`;
        // With version 1 the child alone is killed, with version 2 its guest; never another one's process.
        const asked = ask(sandbox, hog).catch(() => "gone");
        const outcome = await within(Promise.race([asked, sandbox.ended]), "the kill");
        if (outcome !== "SIGKILL") assert.equal((await within(sandbox.ended, "the end")).reason, "out-of-memory");
      });
    });

    it("by memory outside of /tmp", (t) => {
      if (!driver.can.tmpLimit) return t.skip("the driver cannot");
      return withSandbox({ limits: { memoryMB: 512, cpuByMemory: false } }, async (sandbox) => {
        const fill = (path: string): Promise<unknown> =>
          ask(
            sandbox,
            `(() => { const fs = require("fs"); let n = 0; const file = fs.openSync("${path}", "w");
              try { for (; n < 200; n++) fs.writeSync(file, Buffer.alloc(${MB})); } finally { fs.rmSync("${path}"); } return n; })()`,
          );
        for (const path of ["/dev/shm/x", "/dev/x", "/x", "/proc/x", "/run/x"]) {
          assert.match(String(await fill(path)), /^refused (ENOSPC|EROFS|EACCES|ENOENT|EPERM)$/, path);
        }
        const litter = `(() => { for (let n = 0; n < 100000; n++) require("fs").writeFileSync("/dev/shm/" + n, ""); })()`;
        assert.equal(await ask(sandbox, litter), "refused ENOSPC");
      });
    });

    it("by forking without end, frozen and destroyed all the same", (t) => {
      if (!driver.can.processLimit) return t.skip("the driver cannot");
      const seconds = uniqueSeconds();
      // A shell gives up when it cannot fork; this does not.
      const bomb = `const { spawn } = require("child_process");
        setInterval(() => { for (let i = 0; i < 20; i++) spawn("sh", ["-c", "sleep ${seconds} & exec sleep ${seconds}"], { stdio: "ignore", detached: true }).on("error", () => {}); }, 1);`;
      return withSandbox({ argv: ["/var/lang/bin/node", "-e", bomb], processesMax: 48 }, async (sandbox) => {
        await until(() => processesWith(`sleep ${seconds}`) > 20, "there are many");
        for (let i = 0; i < 5; i++) {
          const count = processesWith(`sleep ${seconds}`);
          assert.ok(count <= 48, `${count} processes`);
        }
        await sandbox.freeze();
        const { cpuMs } = await sandbox.usage();
        await sleep(100);
        assert.ok((await sandbox.usage()).cpuMs - cpuMs <= 10, "it runs on");
        await sandbox.thaw();
        await within(sandbox.destroy(), "the destruction");
        assert.equal(processesWith(seconds), 0);
      });
    });

    it("by sub-processes that leave their group and ignore signals", (t) => {
      if (!driver.can.processIsolation) return t.skip("the driver cannot");
      const seconds = uniqueSeconds();
      const script = `trap "" TERM INT HUP PIPE; setsid sh -c 'trap "" TERM HUP; setsid sleep ${seconds} & while :; do :; done' & while :; do sleep ${seconds}; done`;
      return withSandbox(shell(script), async (sandbox) => {
        await until(() => processesWith(`sleep ${seconds}`) >= 3, "they run");
        await sandbox.freeze();
        await sleep(20);
        const { cpuMs } = await sandbox.usage();
        await sleep(200);
        assert.ok((await sandbox.usage()).cpuMs - cpuMs <= 10, "one runs on");
        await within(sandbox.destroy(), "the destruction");
        assert.equal(processesWith(seconds), 0);
      });
    });

    it("by output without end that nobody reads", () =>
      withSandbox(shell("yes >&2 & yes"), async (sandbox) => {
        await until(() => sandbox.stdout.readableLength > 0, "output has come");
        await sleep(200);
        assert.ok(sandbox.stdout.readableLength + sandbox.stderr.readableLength < 2 * MB);
      }));

    it("by reading nothing", () =>
      withSandbox({ argv: ["/bin/sleep", "60"] }, async (sandbox) => {
        sandbox.control.write(Buffer.alloc(8 * MB));
        sandbox.requests.write(Buffer.alloc(8 * MB));
        await sleep(50);
        assert.ok(sandbox.control.writableNeedDrain && sandbox.requests.writableNeedDrain);
      }));

    it("by closing all its descriptors and living on", () =>
      withSandbox(shell("exec 0<&- 1>&- 2>&- 3>&- 4>&-; while :; do sleep 1; done"), async (sandbox) => {
        sandbox.control.resume();
        await within(sandbox.ended, "the end");
      }));

    it("by ending at once, again and again", async () => {
      for (let i = 0; i < 4; i++) {
        const sandboxes = await Promise.all([0, 1].map(() => driver.create({ ...probeSpec, argv: ["/bin/true"] })));
        await Promise.all(
          sandboxes.map(async (sandbox) => {
            await sandbox.freeze();
            await sandbox.thaw();
            await sandbox.destroy();
          }),
        );
      }
    });
  });
}

await eachDriver("attacks", attacks);
