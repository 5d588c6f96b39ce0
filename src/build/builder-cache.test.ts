/** What a fetched builder's `prepareCache` keeps is there before its next build, and replaces nothing. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { builderCacheDirectory, keepBuilderCache, restoreBuilderCache } from "./builder-cache.ts";
import type { BuildStep } from "./builder.ts";
import type { BuildContext } from "./step.ts";

const directory = await mkdtemp(join(tmpdir(), "mayfly-builder-cache-"));
after(() => rm(directory, { recursive: true, force: true }));

const step = { use: "a-builder", entrypoint: "api/a.x" } as BuildStep;
async function openBuild(name: string): Promise<BuildContext> {
  const work = join(directory, name);
  await mkdir(join(work, ".vercel"), { recursive: true });
  return { work, repository: work, output: join(work, ".vercel/output") } as BuildContext;
}
const text = (context: BuildContext, path: string): Promise<string> => readFile(join(context.work, path), "utf8");

test("files come back where nothing is, for the same builder and entrypoint", async () => {
  const first = await openBuild("first");
  await writeFile(join(first.work, "made"), "made");
  await keepBuilderCache(step, first, async () => ({
    "vendor/a": { type: "FileFsRef", mode: 0o100644, fsPath: join(first.work, "made") },
    "vendor/run": { type: "FileBlob", mode: 0o100755, data: "run" },
    "../../out": { type: "FileBlob", mode: 0o100644, data: "out" },
    own: { type: "FileBlob", mode: 0o100644, data: "cached" },
  }));
  const second = await openBuild("second");
  await rename(join(first.work, builderCacheDirectory), join(second.work, builderCacheDirectory));
  await writeFile(join(second.work, "own"), "uploaded");
  await restoreBuilderCache({ ...step, entrypoint: "api/b.x" }, second);
  await assert.rejects(text(second, "vendor/a"), "another entrypoint's");
  await restoreBuilderCache(step, second);
  assert.equal(await text(second, "vendor/a"), "made");
  assert.equal(await text(second, "vendor/run"), "run");
  assert.equal(await text(second, "own"), "uploaded");
  assert.equal(await text(second, "out"), "out", "a path that leads out stays inside");
});

test("a prepareCache that fails keeps nothing and fails nothing", async () => {
  const context = await openBuild("third");
  await keepBuilderCache(step, context, async () => {
    throw new Error("no");
  });
  await keepBuilderCache(step, context, async () => ({ a: { type: "FileFsRef", mode: 0o100644, fsPath: join(context.work, "absent") } }));
  await restoreBuilderCache(step, context);
  await assert.rejects(text(context, "a"));
});
