/**
 * What every driver of the sandbox must do: {@link sandboxConformance} registers the tests for one of them. Where a
 * driver `can` less, the tests hold it to what it claims and no more.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { scratchDirectory } from "../../test/scratch.ts";
import type { Sandbox, SandboxDriver, SandboxSpec } from "./sandbox.ts";

const MB = 1024 * 1024;
const waitMsMax = 15_000;

/** A guest that evaluates what it is sent on descriptor 3, one JSON string a line, and answers in kind. */
const evaluator = `
  const channel = new (require("net").Socket)({ fd: 3 });
  let rest = "";
  channel.setEncoding("utf8").on("data", (data) => {
    rest += data;
    for (let end; (end = rest.indexOf("\\n")) >= 0; rest = rest.slice(end + 1)) {
      const code = JSON.parse(rest.slice(0, end));
      Promise.resolve().then(() => eval(code)).then(
        (value) => channel.write(JSON.stringify({ value: value ?? null }) + "\\n"),
        (error) => channel.write(JSON.stringify({ value: "refused " + (error.code ?? error.message) }) + "\\n"));
    }
  });`;

export const probeSpec: SandboxSpec = {
  purpose: "probe",
  argv: ["/var/lang/bin/node", "-e", evaluator],
  env: { PATH: "/var/lang/bin:/usr/bin:/bin" },
  cwd: "/tmp",
  mounts: [],
  limits: { memoryMB: 128, cpuByMemory: false },
  tmpBytes: 16 * MB,
  processesMax: 64,
  openFilesMax: 256,
  network: "none",
};

/** Evaluates an expression in a guest of {@link probeSpec}; one question at a time. A thrown error comes as `refused CODE`. */
export async function ask(sandbox: Sandbox, code: string): Promise<unknown> {
  const answer = Promise.withResolvers<string>();
  let rest = "";
  const listen = (data: Buffer): void => {
    rest += data.toString();
    if (rest.includes("\n")) answer.resolve(rest);
  };
  sandbox.control.on("data", listen);
  sandbox.control.write(`${JSON.stringify(code)}\n`);
  try {
    const line = await within(answer.promise, `an answer to ${code}`);
    return (JSON.parse(line) as { value: unknown }).value;
  } finally {
    sandbox.control.off("data", listen);
  }
}

/** The promise, or a failure that names what was waited for. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = new AbortController();
  const timeout = sleep(waitMsMax, undefined, { signal: late.signal }).then(() => assert.fail(`waited too long for ${what}`));
  timeout.catch(() => {});
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    late.abort();
  }
}

/** Polls until the condition holds. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + waitMsMax;
  while (!(await condition())) {
    if (Date.now() > deadline) assert.fail(`waited too long until ${what}`);
    await sleep(5);
  }
}

/** How many processes of this machine have a text in their arguments. */
export function processesWith(marker: string): number {
  return execFileSync("ps", ["-axww", "-o", "args="], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line.includes(marker)).length;
}

/** A directory that guests of any user may read, as mounts must be. */
function sharedDirectory(): string {
  const directory = scratchDirectory();
  chmodSync(directory, 0o755);
  return directory;
}

/** A number of seconds that no other process sleeps for. */
const uniqueSeconds = (): string => `1${randomBytes(4).readUInt32BE()}`;

