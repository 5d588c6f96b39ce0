/**
 * Builds that want out, want more than their share, or leave traps for whoever reads what they wrote: in the strongest
 * sandboxes of this machine, each under limits from its first line. After each the platform builds on and nothing is left.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { BuildCaches } from "./build-cache.ts";
import type { BuildResult } from "./build.ts";
import { openTestbed, type BuildOptions, type Files, type Testbed } from "./testbed.ts";

const MB = 1024 * 1024;

let bed: Testbed;
before(async () => {
  bed = await openTestbed({ strongest: true });
});
after(() => bed[Symbol.asyncDispose]());
afterEach(async () => assert.deepEqual(await bed.leftovers(), []));

type Outcome = BuildResult & { readonly log: readonly string[] };

/** A project whose build is a script of Node's, and leaves `public/`. */
const project = (script: string): Files => ({
  "vercel.json": JSON.stringify({ buildCommand: "node build.cjs", outputDirectory: "public" }),
  "build.cjs": `const fs = require("fs"); const { execFileSync, spawn } = require("child_process"); fs.mkdirSync("public");\n${script}`,
});

const build = (script: string, options?: BuildOptions): Promise<Outcome> => bed.build(project(script), options);

async function refused(script: string, code: string, message: RegExp, options?: BuildOptions): Promise<void> {
  await assert.rejects(build(script, options), (error: Error & { code?: string; log?: string[] }) => {
    assert.equal(error.code, code, `${error.message}\n${error.log?.join("\n")}`);
    assert.match(error.message, message);
    return true;
  });
}

/** Host processes that have `text` in their command line. */
function processesWith(text: string): number {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(text);
    } catch {
      return false;
    }
  }).length;
}

