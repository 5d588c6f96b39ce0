/** Records: what an instance has compiled serves later instances of its own Function, and nobody else; hostile ones harm nobody. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import type { FunctionSpec, Manifest } from "../model.ts";
import { packPath, recordName } from "../runtime/module-pack.js";
import type { Guest } from "./guest.ts";
import { openRecords } from "./records.ts";
import { openTestDrivers, Stage, until, type TestFunction } from "./testbed.ts";

const recorder = resolve(import.meta.dirname, "../runtime/pack-recorder.js");
const idleMs = 60_000;

/** Compiled when it is first called, which loading does not. */
const work = (name: string) => `exports.${name} = (n) => { let s = 0; ${"for (let i = 0; i < n; i++) s += i;\n".repeat(40)} return s; };`;

/** A Function with its pack; `before` runs first in its instances. */
function packed(before = ""): Record<string, string | Buffer> {
  const root = join(scratchDirectory(), "task");
  mkdirSync(root);
  const files = {
    "index.js": `if (process.env.BUILD === undefined) { ${before} }
      const work = require("./work.js");
      const { existsSync } = require("node:fs");
      module.exports = (req, res) => res.json([work[req.query.name ?? "a"](4), existsSync("/var/cache/${recordName}")]);`,
    "work.js": work("a") + work("b"),
  };
  for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
  const shares = join(root, "../shares.json");
  writeFileSync(shares, "[]");
  execFileSync(process.execPath, [recorder, "record", root, "index.js", "", shares], { env: { BUILD: "1" } });
  return { ...files, [packPath]: readFileSync(join(root, "../own.pack")) };
}

for (const driver of await openTestDrivers()) {
  describe(`records on ${driver.name}`, { timeout: 120_000 }, () => {
    const open = async (settings = {}) => {
      const dataDirectory = scratchDirectory();
      const stage = await Stage.open(driver, { instanceIdleMs: idleMs, ...settings }, { dataDirectory });
      return { stage, kept: () => readdirSync(join(dataDirectory, "records")).filter((name) => !name.startsWith(".")) };
    };
    /** Calls a Function that has no instance, and has the instance retire. */
    const callOnce = async (stage: Stage, f: TestFunction, url = "/") => {
      const { status, start, text } = await stage.call(f, { url });
      assert.equal(start, "cold");
      await until(() => stage.pools.status.resting === 1);
      stage.clock.advance(idleMs + 1);
      assert.equal(stage.pools.status.instances, 0);
      return [status, ...(JSON.parse(text) as unknown[])];
    };
    /** What a Function sees of it: without file isolation it lies elsewhere. */
    const seen = driver.can.fileIsolation;

    it("serve the next instance, grow with what it compiles, and stay in their deployment", async () => {
      const opened = await open();
      await using stage = opened.stage;
      const files = packed();
      const [f, same] = [await stage.deploy(files), await stage.deploy(files)];
      assert.deepEqual(await callOnce(stage, f), [200, 240, false]);
      await until(() => opened.kept().length === 1);
      const [first] = opened.kept();
      assert.deepEqual(await callOnce(stage, f, "/?name=b"), [200, 240, seen]);
      await until(() => opened.kept().length === 1 && opened.kept()[0] !== first);
      const [second] = opened.kept();
      assert.equal(second!.slice(0, 64), first!.slice(0, 64));
      assert.deepEqual(await callOnce(stage, f), [200, 240, seen]);
      assert.deepEqual(await callOnce(stage, same), [200, 240, false]);
      await until(() => opened.kept().length === 2);
      assert.ok(opened.kept().includes(second!), "nothing new was compiled, nothing new is kept");
    });

    it("are made before the Function hears SIGTERM", async () => {
      const opened = await open();
      await using stage = opened.stage;
      const f = await stage.deploy(packed(`process.on("SIGTERM", () => { console.log("bye"); process.exit(); });`));
      await callOnce(stage, f);
      await stage.log(f, (lines) => lines.some(({ text }) => text === "bye"));
      assert.equal(opened.kept().length, 1);
    });

    it("are not made when switched off", async () => {
      const opened = await open({ recordsBytesMax: 0 });
      await using stage = opened.stage;
      const f = await stage.deploy(packed());
      for (let round = 0; round < 2; round++) assert.deepEqual(await callOnce(stage, f), [200, 240, false]);
    });

    it("that are no code are rejected and forgotten", async () => {
      const opened = await open();
      await using stage = opened.stage;
      const f = await stage.deploy(packed(`require("vm").Script.prototype.createCachedData = () => Buffer.alloc(100_000, 7);`));
      await callOnce(stage, f);
      await until(() => opened.kept().length === 1);
      assert.deepEqual((await callOnce(stage, f)).slice(0, 2), [200, 240]);
      await until(() => opened.kept().length === 0);
    });

    it("that are damaged cost their own Function one answer at most", async () => {
      const opened = await open();
      await using stage = opened.stage;
      const f = await stage.deploy(
        packed(`
          const { Script } = require("vm");
          const { createCachedData } = Script.prototype;
          Script.prototype.createCachedData = function () {
            const bytes = createCachedData.call(this);
            for (let i = 64; i < bytes.length; i += 7) bytes[i] ^= 255;
            return Buffer.concat([bytes, Buffer.alloc(bytes.length)]);
          };`),
      );
      await callOnce(stage, f);
      await until(() => opened.kept().length === 1);
      await stage.call(f).catch(() => {});
      await until(() => opened.kept().length === 0);
      const { status, text } = await stage.call(f);
      assert.deepEqual([status, JSON.parse(text)[0]], [200, 240]);
    });

    it("that never end are not read", async () => {
      const opened = await open({ recordBytesMax: 1024 * 1024 });
      await using stage = opened.stage;
      const f = await stage.deploy(
        packed(`
          const { ServerResponse } = require("http");
          const { end } = ServerResponse.prototype;
          ServerResponse.prototype.end = function (...rest) {
            if (this.req.url !== "/1048576") return end.apply(this, rest);
            const pump = () => { while (this.write(Buffer.alloc(65536))); this.once("drain", pump); };
            pump();
          };
          const { writeHead } = ServerResponse.prototype;
          ServerResponse.prototype.writeHead = function (status) {
            return writeHead.call(this, this.req.url === "/1048576" ? 200 : status);
          };`),
      );
      await callOnce(stage, f);
      stage.clock.advance(10_000);
      assert.deepEqual((await callOnce(stage, f)).slice(0, 2), [200, 240]);
      assert.deepEqual(opened.kept(), []);
    });
  });
}