/** `open` gives the driver, which the suite closes. */
export function sandboxConformance(name: string, open: () => Promise<SandboxDriver>): void {
  describe(`sandbox: ${name}`, { timeout: 300_000 }, () => {
    let driver: SandboxDriver;
    before(async () => {
      driver = await open();
    });
    after(() => driver.close());

    /** Runs a test with a sandbox that is destroyed whatever happens. */
    const withSandbox = async (change: Partial<SandboxSpec>, test: (sandbox: Sandbox) => Promise<void>): Promise<void> => {
      const sandbox = await driver.create({ ...probeSpec, ...change });
      try {
        await test(sandbox);
      } finally {
        await sandbox.destroy();
      }
    };
    const shell = (script: string): Partial<SandboxSpec> => ({ argv: ["/bin/sh", "-c", script] });

    it("connects descriptors 3 and 4 in both directions", () =>
      withSandbox({}, async (sandbox) => {
        assert.match(sandbox.id, /^[a-z0-9-]+$/);
        assert.equal(await ask(sandbox, "6 * 7"), 42);
        await ask(
          sandbox,
          `globalThis.requests = new (require("net").Socket)({ fd: 4 }); requests.on("data", (data) => requests.write("you said " + data))`.replace(
            /$/,
            "; 0",
          ),
        );
        sandbox.requests.write("hello");
        const [data] = (await within(once(sandbox.requests, "data"), "data on descriptor 4")) as [Buffer];
        assert.equal(data.toString(), "you said hello");
      }));

    it("gives standard output and error apart, and what was written before anyone listened", () =>
      withSandbox(shell("echo out; echo err >&2; exit 7"), async (sandbox) => {
        assert.deepEqual(await within(sandbox.ended, "the end"), { reason: "exited", exitCode: 7 });
        const [out, err] = await within(Promise.all([text(sandbox.stdout), text(sandbox.stderr)]), "the output's end");
        assert.equal(out, "out\n");
        assert.equal(err, "err\n");
      }));

    it("lets the guest open its output again by name", (t) => {
      if (!driver.can.fileIsolation) return t.skip("Node gives its children sockets, which cannot be opened by name");
      return withSandbox(shell("echo out > /dev/stdout; echo err > /dev/stderr"), async (sandbox) => {
        assert.equal(await within(text(sandbox.stdout), "the output's end"), "out\n");
        assert.equal(await within(text(sandbox.stderr), "the output's end"), "err\n");
      });
    });

    it("keeps back a guest that writes more than is read", () =>
      withSandbox(shell("head -c 3000000 /dev/zero; echo done"), async (sandbox) => {
        await until(() => sandbox.stdout.readableLength > 0, "output has come");
        await sleep(100);
        assert.ok(sandbox.stdout.readableLength < MB, `${sandbox.stdout.readableLength} bytes lie in the host's memory`);
        const output = await within(text(sandbox.stdout), "the output's end");
        assert.equal(output.length, 3_000_005);
      }));

    it("gives the guest exactly its environment and its working directory", () =>
      withSandbox({ env: { ...probeSpec.env, GREETING: "héllo\nworld", EMPTY: "", "odd.name": "a=b" } }, async (sandbox) => {
        const env = (await ask(sandbox, "({ ...process.env })")) as Record<string, string>;
        if (!driver.can.fileIsolation) {
          assert.notEqual(env["TMPDIR"], undefined);
          delete env["TMPDIR"];
          assert.notEqual(env["PATH"], undefined);
          env["PATH"] = probeSpec.env["PATH"] ?? "";
          delete env["__CF_USER_TEXT_ENCODING"];
        }
        assert.deepEqual(env, { ...probeSpec.env, GREETING: "héllo\nworld", EMPTY: "", "odd.name": "a=b" });
        if (driver.can.fileIsolation) assert.equal(await ask(sandbox, "process.cwd()"), "/tmp");
        assert.equal(
          await ask(sandbox, `require("child_process").execFileSync("node", ["-p", "process.version"]).toString()`),
          `${process.version}\n`,
        );
      }));

    it("shows mounts at their guest paths, in arguments, environment and working directory", async () => {
      const source = sharedDirectory();
      mkdirSync(join(source, "bin"));
      writeFileSync(join(source, "bin", "hello.js"), 'require("fs").writeSync(1, `${process.argv[2]} ${require(process.env.LIBRARY)}`)');
      writeFileSync(join(source, "library.js"), "module.exports = 42");
      const spec = {
        argv: ["node", "bin/hello.js", "--to=/var/runtime/library.js"] as const,
        env: { PATH: "/usr/bin:/var/lang/bin", LIBRARY: "/var/runtime/library.js" },
        cwd: "/var/runtime",
        mounts: [{ source, target: "/var/runtime", writable: false }],
      };
      await withSandbox(spec, async (sandbox) => {
        const place = driver.can.fileIsolation ? "/var/runtime" : source;
        assert.equal(await within(text(sandbox.stdout), "the output"), `--to=${place}/library.js 42`);
        assert.deepEqual(await sandbox.ended, { reason: "exited", exitCode: 0 });
      });
    });

    it("runs another Node where a spec mounts its file over the usual one", async () => {
      const directory = sharedDirectory();
      const source = join(directory, "node-of-another-version");
      writeFileSync(source, '#!/bin/sh\necho "another Node: $1"\n', { mode: 0o755 });
      const mounts = [{ source, target: "/var/lang/bin/node", writable: false }];
      for (const program of ["/var/lang/bin/node", "node"]) {
        await withSandbox({ argv: [program, "x"], mounts }, async (sandbox) => {
          assert.equal(await within(text(sandbox.stdout), "the output"), "another Node: x\n");
        });
      }
    });

    it("gives as many open files as the host can, where more are asked for", (t) => {
      if (!driver.can.fileIsolation) return t.skip("the guest has the platform's own limit");
      return withSandbox({ openFilesMax: 1_000_000 }, async (sandbox) => {
        const limit = Number(
          /^Max open files +(\d+)/m.exec(String(await ask(sandbox, `require("fs").readFileSync("/proc/self/limits", "utf8")`)))?.[1],
        );
        assert.ok(limit >= 1024 && limit <= 1_000_000, `${limit} files`);
      });
    });

    it("lets the guest write to a writable mount, where the host finds it", async () => {
      const source = scratchDirectory();
      mkdirSync(join(source, "src"));
      writeFileSync(join(source, "src", "old.txt"), "old");
      const mounts = [{ source, target: "/mnt", writable: true }];
      await withSandbox(
        { ...shell("echo new > src/old.txt && mkdir out && echo made > out/file.txt"), cwd: "/mnt", mounts },
        async (sandbox) => {
          assert.deepEqual(await within(sandbox.ended, "the end"), { reason: "exited", exitCode: 0 });
        },
      );
      assert.equal(readFileSync(join(source, "src", "old.txt"), "utf8"), "new\n");
      assert.equal(readFileSync(join(source, "out", "file.txt"), "utf8"), "made\n");
    });

    it("gives what came into a writable mount later to the guest when asked to, frozen or not", async () => {
      const source = sharedDirectory();
      await withSandbox({ mounts: [{ source, target: "/var/work", writable: true }], cwd: "/var/work" }, async (sandbox) => {
        await sandbox.freeze();
        mkdirSync(join(source, "late"));
        writeFileSync(join(source, "late/file"), "host", { mode: 0o600 });
        await sandbox.give();
        await sandbox.thaw();
        const change = `const fs = require("fs"); fs.appendFileSync("late/file", " and guest"); fs.writeFileSync("late/own", ""); 0`;
        assert.equal(await ask(sandbox, change), 0);
        assert.equal(readFileSync(join(source, "late/file"), "utf8"), "host and guest");
      });
    });

    it("attaches a directory to a running and to a frozen guest, read-only", async () => {
      const source = sharedDirectory();
      writeFileSync(join(source, "index.js"), "module.exports = 'attached'");
      for (const frozen of [false, true]) {
        await withSandbox({}, async (sandbox) => {
          await ask(sandbox, "0");
          if (frozen) await sandbox.freeze();
          const place = await sandbox.attach(source, "/var/task");
          if (frozen) await sandbox.thaw();
          assert.equal(place, driver.can.fileIsolation ? "/var/task" : source);
          assert.equal(await ask(sandbox, `require(${JSON.stringify(`${place}/index.js`)})`), "attached");
          if (!driver.can.fileIsolation) return;
          assert.equal(await ask(sandbox, `require("fs").writeFileSync("/var/task/x", "x")`), "refused EROFS");
          await assert.rejects(sandbox.attach(join(source, "missing"), "/var/task"), /missing/);
          await assert.rejects(sandbox.attach(source, "/no/such/place"), /no\/such\/place/);
        });
      }
    });

    it("attaches directories inside of the one that it attaches", async (t) => {
      if (!driver.can.fileIsolation) return t.skip("nothing is mounted for its guests");
      const [source, tree] = [sharedDirectory(), sharedDirectory()];
      mkdirSync(join(source, "a/node_modules"), { recursive: true });
      writeFileSync(join(source, "a/index.js"), "module.exports = require.resolve('x')");
      mkdirSync(join(tree, "x"));
      writeFileSync(join(tree, "x/index.js"), "");
      await withSandbox({}, async (sandbox) => {
        await ask(sandbox, "0");
        await sandbox.attach(source, "/var/task", [{ path: "a/node_modules", source: tree }]);
        assert.equal(await ask(sandbox, `require("/var/task/a")`), "/var/task/a/node_modules/x/index.js");
        assert.equal(await ask(sandbox, `require("fs").realpathSync("/var/task/a/node_modules/x")`), "/var/task/a/node_modules/x");
        assert.equal(await ask(sandbox, `require("fs").writeFileSync("/var/task/a/node_modules/y", "y")`), "refused EROFS");
        const missing = [{ path: "a/missing", source: tree }];
        await assert.rejects(sandbox.attach(source, "/var/task", missing), /\/var\/task/);
      });
      assert.deepEqual(readdirSync(join(source, "a/node_modules")), [], "nothing is mounted on the host");
    });

    it("freezes the guest with its sub-processes, and thaws them", () =>
      withSandbox({}, async (sandbox) => {
        let ticks = 0;
        sandbox.stdout.on("data", (data: Buffer) => (ticks += data.length));
        const detached = driver.can.freeze === "tree";
        await ask(
          sandbox,
          `require("child_process").spawn("node", ["-e", "setInterval(() => process.stdout.write('.'), 5)"], { stdio: ["ignore", 1, 2], detached: ${detached} }).pid`,
        );
        await until(() => ticks > 5, "the child ticks");
        await sandbox.freeze();
        await sandbox.freeze();
        await sleep(50);
        const frozenAt = ticks;
        await sleep(200);
        assert.equal(ticks, frozenAt);
        await sandbox.thaw();
        await sandbox.thaw();
        await until(() => ticks > frozenAt, "the child ticks again");
        assert.equal(await ask(sandbox, "1"), 1);
      }));

    for (const state of ["running", "frozen"] as const) {
      it(`destroys a ${state} guest with its sub-processes, as often as it is asked`, async () => {
        const seconds = uniqueSeconds();
        const sandbox = await driver.create(probeSpec);
        await ask(
          sandbox,
          `for (let i = 0; i < 3; i++) require("child_process").spawn("sleep", ["${seconds}"], { detached: i === 2 && ${driver.can.processIsolation} }); 0`,
        );
        await until(() => processesWith(`sleep ${seconds}`) === 3, "the children run");
        if (state === "frozen") await sandbox.freeze();
        await within(Promise.all([sandbox.kill(), sandbox.kill()]), "the death of all");
        assert.equal(processesWith(`sleep ${seconds}`), 0);
        await within(Promise.all([sandbox.destroy(), sandbox.destroy()]), "the destruction");
        assert.equal((await within(sandbox.ended, "the end")).reason, "destroyed");
        await sandbox.kill();
        await sandbox.destroy();
        await sandbox.freeze();
        await sandbox.thaw();
        await sandbox.usage();
      });
    }

    it("leaves the guest's signals as they are by default", () =>
      withSandbox(
        shell("while read -r line; do case $line in SigIgn* | SigBlk*) echo $line ;; esac; done < /proc/self/status"),
        async (sandbox) => {
          assert.equal(await within(text(sandbox.stdout), "the signals"), `SigBlk: ${"0".repeat(16)}\nSigIgn: ${"0".repeat(16)}\n`);
        },
      ));

    it("tells how a guest ended", async () => {
      for (const [code, exitCode] of [
        ["process.exit(3)", 3],
        ["process.kill(process.pid, 'SIGKILL')", 137],
        ["process.abort()", 134],
      ] as const) {
        await withSandbox({}, async (sandbox) => {
          sandbox.control.write(`${JSON.stringify(code)}\n`);
          assert.deepEqual(await within(sandbox.ended, "the end"), { reason: "exited", exitCode });
        });
      }
    });

    it("keeps the last message of a guest for whoever reads it after the end", () =>
      withSandbox({}, async (sandbox) => {
        sandbox.control.write(`${JSON.stringify('require("fs").writeSync(3, "farewell\\n"); process.exit(0)')}\n`);
        await within(sandbox.ended, "the end");
        assert.equal(await within(text(sandbox.control), "the message"), "farewell\n");
      }));

    it("survives being frozen, thawed and destroyed at the same time", async () => {
      for (let round = 0; round < 3; round++) {
        const sandbox = await driver.create(probeSpec);
        await within(Promise.all([sandbox.freeze(), sandbox.thaw(), sandbox.freeze(), sandbox.destroy(), sandbox.usage()]), "all of it");
        await sandbox.ended;
      }
    });

    it("ends with its first process, whatever that leaves behind", async () => {
      const seconds = uniqueSeconds();
      await withSandbox(shell(`sleep ${seconds} & sleep 0.05; exit 4`), async (sandbox) => {
        assert.deepEqual(await within(sandbox.ended, "the end"), { reason: "exited", exitCode: 4 });
        await until(() => processesWith(`sleep ${seconds}`) === 0, "the child is gone");
      });
    });

    it("ends a guest that closes its control channel", () =>
      withSandbox({}, async (sandbox) => {
        sandbox.control.resume();
        sandbox.control.write(`${JSON.stringify("channel.end(); setInterval(() => {}, 1000); 0")}\n`);
        assert.equal((await within(sandbox.ended, "the end")).reason, "exited");
      }));

    it("refuses what cannot be started, and goes on", async () => {
      await assert.rejects(driver.create({ ...probeSpec, cwd: "/no/such/directory" }), { code: "sandbox_unavailable" });
      await assert.rejects(
        driver.create({ ...probeSpec, mounts: [{ source: "/no/such/source", target: "/mnt", writable: true }], cwd: "/mnt" }),
        {
          code: "sandbox_unavailable",
        },
      );
      await withSandbox({}, async (sandbox) => assert.equal(await ask(sandbox, "1"), 1));
    });

    it("makes several guests at once, each with its own /tmp", async () => {
      const sandboxes = await Promise.all(Array.from({ length: 4 }, () => driver.create(probeSpec)));
      try {
        assert.equal(new Set(sandboxes.map(({ id }) => id)).size, 4);
        const file = `require("path").join(require("os").tmpdir(), "file")`;
        for (const [index, sandbox] of sandboxes.entries()) await ask(sandbox, `require("fs").writeFileSync(${file}, "${index}")`);
        for (const [index, sandbox] of sandboxes.entries()) {
          assert.equal(await ask(sandbox, `require("fs").readFileSync(${file}, "utf8")`), String(index));
        }
      } finally {
        await Promise.all(sandboxes.map((sandbox) => sandbox.destroy()));
      }
    });

    it("counts CPU time and memory", { skip: process.platform !== "linux" && "only Linux counts" }, () =>
      withSandbox({}, async (sandbox) => {
        await ask(sandbox, "0");
        const before = await sandbox.usage();
        assert.ok(before.memoryBytes > MB && before.memoryBytes < 200 * MB, `${before.memoryBytes} bytes`);
        await ask(sandbox, "for (const end = Date.now() + 200; Date.now() < end; ); 0");
        const { cpuMs } = await sandbox.usage();
        assert.ok(cpuMs - before.cpuMs > 50 && cpuMs - before.cpuMs < 1000, `${cpuMs - before.cpuMs} ms`);
      }),
    );

    it("gives CPU time in proportion to memory once it is asked to", (t) => {
      if (!driver.can.cpuLimit) return t.skip("the driver cannot");
      return withSandbox({}, async (sandbox) => {
        await ask(sandbox, "0");
        await sandbox.setLimits({ memoryMB: 177, cpuByMemory: true });
        const before = await sandbox.usage();
        await ask(sandbox, "for (const end = Date.now() + 1000; Date.now() < end; ); 0");
        const share = ((await sandbox.usage()).cpuMs - before.cpuMs) / 1000;
        assert.ok(share > 0.03 && share < 0.2, `a tenth of a CPU was ${share}`);
      });
    });

    it("kills a guest that needs more memory than it may have, and says so", async (t) => {
      if (driver.can.memoryLimit !== "tree") return t.skip("the driver cannot");
      const hoard = "const all = []; for (let i = 0; i < 64; i++) all.push(Buffer.alloc(8 << 20, 1)); all.length";
      await withSandbox({ tmpBytes: MB }, async (sandbox) => {
        sandbox.control.write(`${JSON.stringify(hoard)}\n`);
        assert.equal((await within(sandbox.ended, "the end")).reason, "out-of-memory");
      });
      await withSandbox({ tmpBytes: MB }, async (sandbox) => {
        await ask(sandbox, "0");
        await sandbox.setLimits({ memoryMB: 1024, cpuByMemory: false });
        assert.equal(await ask(sandbox, hoard), 64);
      });
    });

    it("bounds /tmp in bytes and files", (t) => {
      if (!driver.can.tmpLimit) return t.skip("the driver cannot");
      return withSandbox({ tmpBytes: 8 * MB }, async (sandbox) => {
        const fill = `(() => { const fs = require("fs"); const file = fs.openSync("/tmp/big", "w"); let n = 0;
          try { for (; n < 64; n++) fs.writeSync(file, Buffer.alloc(${MB})); } catch (error) { fs.rmSync("/tmp/big"); return [error.code, n]; } return "no limit"; })()`;
        assert.deepEqual(await ask(sandbox, fill), ["ENOSPC", 8]);
        const litter = `(() => { const fs = require("fs"); try { for (let n = 0; n < 4096; n++) fs.writeFileSync("/tmp/" + n, ""); } catch (error) { return error.code; } return "no limit"; })()`;
        assert.equal(await ask(sandbox, litter), "ENOSPC");
      });
    });

    it("bounds processes and open files", (t) => {
      if (!driver.can.processLimit) return t.skip("the driver cannot");
      return withSandbox({}, async (sandbox) => {
        const fork = `new Promise((resolve) => { for (let i = 0; i < 100; i++) require("child_process").spawn("sleep", ["60"], { stdio: "ignore" }).on("error", (error) => resolve(error.code)); })`;
        assert.equal(await ask(sandbox, fork), "EAGAIN");
        const opened = `(() => { try { for (let n = 0; n < 1000; n++) require("fs").openSync("/dev/null"); } catch (error) { return error.code; } return "no limit"; })()`;
        assert.equal(await ask(sandbox, opened), "EMFILE");
      });
    });

    it("reaps orphans", (t) => {
      if (!driver.can.processIsolation) return t.skip("on the host orphans are the host's");
      return withSandbox({}, async (sandbox) => {
        const orphans = `(() => { for (let i = 0; i < 10; i++) require("child_process").execFileSync("sh", ["-c", "true & exit 0"]); })(), 0`;
        await ask(sandbox, orphans);
        await until(
          async () => (await ask(sandbox, `require("fs").readdirSync("/proc").filter(Number).length`)) === 2,
          "no zombie is left",
        );
      });
    });

    it("shows the guest its own files only, and lets it write to /tmp only", (t) => {
      if (!driver.can.fileIsolation) return t.skip("the driver cannot");
      const secret = scratchDirectory();
      return withSandbox({}, async (sandbox) => {
        for (const path of ["/etc/shadow", secret, import.meta.filename, "/sys/kernel", "/run/mayfly", "/proc/1/root/etc/shadow"]) {
          assert.match(String(await ask(sandbox, `require("fs").readdirSync(${JSON.stringify(path)})`)), /^refused (ENOENT|EACCES)/, path);
        }
        for (const path of [
          "/x",
          "/etc/x",
          "/usr/bin/x",
          "/var/x",
          "/var/task/x",
          "/dev/x",
          "/proc/sys/kernel/core_pattern",
          "/proc/sysrq-trigger",
        ]) {
          assert.match(
            String(await ask(sandbox, `require("fs").writeFileSync(${JSON.stringify(path)}, "x")`)),
            /^refused (EROFS|EACCES|EPERM|ENOENT)/,
            path,
          );
        }
        assert.match(
          String(await ask(sandbox, `require("fs").readFileSync("/proc/kcore", "latin1").length`)),
          /^(0|refused (EACCES|ENOENT))$/,
        );
        assert.equal(await ask(sandbox, `require("fs").writeFileSync("/tmp/x", "x")`), null);
      });
    });

    it("shows the guest its own processes only", (t) => {
      if (!driver.can.processIsolation) return t.skip("the driver cannot");
      return withSandbox({}, async (sandbox) => {
        const own = await ask(sandbox, "process.pid");
        assert.deepEqual(await ask(sandbox, `require("fs").readdirSync("/proc").filter(Number)`), ["1", String(own)]);
        assert.equal(await ask(sandbox, `process.kill(${process.pid}, 0)`), "refused ESRCH");
        // crun gives the first process a variable of its own; of the platform's environment nothing may be there.
        assert.match(String(await ask(sandbox, `require("fs").readFileSync("/proc/1/environ", "utf8")`)), /^(HOME=\/tmp\0)?$/);
      });
    });

    it("runs the guest without privileges and behind a filter of system calls", (t) => {
      if (!driver.can.seccomp) return t.skip("the driver cannot");
      // The guest has none of these programs; it is lent the host's.
      const mounts = [{ source: "/usr", target: "/mnt", writable: false }];
      return withSandbox({ mounts }, async (sandbox) => {
        const status = String(await ask(sandbox, `require("fs").readFileSync("/proc/self/status", "utf8")`));
        assert.match(status, /^CapEff:\t0+$/m);
        assert.match(status, /^CapBnd:\t0+$/m);
        assert.match(status, /^NoNewPrivs:\t1$/m);
        assert.match(status, /^Seccomp:\t2$/m);
        assert.notEqual(await ask(sandbox, "process.getuid()"), 0);
        const libraries = "/mnt/lib/x86_64-linux-gnu:/mnt/lib/aarch64-linux-gnu:/mnt/lib64";
        const run = (command: string): Promise<unknown> =>
          ask(
            sandbox,
            `require("child_process").spawnSync("sh", ["-c", ${JSON.stringify(command)}], { env: { LD_LIBRARY_PATH: "${libraries}", PATH: "/mnt/bin:/mnt/sbin:/bin" } }).status`,
          );
        for (const name of ["unshare", "mount", "umount", "nsenter"]) assert.equal(await run(`${name} --version`), 0, name);
        for (const command of [
          "unshare -U true",
          "unshare -m true",
          "nsenter --net=/proc/self/ns/net true",
          "mount -t tmpfs none /tmp",
          "mount -o remount,rw /",
          "umount /tmp",
          "chroot /mnt true",
        ]) {
          assert.ok([1, 32, 125].includes(Number(await run(command))), command);
        }
      });
    });

    it("keeps the guest from the host, private networks and its neighbours", async (t) => {
      if (!driver.can.networkIsolation) return t.skip("the driver cannot");
      let hits = 0;
      const server = createServer((socket) => {
        hits++;
        socket.destroy();
      });
      server.listen(0, "::");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
      try {
        await withSandbox({ network: "internet" }, (one) =>
          withSandbox({ network: "internet" }, async (two) => {
            const addressOf = (sandbox: Sandbox): Promise<unknown> =>
              ask(sandbox, `require("os").networkInterfaces().eth0?.find((each) => each.family === "IPv4").address`);
            // A driver without a way out keeps all its guests at their loopback.
            const neighbour = String((await addressOf(two)) ?? "100.64.0.2");
            const gateway = neighbour.replace(/\d+$/, (last) => String(Number(last) - 1));
            const ownGateway = String((await addressOf(one)) ?? gateway).replace(/\d+$/, (last) => String(Number(last) - 1));
            const neighbourPort = await ask(
              two,
              `new Promise((resolve) => { const s = require("net").createServer((c) => c.end()); s.listen(0, "0.0.0.0", () => resolve(s.address().port)); })`,
            );
            const addresses: [string, unknown][] = [
              ["127.0.0.1", port],
              ["::1", port],
              ["0.0.0.0", port],
              [gateway, port],
              [ownGateway, port],
            ];
            for (const { address, scopeid } of own) if (!scopeid) addresses.push([address, port]);
            addresses.push([neighbour, neighbourPort], ["169.254.169.254", 80], ["10.0.0.1", 80], ["192.168.0.1", 80]);
            const connect = (address: string, to: unknown): Promise<unknown> =>
              ask(
                one,
                `new Promise((resolve) => { const s = require("net").connect({ host: "${address}", port: ${to}, timeout: 300 }, () => resolve("connected")); s.on("error", (e) => resolve("refused")); s.on("timeout", () => resolve("refused")); })`,
              );
            for (const [address, to] of addresses) assert.equal(await connect(address, to), "refused", `${address}:${to}`);
            // The suite would notice: a guest does reach what listens in its own namespace.
            const ownPort = await ask(
              one,
              `new Promise((resolve) => { const s = require("net").createServer((c) => c.end()); s.listen(0, () => resolve(s.address().port)); })`,
            );
            assert.equal(await connect("127.0.0.1", ownPort), "connected");
          }),
        );
        assert.equal(hits, 0);
      } finally {
        server.close();
      }
    });

    it("gives a guest without network nothing but its loopback", (t) => {
      if (!driver.can.networkIsolation) return t.skip("the driver cannot");
      return withSandbox({}, async (sandbox) => {
        assert.deepEqual(await ask(sandbox, `Object.keys(require("os").networkInterfaces())`), ["lo"]);
      });
    });

    it("destroys what is left when it is closed, and makes nothing more", async () => {
      const other = await open();
      const seconds = uniqueSeconds();
      const sandbox = await other.create(probeSpec);
      await ask(sandbox, `require("child_process").spawn("sleep", ["${seconds}"]).pid`);
      await within(other.close(), "the driver's close");
      assert.equal((await sandbox.ended).reason, "destroyed");
      assert.equal(processesWith(`sleep ${seconds}`), 0);
      await assert.rejects(other.create(probeSpec), { code: "sandbox_unavailable" });
      await other.close();
    });
  });
}