describe("builds that put traps where the platform looks", { timeout: 240_000 }, () => {
  for (const [name, end] of [
    ["and succeeds", 'spawn("sh", ["-c", "kill -9 $PPID"]);'],
    ["and fails", "process.exit(1);"],
  ] as const) {
    test(`a link in the place of the source directory ${name}: nothing of the machine is read, moved or given away`, async (t) => {
      if (!bed.sandboxes.can.fileIsolation) return t.skip("a build of this driver is at home on the machine");
      const victim = scratchDirectory();
      for (const path of ["node_modules/secret", ".vercel/output/static", "public"]) mkdirSync(join(victim, path), { recursive: true });
      writeFileSync(join(victim, "node_modules/secret/index.js"), "secret");
      writeFileSync(join(victim, ".vercel/output/config.json"), '{"version":3}');
      writeFileSync(join(victim, ".vercel/output/static/stolen"), "secret");
      const owner = statSync(victim).uid;
      const kept = scratchDirectory();
      const caches = new BuildCaches({ directory: kept, laneBytesMax: 100 * MB, bytesMax: 100 * MB });
      const trap = `fs.renameSync("/vercel/path0", "/vercel/gone"); fs.symlinkSync(${JSON.stringify(victim)}, "/vercel/path0"); ${end}`;
      const outcome = await build(trap, { caches }).catch((error: unknown) => error);
      assert.ok(outcome instanceof Error, "it is refused");
      assert.ok(existsSync(join(victim, "node_modules/secret/index.js")));
      assert.deepEqual(readdirSync(kept, { recursive: true }), []);
      // Nor does a next build of the project find it, or its user own it.
      await build("", { caches });
      assert.equal(statSync(join(victim, "node_modules")).uid, owner);
    });
  }

  test("the same by a build that ends well", async (t) => {
    if (!bed.sandboxes.can.fileIsolation) return t.skip("a build of this driver is at home on the machine");
    const victim = scratchDirectory();
    mkdirSync(join(victim, ".vercel/output/static"), { recursive: true });
    writeFileSync(join(victim, ".vercel/output/config.json"), '{"version":3}');
    writeFileSync(join(victim, ".vercel/output/static/stolen"), "secret");
    // A daemon waits until the worker has written its report, the last thing that it does.
    const daemon = `const fs = require("fs"); const end = Date.now() + 20000;
      while (!fs.existsSync("/vercel/report.json") && Date.now() < end);
      fs.renameSync("/vercel/path0", "/vercel/gone"); fs.symlinkSync(${JSON.stringify(victim)}, "/vercel/path0");`;
    const outcome = await build(`spawn("node", ["-e", ${JSON.stringify(daemon)}], { detached: true, stdio: "ignore" }).unref();`).catch(
      (error: Error & { code?: string }) => error,
    );
    // Who of the two is first is chance; the victim's file is never among what comes out.
    if (outcome instanceof Error) assert.equal((outcome as { code?: string }).code, "BUILD_OUTPUT_INVALID", outcome.message);
    else assert.deepEqual(Object.keys(outcome.outputs), []);
  });

  test("links out of the output, to files of the machine, of the sandbox and of another build", async () => {
    const result = await build(`
      fs.writeFileSync("public/page.html", "page");
      for (const [name, target] of Object.entries({
        passwd: "/etc/passwd", environ: "/proc/self/environ", up: "../../../../../../../etc/passwd", other: "../../path0/../home",
        all: "/", here: "..", root: "/proc/1/root/etc/passwd", loop: "loop", descriptor: "/proc/self/fd/0",
      })) fs.symlinkSync(target, "public/" + name);
      fs.mkdirSync("public/deep"); fs.symlinkSync("/etc", "public/deep/etc");
      fs.symlinkSync("page.html", "public/same.html");`);
    assert.deepEqual(Object.keys(result.outputs).sort(), ["page.html", "same.html"]);
    assert.equal(result.log.filter((line) => /leads to no file of the project/.test(line)).length, 10);
  });

  for (const place of [".vercel", ".vercel/output", ".vercel/output/static", ".vercel/output/config.json"]) {
    test(`a link in the place of ${place}`, async () => {
      // The worker may have made directories of its own in the link's place: then the build has no output, and that is all.
      const outcome = await build(`
        fs.rmSync("${place}", { recursive: true, force: true });
        fs.mkdirSync(require("path").dirname("${place}"), { recursive: true });
        fs.symlinkSync("/etc", "${place}");`).catch((error: Error & { code?: string }) => error);
      if (outcome instanceof Error) assert.match(String((outcome as { code?: string }).code), /^BUILD_(FAILED|OUTPUT_INVALID)$/);
      else assert.deepEqual(outcome.outputs, {});
    });
  }

  test("pipes, sockets, devices and hard links to the machine's files", async (t) => {
    const tries = `
      const tried = {};
      const attempt = (name, act) => { try { act(); tried[name] = "done"; } catch (error) { tried[name] = error.code ?? String(error.status); } };
      attempt("device", () => execFileSync("mknod", ["public/device", "b", "8", "0"], { stdio: "ignore" }));
      attempt("passwd", () => fs.linkSync("/etc/passwd", "public/passwd"));
      attempt("node", () => fs.linkSync("/var/lang/bin/node", "public/node"));
      attempt("platform", () => fs.linkSync("/var/mayfly/package.json", "public/platform"));
      attempt("through", () => { fs.symlinkSync("/etc", "etc"); fs.linkSync("etc/passwd", "public/through"); });
      attempt("pipe", () => execFileSync("mkfifo", ["public/pipe"]));
      fs.writeFileSync("public/tried.json", JSON.stringify(tried));
      require("net").createServer().listen("public/socket", () => process.exit());`;
    if (!bed.sandboxes.can.fileIsolation) return t.skip("a build of this driver is at home on the machine");
    const result = await build(tries);
    assert.deepEqual(Object.keys(result.outputs), ["tried.json"]);
    const { pipe, ...others } = JSON.parse(await bed.text(result, "tried.json")) as Record<string, string>;
    assert.match(String(pipe), /^(done|ENOENT)$/);
    for (const [name, outcome] of Object.entries(others)) assert.notEqual(outcome, "done", name);
    // The same in an output that is taken as it is.
    await refused(
      `fs.mkdirSync(".vercel/output/static", { recursive: true }); fs.writeFileSync(".vercel/output/config.json", '{"version":3}');
       require("net").createServer().listen(".vercel/output/static/socket", () => process.exit());`,
      "BUILD_OUTPUT_INVALID",
      /neither file nor directory/,
    );
  });
});

