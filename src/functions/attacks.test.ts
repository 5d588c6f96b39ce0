/** What a hostile Function may try, in real sandboxes: to leak, to lie, to flood, to spy, to outlive. Where a driver cannot
 * hold something back its `can` says so, and the case is left out. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, it } from "node:test";
import { MayflyError } from "../errors.ts";
import { openTestDrivers, Stage, until, type TestFunction } from "./testbed.ts";

const drivers = await openTestDrivers();
/** The strongest of this machine. */
const driver = drivers.at(-1)!;

const codeOf = async (answer: Promise<unknown>): Promise<string> =>
  await answer.then(
    () => "answered",
    (error: unknown) => (error instanceof MayflyError ? error.code : String(error)),
  );

const restful = async (stage: Stage): Promise<void> => await until(() => stage.pools.status.resting === stage.pools.status.instances);

describe(`leaks on ${driver.name}`, { timeout: 300_000 }, () => {
  it("keeps 20,000 answers with their requests, through aborts, timeouts, crashes and thaws", async (t) => {
    await using stage = await Stage.open(driver, { instancesPerFunctionMax: 4, poolSize: 4, bootFailuresMax: 1000 }, { time: "real" });
    const f = await stage.deploy(
      {
        "index.js": `
          let last;
          const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
          module.exports = async (req, res) => {
            const [, kind, token] = req.url.split("/");
            // What is left of the request before tries to speak into this one.
            try { last?.write("stale"); last?.end("stale"); } catch {}
            last = undefined;
            console.log("of", token);
            switch (kind) {
              case "wait": await wait(1); break;
              case "chunks": res.write(token); await new Promise(setImmediate); return void res.end(token);
              case "big": return void res.end((token + ",").repeat(3000) + token + token);
              case "late": last = res; res.end(token + token); return void setTimeout(() => { try { res.write("late"); } catch {} }, 1);
              case "partial": res.write(token); await wait(2000); return void res.end(token);
              case "hang": last = res; await wait(2000); break;
              case "crash": res.write("half"); process.exit(1);
            }
            res.end(token + token);
          };`,
      },
      { maxDurationS: 0.3, helpers: false },
    );
    const total = 20_000;
    const quiet = ["plain", "plain", "plain", "chunks", "wait", "late", "big"];
    let next = 0;
    let answered = 0;
    let failed = 0;
    const client = async (seat: number): Promise<void> => {
      while (next < total) {
        const number = next++;
        const token = `${seat}x${number}x${Math.random().toString(36).slice(2)}`;
        const rare = number % 800;
        const kind = rare === 17 ? "hang" : rare === 117 ? "partial" : rare === 217 ? "crash" : quiet[number % quiet.length];
        const control = new AbortController();
        if (number % 400 === 3) setTimeout(() => control.abort(), number % 4);
        try {
          const { text } = await stage.call(f, { url: `/${kind}/${token}`, signal: control.signal });
          assert.ok(text.endsWith(token + token), `asked for ${token}, got …${text.slice(-200)}`);
          assert.equal(text.replaceAll(token, "").replaceAll(",", ""), "");
          answered++;
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          failed++;
          if (control.signal.aborted) continue;
          assert.ok(error instanceof MayflyError, `${kind}: ${String(error)}`);
          // On a busy machine any of them may take too long.
          const expected = kind === "crash" ? /_FAILED$|_TIMEOUT$/ : /_TIMEOUT$/;
          assert.match(error.code, expected, `${kind}: ${error.code} ${error.message}`);
        }
        // Now and then all of them come to rest, so that the next one has to thaw, or meets the freeze.
        if (number % 20 === 0) await sleep(number % 3);
      }
    };
    const begun = performance.now();
    await Promise.all(Array.from({ length: 8 }, (_, seat) => client(seat)));
    t.diagnostic(`${total} requests, ${failed} cut off, ${((performance.now() - begun) / 1000).toFixed(1)} s`);
    assert.ok(answered > total * 0.97, `${answered} answered`);
    // What was printed stands with the invocation that printed it: each has one line of its own, or none.
    await stage.logs.flush();
    const { lines } = await stage.logs.query({ deploymentId: f.manifest.deploymentId });
    const printed = lines.filter((line) => line.text.startsWith("of "));
    assert.ok(printed.length > 0);
    assert.equal(new Set(printed.map((line) => line.invocationId)).size, printed.length);
  });
});

