/** Many requests at once, Functions that cannot start, memory that is scarce, and a thousand Functions that nobody asks. */
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../errors.ts";
import { openTestDrivers, Stage, until, type TestFunction } from "./testbed.ts";

const hello = "module.exports = (req, res) => res.end('hello');";

const refusalOf = async (answer: Promise<unknown>): Promise<{ code: string; retryAfterS: unknown }> => {
  const error = await answer.then(
    () => assert.fail("it was answered"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof MayflyError, String(error));
  return { code: error.code, retryAfterS: error.details.retryAfterS };
};

const systemLines = async (stage: Stage, f: TestFunction, count: number): Promise<readonly string[]> =>
  (await stage.log(f, (all) => all.filter((line) => line.stream === "system").length >= count))
    .filter((line) => line.stream === "system")
    .map((line) => line.text);

for (const driver of await openTestDrivers()) {
  describe(`bursts on ${driver.name}`, { timeout: 120_000 }, () => {
    it("answers 200 requests at once to a cold Function, within the limits", async (t) => {
      await using stage = await Stage.open(driver, { instancesPerFunctionMax: 8, bootsMax: 4 }, { time: "real" });
      for (const [name, source] of [
        ["quick", hello],
        ["20 ms", "module.exports = async (req, res) => { await new Promise((r) => setTimeout(r, 20)); res.end('hello'); };"],
      ] as const) {
        const f = await stage.deploy({ "index.js": source });
        let most = 0;
        const watch = setInterval(() => (most = Math.max(most, stage.pools.status.instances)), 1);
        const begun = performance.now();
        const answers = await Promise.all(Array.from({ length: 200 }, () => stage.call(f)));
        const ms = performance.now() - begun;
        clearInterval(watch);
        assert.ok(answers.every((answer) => answer.text === "hello"));
        assert.ok(most <= 16, `${most} instances`);
        const cold = answers.filter((answer) => answer.start === "cold").length;
        assert.ok(cold <= 8, `${cold} cold starts`);
        t.diagnostic(`${driver.name}, ${name}: 200 requests in ${ms.toFixed(0)} ms, ${cold} instances`);
      }
    });

    it("does not boot for a short queue in front of a quick Function", async () => {
      await using stage = await Stage.open(driver, {}, { time: "real" });
      const f = await stage.deploy({ "index.js": hello });
      for (let round = 0; round < 20; round++) await stage.call(f);
      for (let round = 0; round < 20; round++) await Promise.all([1, 2, 3].map(() => stage.call(f)));
      assert.ok(stage.pools.status.instances <= 2, `${stage.pools.status.instances} instances`);
    });

    it("has a few instances compute, and all of them wait, whatever else lives", async () => {
      const few = availableParallelism() + 1;
      const many = few + 3;
      await using stage = await Stage.open(driver, { busyWaitMsMax: 1000, instancesPerFunctionMax: many }, { time: "real" });
      const f = await stage.deploy({
        "index.js": `
          const { setTimeout: sleep } = require("node:timers/promises");
          const id = String(Math.random());
          const waits = { "/wait": 100, "/boot": 2000 };
          module.exports = async (req, res) => { if (req.url in waits) await sleep(waits[req.url]); res.end(id); };`,
      });
      const ask = async (requests: number, url: string): Promise<number> =>
        new Set((await Promise.all(Array.from({ length: requests }, () => stage.call(f, { url })))).map(({ text }) => text)).size;
      // Each for so long that no boot takes longer, or it would be waited for the others.
      await until(async () => (await ask(many, "/boot")) === many);
      // As soon as it is known that they do nothing but compute.
      await until(async () => (await ask(100, "/")) <= few);
      // And that they do not any more: each has one of its own then.
      await until(async () => (await ask(many, "/wait")) === many);
    });

    it("waits for no instance that waits itself, against all experience", async () => {
      const few = availableParallelism() + 1;
      await using stage = await Stage.open(driver, { instancesPerFunctionMax: few + 1, queueWaitMsMax: 30_000 }, { time: "real" });
      const f = await stage.deploy({
        "index.js": `
          const id = String(Math.random());
          module.exports = (req, res) => {
            if (req.url === "/boot") setTimeout(() => res.end(id), 2000);
            else if (req.url !== "/hang") res.end(id);
          };`,
      });
      const ask = async (requests: number, url: string): Promise<number> =>
        new Set((await Promise.all(Array.from({ length: requests }, () => stage.call(f, { url })))).map(({ text }) => text)).size;
      await until(async () => (await ask(few + 1, "/boot")) === few + 1);
      await until(async () => (await ask(100, "/")) <= few);
      const client = new AbortController();
      const hanging = Array.from({ length: few }, () => stage.begin(f, { url: "/hang", signal: client.signal }));
      assert.equal((await stage.call(f)).status, 200);
      client.abort();
      await Promise.allSettled(hanging);
    });

    it("boots all the same when the only instance hangs", async () => {
      await using stage = await Stage.open(driver, {}, { time: "real" });
      const f = await stage.deploy({ "index.js": "module.exports = (req, res) => { if (req.url !== '/hang') res.end('ok'); };" });
      for (let round = 0; round < 10; round++) await stage.call(f);
      const client = new AbortController();
      const hanging = stage.begin(f, { url: "/hang", signal: client.signal });
      await sleep(20);
      assert.equal((await stage.call(f)).text, "ok");
      client.abort();
      await assert.rejects(hanging);
    });

    it("freezes a little later when requests follow each other", async () => {
      await using stage = await Stage.open(driver, { freezeDelayMs: 200 }, { time: "real" });
      const f = await stage.deploy({ "index.js": hello });
      const starts = [];
      for (let round = 0; round < 5; round++) {
        starts.push((await stage.call(f)).start);
        await until(() => stage.pools.status.resting === 1);
      }
      assert.deepEqual(starts, ["cold", "warm", "hot", "hot", "hot"]);
      await sleep(300);
      assert.equal((await stage.call(f)).start, "warm");
    });

    it("says when to come again, and once in a while in the log", async () => {
      await using stage = await Stage.open(driver, { instancesPerFunctionMax: 1, queueMax: 1, queueWaitMsMax: 1000 });
      const f = await stage.deploy({ "index.js": "module.exports = () => {};" }, { maxDurationS: 60 });
      const busy = stage.begin(f);
      busy.catch(() => {});
      await until(() => stage.pools.status.instances === 1 && stage.pools.status.waiting === 0);
      const queued = refusalOf(stage.begin(f));
      for (let round = 0; round < 20; round++) {
        assert.deepEqual(await refusalOf(stage.begin(f)), { code: "FUNCTION_THROTTLED", retryAfterS: 1 });
      }
      stage.clock.advance(1000);
      assert.deepEqual(await queued, { code: "FUNCTION_UNAVAILABLE", retryAfterS: 5 });
      stage.clock.advance(9000);
      const again = refusalOf(stage.begin(f));
      await refusalOf(stage.begin(f));
      const lines = (await systemLines(stage, f, 2)).filter((text) => text.includes("FUNCTION_THROTTLED"));
      assert.equal(lines.length, 2);
      assert.match(lines[1]!, /: 20\.$/);
      stage.clock.advance(1000);
      await again;
    });

    it("pauses boots that fail again and again, longer each time, and forgives", async () => {
      await using stage = await Stage.open(driver);
      const f = await stage.deploy({
        "index.js": `
          module.exports = (req, res) => { if (req.url === "/die") process.exit(1); res.end("ok"); };`,
      });
      // It dies on its first request.
      for (let round = 0; round < 3; round++) {
        assert.deepEqual(await refusalOf(stage.call(f, { url: "/die" })), { code: "FUNCTION_INVOCATION_FAILED", retryAfterS: undefined });
      }
      for (let round = 0; round < 5; round++) {
        assert.deepEqual(await refusalOf(stage.call(f)), { code: "FUNCTION_INVOCATION_FAILED", retryAfterS: 1 });
      }
      assert.equal(stage.pools.status.functions, 0);
      const paused = (lines: readonly string[]): readonly string[] => lines.filter((text) => text.includes("in a row"));
      assert.deepEqual(paused(await systemLines(stage, f, 4)), [
        "3 instances in a row have ended without an answer, the last with FUNCTION_INVOCATION_FAILED: " +
          "no other is booted for 1 s, requests are refused meanwhile.",
      ]);
      stage.clock.advance(1000);
      await refusalOf(stage.call(f, { url: "/die" }));
      stage.clock.advance(1999);
      assert.equal((await refusalOf(stage.call(f))).retryAfterS, 1);
      stage.clock.advance(1);
      assert.equal((await stage.call(f)).text, "ok");
      // Forgiven: the next failure is the first again.
      await refusalOf(stage.call(f, { url: "/die" }));
      assert.equal((await stage.call(f)).text, "ok");

      const broken = await stage.deploy({ "index.js": "module.exports = (" });
      for (let round = 0; round < 3; round++) assert.equal((await refusalOf(stage.call(broken))).retryAfterS, undefined);
      assert.deepEqual(await refusalOf(stage.call(broken)), { code: "FUNCTION_INVOCATION_FAILED", retryAfterS: 1 });
    });

    it("keeps the rhythm of a Function while none of its instances lives", async () => {
      await using stage = await Stage.open(driver, { instanceIdleMs: 600_000, keepAliveMsMin: 1000 });
      const f = await stage.deploy({ "index.js": hello });
      // Every twenty minutes: too long for the fixed time, until it is known.
      const starts = [];
      for (let round = 0; round < 24; round++) {
        starts.push((await stage.call(f)).start);
        await until(() => stage.pools.status.resting === stage.pools.status.instances);
        stage.clock.advance(20 * 60_000);
      }
      assert.deepEqual([...new Set(starts.slice(0, 21))], ["cold"]);
      assert.deepEqual([...new Set(starts.slice(22))], ["warm"]);
      stage.clock.advance(60 * 60_000);
      assert.equal(stage.pools.status.instances, 0);
    });

    it("retires what a burst left sooner than the first instance", async () => {
      await using stage = await Stage.open(driver, { instanceIdleMs: 600_000 });
      const f = await stage.deploy({ "index.js": "module.exports = (req, res) => { setTimeout(() => res.end(), 300); };" });
      await Promise.all([1, 2, 3].map(() => stage.call(f)));
      await until(() => stage.pools.status.resting === 3);
      const left = [150_000, 55_000, 100_000, 290_000, 10_000].map((ms) => {
        stage.clock.advance(ms);
        return stage.pools.status.instances;
      });
      assert.deepEqual(left, [3, 2, 1, 1, 0]);
    });

    it("gives up idle instances, cheapest first, when memory is scarce, but never all room", async () => {
      await using stage = await Stage.open(driver, { functionsMemoryBudgetMB: 620 });
      const functions: TestFunction[] = [];
      for (let n = 0; n < 3; n++) {
        // Lots of memory of its own, whatever the driver counts.
        functions.push(
          await stage.deploy({
            "index.js": `const kept = Buffer.alloc(200e6, 1); module.exports = (req, res) => res.end(String(kept.length + ${n}));`,
          }),
        );
      }
      const call = async (n: number): Promise<string> => {
        const { start } = await stage.call(functions[n]!);
        await until(() => stage.pools.status.resting === stage.pools.status.instances);
        await until(() => stage.pools.status.memoryMB / stage.pools.status.instances > 190);
        stage.clock.advance(10);
        return start;
      };
      await call(0);
      await call(1);
      for (let round = 0; round < 3; round++) assert.equal(await call(0), "warm");
      await call(2);
      await until(() => {
        stage.clock.advance(1000);
        return stage.pools.status.memoryMB <= 620;
      });
      const { instances } = stage.pools.status;
      assert.ok(instances >= 2 && instances <= 3, `${instances} instances`);
      assert.equal(await call(0), "warm", "the one used most is not the one that goes");

      await using tight = await Stage.open(driver, { functionsMemoryBudgetMB: 1 });
      for (let round = 0; round < 3; round++) assert.equal((await tight.call(await tight.deploy({ "index.js": hello }))).text, "hello");
      assert.equal(tight.pools.status.instances, 1);
    });
  });
}

describe("Functions that nobody asks", { timeout: 60_000 }, () => {
  it("cost nothing: no pools, no timers, no handles", async () => {
    const [driver] = await openTestDrivers();
    await using stage = await Stage.open(driver!);
    const functions: TestFunction[] = [];
    const handles = process.getActiveResourcesInfo().length;
    for (let n = 0; n < 1000; n++) functions.push(await stage.deploy({ "index.js": hello }, { name: `f${n}` }));
    assert.equal(stage.pools.status.functions, 0);
    assert.equal(stage.clock.timers, 0);
    assert.ok(process.getActiveResourcesInfo().length <= handles + 2);
    // One that was used and retired leaves its history and nothing else.
    for (const f of functions.slice(0, 3)) await stage.call(f);
    await until(() => stage.pools.status.resting === 3);
    stage.clock.advance(3_600_000);
    await until(() => stage.pools.status.instances === 0);
    stage.clock.advance(10_000);
    assert.equal(stage.pools.status.functions, 0);
    await until(() => {
      stage.clock.advance(1000);
      return stage.clock.timers === 0;
    });
  });
});
