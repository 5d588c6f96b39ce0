/** Which Node Functions run on: ranges as package.json files have them. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { chooseNodeMajor } from "./node-version.ts";

async function chosen(range: unknown, setting: string | null = null): Promise<number> {
  const directory = scratchDirectory();
  if (range !== undefined) writeFileSync(join(directory, "package.json"), JSON.stringify({ engines: { node: range } }));
  return chooseNodeMajor(directory, directory, setting);
}

test("the newest that a range allows", async () => {
  for (const [range, major] of [
    ["20.x", 20],
    [">=18", 24],
    [">= 20.9.0 < 24", 22],
    ["22.x || 20", 22],
    ["^22.11", 22],
    ["~20.3.1", 20],
    ["v22.1.0", 22],
    ["18 - 22", 22],
    ["<=22", 22],
    ["20 || >=26", 20],
    ["*", 24],
    ["22.0.0-rc.1", 22],
  ] as const) {
    assert.equal(await chosen(range), major, range);
  }
});

test("package.json wins over the setting, the setting over the newest", async () => {
  assert.equal(await chosen("20.x", "22.x"), 20);
  assert.equal(await chosen(undefined, "22.x"), 22);
  assert.equal(await chosen({}, null), 24);
  const repository = scratchDirectory();
  mkdirSync(join(repository, "apps/web"), { recursive: true });
  writeFileSync(join(repository, "package.json"), '{"engines":{"node":"22.x"}}');
  writeFileSync(join(repository, "apps/web/package.json"), "{}");
  assert.equal(await chooseNodeMajor(join(repository, "apps/web"), repository, "20.x"), 22);
});

test("what cannot be is refused with the words that asked for it", async () => {
  await assert.rejects(chosen("18.x"), {
    code: "BUILD_FAILED",
    message: /"engines": \{"node": "18\.x"\} in package\.json allows no version/,
  });
  await assert.rejects(chosen(">22 <24"), { code: "BUILD_FAILED" });
  await assert.rejects(chosen("banana"), {
    code: "BUILD_FAILED",
    message: /is no range of versions\. Functions run on Node\.js 24, 22, 20/,
  });
  await assert.rejects(chosen(undefined, "16.x"), { code: "BUILD_FAILED", message: /The project's Node\.js version "16\.x"/ });
});
