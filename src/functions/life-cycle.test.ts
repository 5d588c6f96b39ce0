/** What an instance lives through besides its requests: waitUntil, freezing with timers and connections, and the goodbye. */
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openTestDrivers, Stage, until } from "./testbed.ts";

const restful = async (stage: Stage): Promise<void> => await until(() => stage.pools.status.resting === stage.pools.status.instances);

for (const driver of await openTestDrivers()) {
  describe(`the life of an instance on ${driver.name}`, { timeout: 120_000 }, () => {
    it("lets a Function without work hear SIGTERM when it is retired", async () => {
      await using stage = await Stage.open(driver, { instanceIdleMs: 60_000 });
      const f = await stage.deploy({
        "index.js": `
          process.on("SIGTERM", async (signal, number) => {
            console.log("goodbye", signal, number);
            await new Promise((resolve) => setTimeout(resolve, 20));
            console.log("saved");
          });
          process.on("exit", (code) => console.log("exit", code));
          module.exports = (req, res) => res.end("ok");`,
      });
      await stage.call(f);
      await restful(stage);
      stage.clock.advance(60_000);
      assert.equal(stage.pools.status.instances, 0);
      const lines = await stage.log(f, (all) => all.length >= 3);
      assert.deepEqual(
        lines.map((line) => line.text),
        ["goodbye SIGTERM 15", "saved", "exit 0"],
      );
    });

    it("ends what ignores SIGTERM when the time is over, and at the end of the drain", async () => {
      await using stage = await Stage.open(driver, { instanceIdleMs: 60_000, retireMs: 500 });
      const f = await stage.deploy({
        "index.js": `
          process.on("SIGTERM", () => console.log("ignored"));
          setInterval(() => {}, 1);
          module.exports = (req, res) => res.end(process.pid + "");`,
      });
      await stage.call(f);
      await restful(stage);
      stage.clock.advance(60_000);
      await stage.log(f, (all) => all.length === 1);
      stage.clock.advance(500);
      await stage.call(f);
      await restful(stage);
      const closing = stage.pools.close(100);
      await stage.log(f, (all) => all.length === 2);
      stage.clock.advance(100);
      await closing;
    });

    it("takes no time for a Function that does not listen", async () => {
      await using stage = await Stage.open(driver, {}, { time: "real" });
      const f = await stage.deploy({ "index.js": "module.exports = (req, res) => res.end();" });
      await stage.call(f);
      await restful(stage);
      const begun = performance.now();
      await stage.pools.close(5000);
      assert.ok(performance.now() - begun < 2000);
    });

    it("answers before what a handler computes after its answer, once that was seen", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          module.exports = (req, res) => {
            res.end("answer");
            for (const end = Date.now() + Number(req.url.slice(1)); Date.now() < end; );
          };`,
      });
      assert.equal((await stage.call(f, { url: "/100" })).text, "answer");
      await restful(stage);
      for (let round = 0; round < 3; round++) {
        assert.equal((await stage.call(f, { url: "/1000" })).text, "answer");
        // It computes still.
        assert.equal(stage.pools.status.resting, 0);
        await restful(stage);
      }
    });

    it("goes on with waitUntil work after the answer, keeps other requests from it, and ascribes what it prints", async () => {
      await using stage = await Stage.open(driver, {}, { time: "real" });
      const f = await stage.deploy({
        "index.js": `
          const { get } = globalThis[Symbol.for("@vercel/request-context")];
          let pending = 0;
          module.exports = (req, res) => {
            const { waitUntil, headers } = get();
            const { url } = req;
            if (url === "/work") {
              pending++;
              waitUntil((async () => {
                await new Promise((resolve) => setTimeout(resolve, 300));
                pending--;
                console.log("done", headers["x-who"], get()?.url.endsWith(url));
              })());
              waitUntil(Promise.reject(new Error("rejected work")));
              waitUntil("no promise");
            }
            res.end(String(pending));
          };`,
      });
      const begun = performance.now();
      assert.equal((await stage.call(f, { id: "worker", url: "/work", headers: ["x-who", "me"] })).text, "1");
      assert.ok(performance.now() - begun < 5000);
      // The one that works is not asked.
      assert.equal((await stage.call(f, { id: "other" })).text, "0");
      const lines = await stage.log(f, (all) => all.some((line) => line.text.startsWith("done")));
      const done = lines.find((line) => line.text.startsWith("done"));
      assert.deepEqual([done?.text, done?.invocationId], ["done me true", "worker"]);
      assert.ok(lines.some((line) => line.invocationId === "worker" && /rejected work/.test(line.text)));
    });

    it("lives through a clock that is set back and forth: log, pauses and answers go on", async () => {
      await using stage = await Stage.open(driver, { logRateLinesMax: 100, bootFailuresMax: 1 });
      const f = await stage.deploy({
        "index.js": `module.exports = (req, res) => {
          if (req.url === "/crash") process.exit(1);
          for (let n = Number(req.url.slice(1)); n > 0; n--) console.log("line", n);
          res.end("ok");
        }`,
      });
      const hourMs = 3_600_000;
      const call = async (url: string): Promise<string> => (await stage.call(f, { url })).text;
      assert.equal(await call("/10"), "ok");
      stage.clock.set(-hourMs);
      assert.equal(await call("/150"), "ok");
      stage.clock.advance(3000);
      assert.equal(await call("/1"), "ok");
      stage.clock.advance(3000);
      await stage.log(f, (all) => all.filter((line) => line.text === "line 1").length === 3);
      stage.clock.set(24 * hourMs);
      assert.equal(await call("/1"), "ok");
      // The crash of an instance that has not answered yet begins a pause, which the clock does not make longer.
      const g = await stage.deploy({ "index.js": "process.exit(1);" });
      await assert.rejects(stage.call(g), { code: /^(FUNCTION_INVOCATION_FAILED|NO_RESPONSE_FROM_FUNCTION)$/ });
      stage.clock.set(-hourMs);
      stage.clock.advance(61_000);
      const begun = stage.clock.now();
      await assert.rejects(stage.call(g), (error: { details?: { retryAfterS?: number } }) => {
        assert.ok((error.details?.retryAfterS ?? 0) <= 60, JSON.stringify(error.details));
        return true;
      });
      assert.equal(stage.clock.now(), begun);
    });

    it("gives an invocation its whole time when the clock is set forth, and no more of it when it is set back", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy(
        { "index.js": "module.exports = (req, res) => { console.log('reads'); req.on('end', () => res.end('whole')).resume(); };" },
        { maxDurationS: 10, helpers: false },
      );
      const reads = (count: number) => stage.log(f, (all) => all.filter((line) => line.text === "reads").length === count);
      // When the timer of the first invocation is due, the deadline of the second is looked at.
      assert.equal((await stage.call(f, { body: "" })).text, "whole");
      stage.clock.advance(6000);
      const body = new PassThrough();
      const answer = stage.call(f, { body });
      await reads(2);
      stage.clock.set(3_600_000);
      stage.clock.advance(9000);
      body.end();
      assert.equal((await answer).text, "whole");
      const late = new PassThrough();
      const tooLong = assert.rejects(stage.call(f, { body: late }), { code: "FUNCTION_INVOCATION_TIMEOUT" });
      await reads(3);
      stage.clock.set(-7_200_000);
      stage.clock.advance(10_000);
      await tooLong;
      late.destroy();
    });

    it("lets an overdue timer fire once after the thaw, and an interval go on", async () => {
      await using stage = await Stage.open(driver, {}, { time: "real" });
      const f = await stage.deploy({
        "index.js": `
          let fired = 0;
          let ticks = 0;
          let thawed = 0;
          module.exports = async (req, res) => {
            if (req.url === "/set") {
              setTimeout(() => { fired++; thawed = Date.now(); }, 100);
              setInterval(() => ticks++, 50);
              return res.end(String(Date.now()));
            }
            const seen = ticks;
            await new Promise((resolve) => setTimeout(resolve, 20));
            res.json({ fired, missed: ticks - seen, seen, thawed });
          };`,
      });
      const set = Number((await stage.call(f, { url: "/set" })).text);
      await restful(stage);
      await sleep(600);
      const { fired, missed, seen, thawed } = JSON.parse((await stage.call(f)).text);
      assert.equal(fired, 1);
      assert.ok(thawed - set >= 500, `it fired ${thawed - set} ms after it was set`);
      assert.ok(seen + missed <= 4, `${seen} + ${missed} ticks: no burst`);
    });

    it("keeps TCP connections through the freeze, and sees at the thaw that a peer has gone", async () => {
      await using stage = await Stage.open(driver, {}, { time: "real" });
      const f = await stage.deploy({
        "index.js": `
          const net = require("node:net");
          const { spawn } = require("node:child_process");
          const { once } = require("node:events");
          // The peer is a process of its own: an echo, or one that closes when it hears "close".
          const peer = "require('net').createServer((s) => s.on('data', (d) => d == 'close' ? s.end() : s.write(d))).listen(0, '127.0.0.1', function () { console.log(this.address().port) })";
          let socket, closed = false;
          module.exports = async (req, res) => {
            if (socket === undefined) {
              const child = spawn(process.execPath, ["-e", peer], { stdio: ["ignore", "pipe", "ignore"] });
              const [line] = await once(child.stdout, "data");
              socket = net.connect(Number(line), "127.0.0.1");
              await once(socket, "connect");
              socket.on("end", () => (closed = true));
            }
            if (req.url === "/close") { socket.write("close"); return res.end("asked"); }
            if (req.url === "/closed") { await new Promise((resolve) => setTimeout(resolve, 50)); return res.end(String(closed)); }
            socket.write(req.url);
            const [echo] = await once(socket, "data");
            res.end(echo);
          };`,
      });
      for (const url of ["/a", "/b", "/c"]) {
        assert.equal((await stage.call(f, { url })).text, url);
        await restful(stage);
        await sleep(100);
      }
      assert.equal((await stage.call(f, { url: "/close" })).text, "asked");
      await restful(stage);
      assert.equal((await stage.call(f, { url: "/closed" })).text, "true");
      assert.equal(stage.pools.status.instances, 1);
    });
  });
}
