/** Functions on other Node versions than the platform's own, which are really fetched from the npm registry. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ManualClock } from "../../test/manual-clock.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { MayflyError } from "../errors.ts";
import { nodeMajorOf, openNodes } from "./nodes.ts";
import { openTestDrivers, Stage, until } from "./testbed.ts";

/** Shared by all tests, so that each version is fetched once. */
const fetched = join(scratchDirectory(), "nodes");
const skip = hasRegistry() ? false : "no npm registry can be reached";
const nowhere = "http://127.0.0.1:9/";

const open = (npmRegistry = "", directory = fetched, clock = new ManualClock()) =>
  openNodes({ directory, npmRegistry, fetchMsMax: 200_000, clock });

describe("Node versions", { timeout: 300_000 }, () => {
  it("are named by the runtime", () => {
    assert.deepEqual(["nodejs20.x", "nodejs24.x", "nodejs", "python3.12", "nodejs20.xx"].map(nodeMajorOf), [20, 24, 0, 0, 0]);
  });

  it("are fetched once, whole, and found again", { skip }, async () => {
    const nodes = await open();
    assert.deepEqual([nodes.has(nodes.own), nodes.has(20), nodes.binary(nodes.own), nodes.binary(20)], [true, false, null, null]);
    await Promise.all([20, 22, 20, 22].map((major) => nodes.fetch(major)));
    assert.deepEqual(
      readdirSync(fetched)
        .map((name) => name.replace(/\.\d+\.\d+$/, ""))
        .sort(),
      ["20", "22"],
    );
    assert.ok(statSync(nodes.binary(20)!).mode & 0o005);
    await nodes.close();
    const again = await open(nowhere);
    assert.deepEqual([again.has(20), again.has(22), again.binary(22)], [true, true, nodes.binary(22)]);
    await again.close();
  });

  it("say why they cannot be had, and are not asked for again at once", async () => {
    const directory = scratchDirectory();
    mkdirSync(join(directory, ".new-4000000-left"));
    writeFileSync(join(directory, ".new-4000000-left/file"), "");
    const clock = new ManualClock();
    const nodes = await open(nowhere, directory, clock);
    assert.deepEqual(readdirSync(directory), []);
    await assert.rejects(nodes.fetch(18), /the versions of Node are 20, 22, 24/);
    await assert.rejects(nodes.fetch(20), /Node 20 could not be fetched/);
    const begun = performance.now();
    await assert.rejects(nodes.fetch(20), /Node 20 could not be fetched/);
    assert.ok(performance.now() - begun < 50);
    assert.deepEqual(readdirSync(directory), []);
    await nodes.close();
  });
});

const sources: Readonly<Record<string, string>> = {
  "index.js": "module.exports = (req, res) => res.json({ version: process.version, body: req.body ?? null });",
  "index.mjs": `export async function POST(request, { waitUntil }) {
    waitUntil(Promise.resolve());
    return Response.json({ version: process.version, body: await request.json() });
  }`,
};

for (const driver of await openTestDrivers()) {
  describe(`Node versions on ${driver.name}`, { timeout: 300_000 }, () => {
    const openStage = (settings = {}) => {
      const dataDirectory = scratchDirectory();
      symlinkSync(fetched, join(dataDirectory, "nodes"));
      return Stage.open(driver, settings, { dataDirectory });
    };

    for (const major of [20, 22, 24]) {
      it(
        `runs Functions on Node ${major}: ${Object.keys(sources).join(", ")}, and says goodbye`,
        { skip: major === 24 ? false : skip },
        async () => {
          await using stage = await openStage({ instanceIdleMs: 1000 });
          for (const [name, source] of Object.entries(sources)) {
            const goodbye = "process.on('SIGTERM', () => console.log('goodbye'));";
            const f = await stage.deploy({ [name]: goodbye + source }, { runtime: `nodejs${major}.x` });
            for (let round = 0; round < 2; round++) {
              const { text } = await stage.call(f, { body: '{"a":1}', headers: ["content-type", "application/json"] });
              const { version, body } = JSON.parse(text);
              assert.match(version, new RegExp(`^v${major}\\.`));
              assert.deepEqual(body, { a: 1 });
            }
            await until(() => stage.pools.status.resting === stage.pools.status.instances);
            stage.clock.advance(1000);
            await stage.log(f, (all) => all.some((line) => line.text === "goodbye"));
          }
        },
      );
    }

    it("keeps guests of the version that is asked for", { skip }, async () => {
      await using stage = await openStage({ poolSize: 1 });
      await until(() => stage.pools.status.standby === 1);
      for (let round = 0; round < 2; round++) {
        const f = await stage.deploy({ "index.js": sources["index.js"]! }, { runtime: "nodejs20.x", name: `f${round}` });
        assert.match(JSON.parse((await stage.call(f)).text).version, /^v20\./);
        assert.equal(stage.pools.status.standby, 1 - round, "the second took it");
        await until(() => {
          stage.clock.advance(100);
          return stage.pools.status.standby === 1;
        });
        // What stood by is given up only for what is wanted now.
        if (round === 0) await until(() => stage.pools.status.standby === 1);
      }
    });

    it("answers that a version cannot be had", async () => {
      await using stage = await Stage.open(driver, { npmRegistry: nowhere });
      for (const runtime of ["nodejs22.x", "nodejs18.x"]) {
        const f = await stage.deploy({ "index.js": sources["index.js"]! }, { runtime });
        await assert.rejects(stage.call(f), (error: unknown) => {
          assert.ok(error instanceof MayflyError);
          assert.deepEqual([error.code, error.details.retryAfterS], ["FUNCTION_UNAVAILABLE", 10]);
          return true;
        });
        await stage.log(f, (all) => all.some((line) => line.stream === "system" && line.text.includes(runtime)));
      }
    });
  });
}

function hasRegistry(): boolean {
  try {
    execFileSync("npm", ["ping"], { stdio: "ignore", timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}