describe("records on disk", () => {
  const manifest = { deploymentId: "dpl_a" } as Manifest;
  const specOf = (id: string) => ({ id, name: id, bundleDigest: "d" }) as FunctionSpec;
  const guestThatSays = (bytes: Buffer) =>
    ({ packUse: "plain", usable: true, record: async () => bytes, over: new Promise(() => {}) }) as unknown as Guest;
  const open = (directory: string, bytesMax = 1000) => openRecords({ directory, bytesMax, recordBytesMax: 1000 });

  it("outlive a process, and are looked at before they are used again", async () => {
    const directory = scratchDirectory();
    const first = await open(directory);
    for (const id of ["good", "bad"]) await first.of(manifest, specOf(id), { recordings: 0 }).make(guestThatSays(Buffer.from(`of ${id}`)));
    const place = first.of(manifest, specOf("bad"), { recordings: 0 }).find()!;
    writeFileSync(join(place, recordName), "of bat");
    mkdirSync(join(directory, ".new-999999999-abc"));
    mkdirSync(join(directory, "something"));
    const second = await open(directory);
    const [good, bad] = ["good", "bad"].map((id) => second.of(manifest, specOf(id), { recordings: 0 }));
    assert.deepEqual([good!.find(), bad!.find()], [undefined, undefined]);
    await second.close();
    assert.equal(readFileSync(join(good!.find()!, recordName), "utf8"), "of good");
    assert.equal(bad!.find(), undefined);
    assert.equal(readdirSync(directory).length, 1);
  });

  it("are bounded together, the least recently used goes first, and each Function makes three at most", async () => {
    const directory = scratchDirectory();
    const records = await open(directory);
    const [a, b, c] = ["a", "b", "c"].map((id) => records.of(manifest, specOf(id), { recordings: 0 }));
    await a!.make(guestThatSays(Buffer.alloc(400, "a")));
    await b!.make(guestThatSays(Buffer.alloc(400, "b")));
    a!.find();
    await c!.make(guestThatSays(Buffer.alloc(400, "c")));
    assert.deepEqual(
      [a, b, c].map((record) => record!.find() === undefined),
      [false, true, false],
    );
    for (let round = 0; round < 4; round++) {
      const guest = guestThatSays(Buffer.alloc(100, `round ${round}`));
      if (c!.isWanted(guest)) await c!.make(guest);
    }
    assert.equal(readFileSync(join(c!.find()!, recordName), "utf8").slice(0, 7), "round 1");
    await records.close();
    assert.equal(readdirSync(directory).length, 2);
  });

  it("an older process's are the first to go", async () => {
    const directory = scratchDirectory();
    const first = await open(directory);
    for (const id of ["a", "b"]) await first.of(manifest, specOf(id), { recordings: 0 }).make(guestThatSays(Buffer.alloc(400, id)));
    utimesSync(join(first.of(manifest, specOf("b"), { recordings: 0 }).find()!, recordName), 1, 1);
    const second = await open(directory, 500);
    await second.close();
    assert.deepEqual(
      readdirSync(directory).map((name) => readFileSync(join(directory, name, recordName), "utf8")[0]),
      ["a"],
    );
  });
});
