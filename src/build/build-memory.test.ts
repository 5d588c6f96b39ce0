/** Little builds in memory: the same comes out as on disk, nothing stays, and what is not little goes to the disk. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { BuildMemory } from "./build-memory.ts";
import { exampleJob } from "./example.ts";
import { openTestbed, type Files } from "./testbed.ts";

const files: Files = {
  "lib/words.ts": `export const words: string[] = ["a", "b"];`,
  "api/words.ts": `import { words } from "../lib/words"; export default (_: unknown, res: { end(text: string): void }) => res.end(words.join());`,
  "api/plain.js": `module.exports = (_, res) => res.end("plain");`,
};

test("a build in memory makes what a build on disk makes, and leaves nothing in either place", async () => {
  await using inMemory = await openTestbed();
  await using onDisk = await openTestbed({ inMemory: false });
  const [one, other] = [await inMemory.build(files), await onDisk.build(files)];
  assert.deepEqual(one.functions, other.functions);
  assert.deepEqual(one.outputs, other.outputs);
  assert.deepEqual(
    Object.values(one.record!.entries).map(({ inputs, absent }) => ({ inputs, absent })),
    Object.values(other.record!.entries).map(({ inputs, absent }) => ({ inputs, absent })),
  );
  assert.deepEqual(await inMemory.leftovers(), []);
});

test("only what is little and runs no code but ours has its files there", async (context) => {
  const memory = new BuildMemory(`/dev/shm/mayfly-test-${process.pid}/builds`);
  context.after(() => memory.close());
  const directory = await memory.make();
  if (directory === null) return context.skip("this machine has no memory to give");
  const treeOf = (size: number) => ({ "api/a.js": { digest: "", size, mode: 0o100644 } });
  const takes = (job: Partial<typeof exampleJob>, size = 1000) => memory.takes(directory, { ...exampleJob, ...job }, treeOf(size));
  assert.equal(await takes({}), true);
  assert.equal(await takes({ runsCommands: true }), false);
  assert.equal(
    await takes({ installs: [{ directory: "", command: null, manager: { name: "npm", version: "11.0.0" }, frozen: true }] }),
    false,
  );
  assert.equal(await takes({}, 64 * 2 ** 20), false);
  assert.equal(await takes({ steps: Array.from({ length: 100 }, () => exampleJob.steps[0]!) }, 2 ** 20), false, "each may have a copy");
});

test("a directory that is not in memory, or not to be had, is nobody's", async () => {
  const onDisk = join(scratchDirectory(), "builds");
  assert.equal(await new BuildMemory("/dev/null/builds").make(), null);
  const made = await new BuildMemory(onDisk).make();
  assert.ok(made === null || (await readdir(onDisk)).length === 1, "null, unless this machine's temporary files are in memory");
});
