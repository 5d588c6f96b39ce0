/** The optimiser with real pictures in real sandboxes: what it makes, what it refuses, and what becomes of its workers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { ManualClock } from "../../test/manual-clock.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";
import { bomb, movingGif, openDriver, openTestOptimiser, photo } from "./testbed.ts";

const strongest = await openDriver();
const job = { projectId: "prj_1", width: 64, quality: 75, format: null };

/** Ids of the workers that live. */
const alive = new Set<string>();
const driver: SandboxDriver = {
  name: strongest.name,
  can: strongest.can,
  close: () => strongest.close(),
  create: async (spec) => {
    const sandbox = await strongest.create(spec);
    alive.add(sandbox.id);
    void sandbox.ended.then(() => alive.delete(sandbox.id));
    return sandbox;
  },
};
const gone = async (id: string): Promise<void> => {
  while (alive.has(id)) await new Promise((resolve) => setTimeout(resolve, 20));
};

test("a picture is made in the width and format that are asked for, and never larger than it was", async (t) => {
  const optimiser = openTestOptimiser(driver);
  t.after(() => optimiser.close());
  const source = await photo(400, 300).jpeg().toBuffer();
  for (const [format, width, type] of [
    [null, 64, "jpeg"],
    ["image/webp", 64, "webp"],
    ["image/avif", 64, "heif"],
    ["image/webp", 640, "webp"],
  ] as const) {
    const made = await optimiser.optimise({ ...job, source, width, format });
    const { format: found, width: foundWidth, height } = await sharp(made!.body).metadata();
    assert.deepEqual([found, foundWidth, height], [type, Math.min(width, 400), width === 64 ? 48 : 300]);
    assert.equal(made!.type, format ?? "image/jpeg");
  }
  assert.equal((await optimiser.optimise({ ...job, source: await photo(90, 90).png().toBuffer() }))!.type, "image/png");
  const see = await sharp({ create: { width: 90, height: 90, channels: 4, background: "#ff000080" } })
    .webp()
    .toBuffer();
  assert.equal((await optimiser.optimise({ ...job, source: see }))!.type, "image/png");
});

test("a picture lies as its camera was held, and does not say where that was", async (t) => {
  const optimiser = openTestOptimiser(driver);
  t.after(() => optimiser.close());
  const source = await photo(200, 100)
    .withExif({ IFD0: { Artist: "secret" } })
    .withMetadata({ orientation: 6 })
    .jpeg()
    .toBuffer();
  assert.ok(source.includes("secret") || (await sharp(source).metadata()).exif !== undefined);
  const made = await optimiser.optimise({ ...job, source });
  const { width, height, exif } = await sharp(made!.body).metadata();
  assert.deepEqual([width, height, exif], [64, 128, undefined]);
});

test("pictures that move are given as they are", async (t) => {
  const optimiser = openTestOptimiser(driver);
  t.after(() => optimiser.close());
  const gif = await movingGif();
  assert.equal(await optimiser.optimise({ ...job, source: gif }), null);
  assert.equal(await optimiser.optimise({ ...job, source: await sharp(gif, { animated: true }).webp().toBuffer() }), null);
  const still = await sharp(gif).gif().toBuffer();
  assert.equal((await optimiser.optimise({ ...job, source: still }))?.type, "image/gif");
  const png = await photo(10, 10).png().toBuffer();
  const control = Buffer.from("0000000861635443540000000100000000", "hex");
  const moving = Buffer.concat([
    png.subarray(0, 33),
    control.subarray(0, 4),
    Buffer.from("acTL"),
    Buffer.alloc(8),
    Buffer.alloc(4),
    png.subarray(33),
  ]);
  moving.writeUInt32BE(8, 33);
  assert.equal(await optimiser.optimise({ ...job, source: moving }).catch((error: Error) => error.message), null);
});

test("what is no picture, or unfolds to gigabytes, is refused, and the worker lives on", async (t) => {
  const optimiser = openTestOptimiser(driver);
  t.after(() => optimiser.close());
  const good = await photo(100, 100).jpeg().toBuffer();
  await optimiser.optimise({ ...job, source: good });
  const before = [...alive];
  const attacks = {
    bomb: await bomb(),
    "cut off": (await photo(100, 100).png().toBuffer()).subarray(0, 40),
    noise: Buffer.concat([good.subarray(0, 20), Buffer.alloc(10_000, 7)]),
    svg: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>1</script></svg>'),
    text: Buffer.from("GIF89a is what it says"),
    nothing: Buffer.alloc(0),
  };
  for (const [name, source] of Object.entries(attacks)) {
    await assert.rejects(optimiser.optimise({ ...job, source }), { code: "INVALID_IMAGE_OPTIMIZE_REQUEST" }, name);
  }
  assert.ok((await optimiser.optimise({ ...job, source: good })) !== null);
  assert.deepEqual([...alive], before);
});

test("a picture that needs more memory or time than it may costs its worker, and nobody else's", async (t) => {
  const optimiser = openTestOptimiser(driver, { MAYFLY_IMAGE_MS_MAX: "4000", MAYFLY_IMAGE_MEMORY_MB: "128" });
  t.after(() => optimiser.close());
  // Interlaced: it has to be decoded as a whole.
  const large = await sharp({ create: { width: 6000, height: 6000, channels: 4, background: "#123456" } })
    .png({ progressive: true })
    .toBuffer();
  await assert.rejects(optimiser.optimise({ ...job, source: large, width: 6000, format: "image/avif" }), {
    code: "INTERNAL_OPTIMIZED_IMAGE_REQUEST_FAILED",
    message: driver.can.memoryLimit === "tree" ? /out of memory|4000 ms/ : /4000 ms/,
  });
  assert.ok((await optimiser.optimise({ ...job, source: await photo(100, 100).jpeg().toBuffer() })) !== null);
});

test("workers rest and go, and none has seen another project's pictures", async () => {
  const clock = new ManualClock();
  const optimiser = openTestOptimiser(driver, { MAYFLY_IMAGE_IDLE_MS: "5000" }, clock);
  const source = await photo(100, 100).jpeg().toBuffer();
  await optimiser.optimise({ ...job, source });
  const [first = "", ...others] = alive;
  assert.deepEqual(others, []);
  await optimiser.optimise({ ...job, source });
  assert.deepEqual([...alive], [first]);
  await optimiser.optimise({ ...job, projectId: "prj_2", source });
  await gone(first);
  const [second = ""] = alive;
  clock.advance(5000);
  await gone(second);
  assert.equal(alive.size, 0);
  await optimiser.optimise({ ...job, source });
  assert.equal(alive.size, 1);
  await optimiser.close();
  assert.equal(alive.size, 0);
  await assert.rejects(optimiser.optimise({ ...job, source }), { code: "SHUTTING_DOWN" });
});

test("of too many at once those are refused for whom there is no place to wait", async (t) => {
  const optimiser = openTestOptimiser(driver, { MAYFLY_IMAGE_QUEUE_MAX: "2" });
  t.after(() => optimiser.close());
  const source = await photo(100, 100).jpeg().toBuffer();
  const all = await Promise.allSettled(Array.from({ length: 5 }, () => optimiser.optimise({ ...job, source })));
  assert.deepEqual(
    all.map((one) => (one.status === "fulfilled" ? "made" : (one.reason as { code: string }).code)),
    ["made", "made", "made", "IMAGE_OPTIMIZER_BUSY", "IMAGE_OPTIMIZER_BUSY"],
  );
});
