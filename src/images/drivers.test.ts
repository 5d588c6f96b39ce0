/** The optimiser with every driver of the sandbox that works here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { eachDriver } from "../sandbox/testbed.ts";
import { bomb, openTestOptimiser, photo } from "./testbed.ts";

const job = { projectId: "prj_1", width: 64, quality: 75, format: null };

await eachDriver("pictures in a sandbox", (name, open) =>
  test(`with ${name}: pictures are made and refused`, async (t) => {
    const sandboxes = await open();
    const optimiser = openTestOptimiser(sandboxes, { MAYFLY_IMAGE_MS_MAX: "20000" });
    t.after(async () => {
      await optimiser.close();
      await sandboxes.close();
    });
    const source = await photo(200, 100).jpeg().toBuffer();
    // Once as it boots, and once when it was frozen.
    for (let round = 0; round < 2; round++) {
      const { format, width } = await sharp((await optimiser.optimise({ ...job, source, format: "image/webp" }))!.body).metadata();
      assert.deepEqual([format, width], ["webp", 64]);
    }
    await assert.rejects(optimiser.optimise({ ...job, source: await bomb() }), { code: "INVALID_IMAGE_OPTIMIZE_REQUEST" });
  }),
);
