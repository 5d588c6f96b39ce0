/** Blobs on disk: the suite of all, and what is this driver's own: leftovers. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { blobStoreConformance } from "./blob-store.conformance.ts";
import { openDiskBlobs } from "./disk.ts";

blobStoreConformance("disk", async () => openDiskBlobs({ directory: scratchDirectory() }));

it("removes what a writer that is gone has left behind, and nothing else", () => {
  const directory = scratchDirectory();
  const dead = spawnSync("true").pid;
  mkdirSync(join(directory, "incoming"));
  writeFileSync(join(directory, "incoming", `${dead}-abc`), "half");
  writeFileSync(join(directory, "incoming", `${process.ppid}-abc`), "being written");
  openDiskBlobs({ directory });
  assert.deepEqual(readdirSync(join(directory, "incoming")), [`${process.ppid}-abc`]);
});