describe(`lies on ${driver.name}`, { timeout: 120_000 }, () => {
  /** Each writes the given bytes where the platform reads, and then answers as if nothing were. */
  const liar = async (stage: Stage, descriptor: 3 | 4): Promise<TestFunction> =>
    await stage.deploy(
      {
        "index.js": `
          const { writeSync } = require("node:fs");
          const write = (bytes) => {
            for (let at = 0; at < bytes.length; ) {
              try { at += writeSync(${descriptor}, bytes, at); } catch (error) { if (error.code !== "EAGAIN") return; }
            }
          };
          module.exports = async (req, res) => {
            const chunks = [];
            for await (const chunk of req) chunks.push(chunk);
            const lie = Buffer.concat(chunks);
            if (lie.length === 0) return void res.end("honest");
            const step = Number(req.url.slice(1)) || lie.length;
            for (let at = 0; at < lie.length; at += step) {
              write(lie.subarray(at, at + step));
              await new Promise(setImmediate);
            }
            setTimeout(() => res.end("honest"), 50);
          };`,
      },
      { helpers: false },
    );

  const check = async (stage: Stage, f: TestFunction, name: string, lie: string, expected: string | RegExp, step = 0): Promise<void> => {
    const answer = stage.call(f, { body: lie, url: `/${step}` });
    const seen = await answer.then(
      ({ text }) => text,
      (error: unknown) => (error instanceof MayflyError ? error.code : String(error)),
    );
    if (typeof expected === "string") assert.equal(seen, expected, name);
    else assert.match(seen, expected, name);
    assert.equal((await stage.call(f)).text, "honest", `after ${name}`);
  };

  it("takes no control message that is not due", async () => {
    await using stage = await Stage.open(driver, { poolSize: 4, bootFailuresMax: 1000 }, { time: "real" });
    const f = await liar(stage, 3);
    const invalid = "FUNCTION_RESPONSE_INVALID";
    const lies: readonly (readonly [string, string])[] = [
      ["not JSON", "hello\n"],
      ["an empty line", "\n"],
      ["null", "null\n"],
      ["a list", "[]\n"],
      ["no type", "{}\n"],
      ["an unknown type", '{"type":"root"}\n'],
      ["ready again", '{"type":"ready"}\n'],
      ["loaded again", '{"type":"loaded","ms":1}\n'],
      ["failed to load", '{"type":"load-failed","message":"x"}\n'],
      ["the end of no upgrade", '{"type":"idle"}\n'],
      ["the prototype", '{"__proto__":{"type":"ready"}}\n'],
      ["NUL", "\0\0\0\n"],
      ["depth", `${"[".repeat(60_000)}\n`],
      ["no end", "x".repeat(70_000)],
      ["a megabyte", "y".repeat(1_000_000)],
      ["a thousand lines", '{"type":"idle"}\n'.repeat(1000)],
    ];
    for (const [name, lie] of lies) await check(stage, f, name, lie, invalid);
    await check(stage, f, "in pieces", '{"type":"ready"}\n', invalid, 1);
    // Half a message and then the true one is one message that is not valid.
    await check(stage, f, "half a message", '{"type":', /^(honest|FUNCTION_RESPONSE_INVALID)$/);
  });

  it("passes on no answer that is not one", async () => {
    await using stage = await Stage.open(driver, { poolSize: 4, bootFailuresMax: 1000, headersBytesMax: 16_384 }, { time: "real" });
    const f = await liar(stage, 4);
    const ok = "HTTP/1.1 200 OK\r\n";
    const invalid = "FUNCTION_RESPONSE_INVALID";
    const lies: readonly (readonly [string, string])[] = [
      ["no HTTP", "SSH-2.0-x\r\n\r\n"],
      ["HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n"],
      ["HTTP/2", "HTTP/2 200\r\n\r\n"],
      ["bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 1\n\nx"],
      ["a bare carriage return", `${ok}a: b\rc: d\r\n\r\n`],
      ["NUL", `${ok}a: \0\r\n\r\n`],
      ["no status", "HTTP/1.1 OK\r\n\r\n"],
      ["status 99", "HTTP/1.1 099 X\r\n\r\n"],
      ["status 600", "HTTP/1.1 600 X\r\n\r\n"],
      ["another protocol", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"],
      ["hints without end", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100)],
      ["no colon", `${ok}header\r\n\r\n`],
      ["a space before the colon", `${ok}a : b\r\n\r\n`],
      ["a folded header", `${ok}a: b\r\n c\r\n\r\n`],
      ["a head without end", `${ok}${"a: b\r\n".repeat(10_000)}`],
      ["a long header", `${ok}a: ${"b".repeat(20_000)}\r\n\r\n`],
      ["two lengths", `${ok}content-length: 1\r\ncontent-length: 1\r\n\r\nx`],
      ["a negative length", `${ok}content-length: -1\r\n\r\n`],
      ["a length in hex", `${ok}content-length: 0x1\r\n\r\nx`],
      ["a length beyond numbers", `${ok}content-length: 99999999999999999999\r\n\r\nx`],
      ["length and chunks", `${ok}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
      ["another coding", `${ok}transfer-encoding: gzip\r\n\r\n`],
      ["two codings", `${ok}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
      ["chunks twice", `${ok}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
      ["a chunk without size", `${ok}transfer-encoding: chunked\r\n\r\n\r\nx\r\n`],
      ["a chunk with a wrong size", `${ok}transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n`],
      ["a chunk of a negative size", `${ok}transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n`],
      ["a chunk of an endless size", `${ok}transfer-encoding: chunked\r\n\r\n${"f".repeat(20)}\r\nx\r\n`],
      ["a chunk's extension", `${ok}transfer-encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n`],
      ["a chunk that is longer", `${ok}transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n`],
      ["trailers without end", `${ok}transfer-encoding: chunked\r\n\r\n0\r\n${"a: b\r\n".repeat(10_000)}`],
    ];
    for (const [name, lie] of lies) {
      await check(stage, f, name, lie, invalid);
      if (lie.length < 60) await check(stage, f, `${name}, in pieces`, lie, invalid, 3);
    }
    // Well-formed forgeries are the Function's own words; what follows them reaches nobody.
    await check(stage, f, "idle before the answer", "\0", invalid);
    await check(stage, f, "idle within the answer", `${ok}\0`, invalid);
    const forged = (text: string): string => `${ok}content-length: ${text.length}\r\n\r\n${text}`;
    await check(stage, f, "an answer before the answer", forged("forged"), "forged");
    await check(stage, f, "two answers", forged("first") + forged("second"), "first");
    await check(stage, f, "idle too soon", `${forged("soon")}\0`, "soon");
    await check(stage, f, "idle twice", `${forged("twice")}\0\0`, "twice");
    await check(stage, f, "more than its length", `${forged("short")} and more`, "short");
    await check(stage, f, "more than its chunks", `${ok}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nmore`, "x");
    await check(stage, f, "hints and an answer", `HTTP/1.1 103 Early Hints\r\n\r\n${forged("hinted")}`, "hinted");
  });

  it("gives an answer that was there before the request to nobody", async () => {
    await using stage = await Stage.open(driver, { bootFailuresMax: 1000, poolSize: 2 }, { time: "real" });
    const f = await stage.deploy({
      "index.js": `
        const { writeSync } = require("node:fs");
        module.exports = (req, res) => {
          res.end("true");
          // After the word that it is idle, as far as it can be told from in here.
          res.on("close", () => setImmediate(() => writeSync(4, "HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\n\\r\\nfalse")));
        };`,
    });
    for (let round = 0; round < 20; round++) {
      const seen = await stage.call(f).then(
        ({ text }) => text,
        (error: MayflyError) => error.code,
      );
      // Its own forgery may meet its own next request in the very moment in which it is sent; nobody else's.
      assert.match(seen, /^(true|false|FUNCTION_RESPONSE_INVALID)$/);
      await restful(stage);
    }
    const other = await stage.deploy({ "index.js": "module.exports = (req, res) => res.end('other');" });
    assert.equal((await stage.call(other)).text, "other");
  });
});

describe(`floods on ${driver.name}`, { timeout: 120_000 }, () => {
  for (const [name, source] of [
    ["short lines", "const text = 'x\\n'.repeat(30_000); for (;;) process.stdout.write(text);"],
    ["empty lines", "const text = '\\n'.repeat(60_000); for (;;) process.stdout.write(text);"],
    ["one endless line", "const text = 'x'.repeat(60_000); for (;;) process.stderr.write(text);"],
  ] as const) {
    it(`bounds what ${name} cost, keeps others going, and says what was dropped`, async () => {
      await using stage = await Stage.open(driver, { poolSize: 1 }, { time: "real" });
      const other = await stage.deploy({ "index.js": "module.exports = (req, res) => res.end('fine');" });
      await stage.call(other);
      const f = await stage.deploy({ "index.js": `module.exports = () => { ${source} };` }, { maxDurationS: 2 });
      const before = process.memoryUsage().rss;
      const flood = codeOf(stage.call(f));
      const waits: number[] = [];
      while ((await Promise.race([flood, sleep(10)])) === undefined) {
        const begun = performance.now();
        assert.equal((await stage.call(other)).text, "fine");
        waits.push(performance.now() - begun);
      }
      assert.equal(await flood, "FUNCTION_INVOCATION_TIMEOUT");
      const grown = (process.memoryUsage().rss - before) / 1e6;
      assert.ok(grown < 200, `${grown} MB more`);
      waits.sort((a, b) => a - b);
      assert.ok(waits[Math.floor(waits.length / 2)]! < 200, `the other waited ${waits[Math.floor(waits.length / 2)]} ms`);
      await stage.log(f, (all) => all.some((line) => line.stream === "system" && /timed out/.test(line.text)));
      const page = await stage.logs.query({ deploymentId: f.manifest.deploymentId, limit: 10_000 });
      assert.ok(page.lines.length <= 1001, `${page.lines.length} lines kept`);
      assert.ok(page.dropped > 1000, `${page.dropped} dropped`);
    });
  }

  it(
    "answers a Function that uses up its open files and its processes by errors of its own",
    { skip: !driver.can.processLimit },
    async () => {
      await using stage = await Stage.open(driver, { openFilesMax: 100, processesMax: 40 }, { time: "real" });
      const f = await stage.deploy({
        "index.js": `
        const fs = require("node:fs");
        const { spawn } = require("node:child_process");
        module.exports = async (req, res) => {
          const codes = new Set();
          if (req.url === "/files") {
            const open = [];
            try { for (;;) open.push(fs.openSync("/dev/null")); } catch (error) { codes.add(error.code); }
            for (const fd of open) fs.closeSync(fd);
          } else if (req.url === "/processes") {
            const children = [];
            for (let n = 0; n < 60; n++) {
              const child = spawn("sleep", ["100"], { stdio: "ignore" });
              child.on("error", (error) => codes.add(error.code));
              children.push(child);
              await new Promise(setImmediate);
            }
            for (const child of children) child.kill("SIGKILL");
          } else if (req.url === "/bomb") {
            spawn("sh", ["-c", "bomb() { bomb | bomb & }; bomb"], { stdio: "ignore" }).on("error", () => {});
            await new Promise((resolve) => setTimeout(resolve, 300));
          }
          res.end([...codes].join());
        };`,
      });
      assert.equal((await stage.call(f, { url: "/files" })).text, "EMFILE");
      assert.match((await stage.call(f, { url: "/processes" })).text, /EAGAIN/);
      assert.match(await codeOf(stage.call(f, { url: "/bomb" })), /^(answered|FUNCTION_|NO_RESPONSE)/);
      const other = await stage.deploy({ "index.js": "module.exports = (req, res) => res.end('fine');" });
      assert.equal((await stage.call(other)).text, "fine");
      await restful(stage);
    },
  );

  it("names a kill for want of memory, and goes on with a fresh instance", { skip: driver.can.memoryLimit !== "tree" }, async () => {
    await using stage = await Stage.open(driver, { tmpBytesMax: 16 << 20 }, { time: "real" });
    const f = await stage.deploy(
      {
        "index.js": `
          let count = 0;
          module.exports = async (req, res) => {
            if (req.url !== "/eat") return void res.end(String(++count));
            const kept = [];
            for (;;) { kept.push(Buffer.alloc(8 << 20, 1)); await new Promise(setImmediate); }
          };`,
      },
      { memoryMB: 128 },
    );
    assert.equal((await stage.call(f)).text, "1");
    assert.equal(await codeOf(stage.call(f, { url: "/eat", id: "eater" })), "FUNCTION_INVOCATION_FAILED");
    const after = await stage.call(f);
    assert.deepEqual([after.text, after.start], ["1", "cold"]);
    const lines = await stage.log(f, (all) => all.some((line) => line.stream === "system"));
    const said = lines.find((line) => line.invocationId === "eater" && line.stream === "system");
    assert.match(said!.text, /ran out of memory: it needed more than its 128 MB/);
  });
});

describe(`spies and ghosts on ${driver.name}`, { timeout: 120_000 }, () => {
  it("shows a Function nothing of another's", { skip: !driver.can.fileIsolation }, async () => {
    await using stage = await Stage.open(driver, {}, { time: "real" });
    const mark = (what: string): string => `mark-of-${what}`;
    const victim = await stage.deploy(
      {
        "index.js": `
          // ${mark("code")}
          require("node:fs").writeFileSync("/tmp/secret", "${mark("tmp")}");
          module.exports = (req, res) => { setTimeout(() => res.end(), 3000); };`,
      },
      { env: { SECRET: mark("env") } },
    );
    const spy = await stage.deploy(
      {
        "index.js": `
          const { execFileSync } = require("node:child_process");
          const sh = (command) => { try { return execFileSync("sh", ["-c", command], { encoding: "latin1", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] }); } catch (error) { return String(error.stdout); } };
          module.exports = (req, res) => res.json({
            found: sh("cat /proc/*/environ /proc/*/cmdline /proc/*/root/tmp/* /proc/*/cwd/* /tmp/* /tmp/../var/task/* /var/task/../*/* /var/runtime/../task/*/* 2>/dev/null").match(/mark-of-[a-z]+/g),
            processes: sh("ls /proc | grep -c '^[0-9]'").trim(),
            env: Object.keys(process.env),
          });`,
      },
      { name: "spy" },
    );
    const busy = stage.call(victim);
    await until(() => stage.pools.status.instances === 1 && stage.pools.status.waiting === 0);
    const { found, processes, env } = JSON.parse((await stage.call(spy)).text) as {
      found: string[] | null;
      processes: string;
      env: string[];
    };
    assert.equal(found, null);
    assert.ok(Number(processes) < 10, `${processes} processes`);
    assert.ok(!env.includes("SECRET"));
    await busy;
  });

  it("stops sub-processes with the instance, and ends them with it", async () => {
    await using stage = await Stage.open(driver, { instanceIdleMs: 1500 }, { time: "real" });
    // One plain child and one that has left the process group and the tree.
    const f = await stage.deploy({
      "index.js": `
        const { spawn } = require("node:child_process");
        const { readFileSync } = require("node:fs");
        const file = require("node:os").tmpdir() + "/ticks-";
        const loop = (name) => "while :; do echo >> " + file + name + "; sleep 0.02; done";
        const count = (name) => { try { return readFileSync(file + name).length; } catch { return 0; } };
        spawn("sh", ["-c", loop("plain")], { stdio: "ignore" });
        ${driver.can.freeze === "tree" ? `spawn("setsid", ["-f", "sh", "-c", loop("escaped")], { stdio: "ignore" });` : ""}
        module.exports = (req, res) => {
          if (req.url === "/look") return res.json([count("plain"), count("escaped")]);
          setTimeout(() => res.json([count("plain"), count("escaped")]), 300);
        };`,
    });
    const look = async (url: string): Promise<number[]> => JSON.parse((await stage.call(f, { url })).text) as number[];
    const running = await look("/wait");
    assert.ok(running[0]! > 3);
    if (driver.can.freeze === "tree") assert.ok(running[1]! > 3);
    await restful(stage);
    await sleep(1000);
    const thawed = await look("/look");
    for (const [index, ticks] of thawed.entries()) assert.ok(ticks - running[index]! < 10, `${running} → ${thawed}`);
    const further = await look("/wait");
    assert.ok(further[0]! > thawed[0]! + 3, "they go on");
    await until(() => stage.pools.status.instances === 0);
  });
});