describe("builds that want more than their share", { timeout: 240_000 }, () => {
  test("processes without end: the build's own fail, its time ends it, and none is left", async (t) => {
    if (!bed.sandboxes.can.processLimit) return t.skip("the driver cannot");
    const mark = `77${process.pid}.5`;
    let most = 0;
    const watch = setInterval(() => (most = Math.max(most, processesWith(`sleep\0${mark}`))), 100);
    try {
      const bomb = `
        const bomb = () => { for (let i = 0; i < 20; i++) spawn("sh", ["-c", "sleep ${mark} & exec sleep ${mark}"], { stdio: "ignore", detached: true }).on("error", () => {}); };
        setInterval(bomb, 1);`;
      await refused(bomb, "BUILD_TIMEOUT", /longer than 3 s/, { config: { buildTimeoutMs: 3000, processesMax: 200 } });
    } finally {
      clearInterval(watch);
    }
    assert.ok(most > 20 && most <= 200, `${most} processes`);
    assert.equal(processesWith(mark), 0);
  });

  test("what it leaves running, deaf to signals, out of its group and with its output open, ends with it", async (t) => {
    if (!bed.sandboxes.can.processIsolation) return t.skip("the driver cannot");
    const mark = `78${process.pid}.5`;
    const result = await build(`
      fs.writeFileSync("public/a", "a");
      spawn("setsid", ["sh", "-c", "trap '' TERM HUP INT; (setsid sleep ${mark} &) ; while :; do sleep ${mark}; done"], { detached: true, stdio: "inherit" }).unref();
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);`);
    assert.deepEqual(Object.keys(result.outputs), ["a"]);
    assert.equal(processesWith(mark), 0);
  });

  test("files without end", async () => {
    const litter = `for (let n = 0; ; n++) { if (n % 1000 === 0) fs.mkdirSync("public/" + n / 1000); fs.writeFileSync("public/" + Math.floor(n / 1000) + "/" + n, ""); }`;
    await refused(litter, "BUILD_OUT_OF_DISK", /more than 2000 files/, { config: { buildFilesMax: 2000, buildTimeoutMs: 60_000 } });
  });

  test("more bytes than its disk, in files that are each small enough", async () => {
    const fill = `const block = Buffer.alloc(1 << 20, 1);
      for (let n = 0; n < 200; n++) fs.writeFileSync("big" + n, block);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60000);`;
    const config = { buildDiskBytesMax: 64 * MB, buildTimeoutMs: 60_000 };
    await refused(fill, "BUILD_OUT_OF_DISK", /more than 64 MB of disk/, { config });
  });

  test("a file that is larger than all the disk, and empty", async () => {
    const sparse = `const file = fs.openSync("public/sparse", "w");
      try { fs.ftruncateSync(file, 100 * 2 ** 30); } catch (error) { console.log("refused:", error.code); process.exit(9); }`;
    await refused(sparse, "BUILD_OUT_OF_DISK", /a file larger than 10240 MB/);
    // Also when a program is ended for it, or says so in its own words.
    const config = { buildDiskBytesMax: 64 * MB };
    for (const command of ["head -c 100000000 /dev/zero > public/large", "dd if=/dev/zero of=public/large bs=1M count=100 || exit 1"]) {
      await refused(`execFileSync("sh", ["-c", ${JSON.stringify(command)}], { stdio: "inherit" });`, "BUILD_OUT_OF_DISK", /64 MB/, {
        config,
      });
    }
    // One that is within a file's limit, and with others beyond the output's.
    const many = `for (let n = 0; n < 3; n++) { fs.ftruncateSync(fs.openSync("public/" + n, "w"), 50 * ${MB}); }`;
    await refused(many, "BUILD_OUTPUT_INVALID", /more than 100\.00 MB/, {
      config: { buildDiskBytesMax: 64 * MB, outputBytesMax: 100 * MB },
    });
  });

  test("more files in the output than a deployment may have, and deeper ones than a path can say", async () => {
    await refused(`for (let n = 0; n < 2000; n++) fs.writeFileSync("public/" + n, "");`, "BUILD_OUTPUT_INVALID", /more than 1000 files/, {
      config: { filesMax: 1000 },
    });
    const deep = `process.chdir("public"); for (let n = 0; n < 60; n++) { fs.mkdirSync("d".repeat(200)); process.chdir("d".repeat(200)); } fs.writeFileSync("x", "");`;
    await assert.rejects(build(deep), { code: /^BUILD_(FAILED|OUTPUT_INVALID)$/ });
  });

  test("output without end: read and bounded, and its time ends it", async () => {
    let lines = 0;
    const before = process.memoryUsage().rss;
    await assert.rejects(
      build(`const text = "flood ".repeat(100) + "\\n"; const block = text.repeat(100); for (;;) fs.writeSync(1, block);`, {
        config: { buildTimeoutMs: 3000 },
      }),
      (error: Error & { code?: string; log?: string[] }) => {
        lines = error.log?.length ?? 0;
        assert.equal(error.code, "BUILD_TIMEOUT");
        assert.ok(error.log?.some((line) => /the rest of its output is dropped/.test(line)));
        return true;
      },
    );
    assert.ok(lines < 70_000, `${lines} lines`);
    const grown = (process.memoryUsage().rss - before) / MB;
    assert.ok(grown < 400, `${grown} MB more`);
  });

  test("one that kills all that it can, and its worker with it", async () => {
    await assert.rejects(
      build(`try { process.kill(-1, "SIGKILL"); } catch {} Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000);`),
      {
        code: /^BUILD_(FAILED|OUT_OF_MEMORY)$/,
      },
    );
  });
});

