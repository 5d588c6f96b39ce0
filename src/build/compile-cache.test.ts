/** The worker's compiled code: made once, whole or absent, for one version of the code that builds. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { loadConfig } from "../config.ts";
import { buildLimits, mayflyMounts } from "./build-sandbox.ts";
import { CompileCache } from "./compile-cache.ts";
import { openTestbed } from "./testbed.ts";

test("it is made once, and those of other versions go", async () => {
  await using bed = await openTestbed();
  const directory = await mkdtemp(join(tmpdir(), "mayfly-compiled-"));
  try {
    let created = 0;
    const sandboxes = {
      ...bed.sandboxes,
      create: (spec: Parameters<typeof bed.sandboxes.create>[0]) => (created++, bed.sandboxes.create(spec)),
    };
    const open = () => new CompileCache({ directory, sandboxes, mounts: mayflyMounts, limits: buildLimits(loadConfig({}, {})) });
    await mkdir(join(directory, "of-another-version"));
    const first = open();
    assert.equal(first.directory, null);
    await first.prepare();
    assert.deepEqual(await readdir(directory), [first.directory!.slice(directory.length + 1)]);
    const [tag] = await readdir(first.directory!);
    assert.ok((await readdir(join(first.directory!, tag!))).length > 20);
    const second = open();
    await second.prepare();
    assert.deepEqual([second.directory, created], [first.directory, 1]);
    const failing = new CompileCache({ directory: join(directory, "x"), sandboxes, mounts: [], limits: buildLimits(loadConfig({}, {})) });
    await failing.prepare();
    assert.equal(failing.directory, null);
    assert.deepEqual(await readdir(join(directory, "x")), []);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
