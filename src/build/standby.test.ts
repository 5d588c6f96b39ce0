/** Builds that find a warm sandbox: the same comes out, each has one of its own, and what one left no other sees. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openTestbed } from "./testbed.ts";
import type { Files, Testbed } from "./testbed.ts";

let bed: Testbed;
before(async () => {
  bed = await openTestbed();
});
after(() => bed[Symbol.asyncDispose]());

async function filled(standby: Testbed["standby"]): Promise<void> {
  standby.fill();
  for (const deadline = Date.now() + 60_000; standby.size === 0; await sleep(20))
    assert.ok(Date.now() < deadline, "a sandbox stands by within a minute");
}

const typescript: Files = {
  "lib/words.ts": `export const words: string[] = ["a", "b"];`,
  "api/words.ts": `import { words } from "../lib/words"; export default (_: unknown, res: { end(text: string): void }) => res.end(words.join());`,
};

test("what a warm worker builds is what a cold one builds", async () => {
  const cold = await bed.build(typescript);
  await filled(bed.standby);
  const [waiting] = await bed.leftovers();
  const warm = await bed.build(typescript);
  assert.equal(bed.standby.size, 0, "it was taken");
  assert.deepEqual(warm.outputs, cold.outputs);
  assert.deepEqual(warm.functions, cold.functions);
  assert.deepEqual(warm.routes, cold.routes);
  assert.deepEqual(
    warm.record?.entries && Object.values(warm.record.entries).map(({ inputs, absent }) => ({ inputs, absent })),
    cold.record?.entries && Object.values(cold.record.entries).map(({ inputs, absent }) => ({ inputs, absent })),
  );
  assert.ok(waiting !== undefined && !(await bed.leftovers()).includes(waiting), "and is gone");
});

test("a build finds its own environment and programs, and nothing of another build", async () => {
  const files: Files = {
    "vercel.json": JSON.stringify({ buildCommand: "sh build.sh", outputDirectory: "out", installCommand: "" }),
    "build.sh": `mkdir -p out
(ls -A "$HOME" "$TMPDIR"; env; command -v npm) > out/seen
echo left > "$HOME/left"; echo left > "$TMPDIR/left"`,
  };
  for (const word of ["first", "second"]) {
    await filled(bed.standby);
    const result = await bed.build(files, { buildEnv: { WORD: `the ${word}` } });
    const seen = await bed.text(result, "seen");
    assert.match(seen, new RegExp(`^WORD=the ${word}$`, "m"));
    assert.doesNotMatch(seen, /^left$|^warm-/m);
    assert.match(seen, /npm$/m);
  }
});

test("one that ends while it waits is not given out", async () => {
  await filled(bed.standby);
  const taken = (await bed.standby.take())!;
  await taken.dispose();
  await filled(bed.standby);
  await bed.sandboxes.close();
  for (const deadline = Date.now() + 30_000; bed.standby.size > 0; await sleep(20)) assert.ok(Date.now() < deadline, "it is given up");
  assert.equal(await bed.standby.take(), undefined);
});

test("none stands by on a machine that is short of memory", async () => {
  await using poor = await openTestbed({ memoryBytesMin: Number.MAX_SAFE_INTEGER });
  poor.standby.fill();
  await sleep(50);
  assert.equal(await poor.standby.take(), undefined);
  assert.deepEqual(await poor.leftovers(), []);
});