describe("builds that spy", { timeout: 60_000 }, () => {
  test("see nothing of the machine, of the platform's environment and of its other builds", async (t) => {
    if (!bed.sandboxes.can.networkIsolation) return t.skip("the driver cannot");
    const secret = scratchDirectory();
    writeFileSync(join(secret, "mark"), "mark-of-the-host");
    const result = await build(
      `
      const read = (path) => { try { return fs.readFileSync(path, "latin1"); } catch (error) { return error.code; } };
      const list = (path) => { try { return fs.readdirSync(path); } catch (error) { return error.code; } };
      fs.writeFileSync("public/seen.json", JSON.stringify({
        secret: read(${JSON.stringify(join(secret, "mark"))}), shadow: read("/etc/shadow"), run: list("/run/mayfly"), work: list("/vercel"),
        docker: list("/var/run/docker.sock"), env: Object.keys(process.env), first: read("/proc/1/environ"),
        processes: list("/proc").filter((name) => Number(name)).length,
        interfaces: Object.values(require("os").networkInterfaces()).flat().map((each) => each.address),
        write: ["/etc/x", "/var/mayfly/x", "/var/lang/x", "/usr/x"].map((path) => { try { fs.writeFileSync(path, ""); return "wrote"; } catch (error) { return error.code; } }),
      }));`,
      { env: { OF_FUNCTIONS: "not-the-builds" }, buildEnv: { OWN: "the-builds" } },
    );
    const seen = JSON.parse(await bed.text(result, "seen.json")) as Record<string, unknown>;
    assert.equal(seen["secret"], "ENOENT");
    assert.equal(seen["shadow"], "ENOENT");
    assert.equal(seen["run"], "ENOENT");
    assert.match(String(seen["docker"]), /^E/);
    assert.ok(Number(seen["processes"]) < 10);
    const names = seen["env"] as string[];
    assert.ok(names.includes("OWN") && !names.includes("OF_FUNCTIONS"));
    assert.deepEqual(
      names.filter((name) => name.startsWith("MAYFLY") || (name in process.env && /TOKEN|SECRET|PASS/.test(name))),
      [],
    );
    assert.match(String(seen["first"]), /^(HOME=\/tmp\0)?$/);
    for (const outcome of seen["write"] as string[]) assert.notEqual(outcome, "wrote");
    for (const path of seen["work"] as string[]) assert.match(path, /^(path0|home|tmp|downloads)$/);
  });
});
