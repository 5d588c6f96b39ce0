/** What Functions use, metered in every sandbox that works here. */
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { describe, it } from "node:test";
import type { UsageRow } from "../usage/usage-store.ts";
import { openTestDrivers, Stage, until } from "./testbed.ts";

/** Waits by the clock: a timer counts from the beginning of its turn, which was some time ago on a busy machine. */
const pause = `const pause = async (ms) => {
  for (const endMs = performance.now() + ms; performance.now() < endMs; ) await new Promise((done) => setTimeout(done, 1));
};`;

for (const driver of await openTestDrivers()) {
  describe(`metering, sandbox ${driver.name}`, () => {
    it("counts invocations, cold starts, time and CPU time while requests are served, and nothing besides", async () => {
      await using stage = await Stage.open(driver);
      const target = await stage.deploy(
        {
          "a.js": `${pause}
            const used = () => process.cpuUsage().user + process.cpuUsage().system;
            const burn = (ms) => { const end = used() + ms * 1000; while (used() < end); };
            burn(300); // while it is loaded: free
            module.exports = async (req, res) => {
              if (req.url === "/burn") burn(200); else if (req.url === "/sleep") await pause(200);
              res.end("ok");
            };`,
        },
        { memoryMB: 1024 },
      );
      const begun = performance.now();
      await stage.call(target);
      await stage.call(target, { url: "/burn" });
      await stage.call(target, { url: "/sleep" });
      await until(() => stage.pools.status.resting === 1);
      const tookMs = performance.now() - begun;
      const row = await handedOn(stage, () => stage.used(target));
      assert.deepEqual([row.invocations, row.coldStarts, row.errors], [3, 1, 0]);
      assert.ok(row.wallMs >= 398 && row.wallMs <= tookMs - 250, `${row.wallMs} ms of ${tookMs}, without those of loading`);
      assert.ok(row.cpuMs! >= 150 && row.cpuMs! <= 290, `${row.cpuMs} ms of CPU time`);
      assert.ok(Math.abs(row.gbSeconds - row.wallMs / 1000) < 1e-9, "1 GB");

      await new Promise((resolve) => setTimeout(resolve, 300));
      stage.clock.advance(5000);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual(await stage.used(target), [row], "frozen time is free");
    });

    it("counts work after the response", async () => {
      await using stage = await Stage.open(driver);
      const target = await stage.deploy({
        "a.js": `${pause}
          const context = Symbol.for("@vercel/request-context");
          module.exports = (req, res) => {
            globalThis[context].get().waitUntil(pause(300));
            res.end("ok");
          };`,
      });
      await stage.call(target);
      await until(() => stage.pools.status.resting === 1);
      const { wallMs } = await handedOn(stage, () => stage.used(target));
      assert.ok(wallMs >= 298, `${wallMs} ms`);
    });

    it("counts what fails as errors, also what cannot be loaded, but not a client that goes", async () => {
      await using stage = await Stage.open(driver);
      const target = await stage.deploy({
        "a.js": `module.exports = (req, res) => {
          if (req.url === "/exit") process.exit(1);
          if (req.url === "/500") { res.statusCode = 500; return res.end(); }
          if (req.url === "/wait") return;
          res.end();
        };`,
      });
      await stage.call(target, { url: "/500" });
      await assert.rejects(stage.call(target, { url: "/exit" }));
      await stage.call(target);
      const gone = new AbortController();
      setTimeout(() => gone.abort(new Error("gone")), 100);
      await assert.rejects(stage.call(target, { url: "/wait", signal: gone.signal }));
      const broken = await stage.deploy({ "a.js": "module.exports = (" }, { name: "broken" });
      // Three are tried, then its boots pause: what is refused meanwhile was no invocation.
      for (let round = 0; round < 5; round++) await assert.rejects(stage.call(broken));
      await stage.pools.close(0);
      const counts = ([row]: readonly UsageRow[]) => [row?.functionName, row?.invocations, row?.errors, row?.coldStarts];
      assert.deepEqual(counts(await stage.used(target)), ["api/test", 4, 2, 2]);
      assert.deepEqual(counts(await stage.used(broken)), ["broken", 3, 3, 0]);
    });

    it("hands on what a long request has used before it ends", async () => {
      await using stage = await Stage.open(driver);
      const waits = "module.exports = async (req, res) => { console.log('begun'); for await (const _ of req); res.end(); };";
      const target = await stage.deploy({ "a.js": waits }, { helpers: false, maxDurationS: 300 });
      const body = new PassThrough();
      const answer = stage.call(target, { body });
      await stage.log(target, (lines) => lines.length > 0);
      const early = await handedOn(stage, () => stage.used(target));
      body.end();
      await answer;
      await stage.pools.close(0);
      const [late] = await stage.used(target);
      assert.ok(early.wallMs > 0 && late!.wallMs > early.wallMs, `${early.wallMs} and ${late!.wallMs} ms`);
      assert.equal(late!.invocations, 1);
    });
  });
}

/** The only row, when the second of its figures is over. */
async function handedOn(stage: Stage, used: () => Promise<readonly UsageRow[]>): Promise<UsageRow> {
  let row: UsageRow | undefined;
  await until(async () => {
    stage.clock.advance(1000);
    [row] = await used();
    return row !== undefined;
  });
  return row!;
}
