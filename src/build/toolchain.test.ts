/** Package managers on the disk: those in use stay, the others go. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { ManualClock } from "../../test/manual-clock.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { createToolchains } from "./toolchain.ts";

it("removes what no build has asked for in a while, and leaves what one has", async () => {
  const directory = scratchDirectory();
  const clock = new ManualClock();
  const toolchains = createToolchains({ directory, npmRegistry: "http://127.0.0.1:1", clock });
  for (const version of ["9.0.0", "10.0.0"]) {
    mkdirSync(join(directory, `pnpm@${version}`, "bin"), { recursive: true });
    await toolchains.directory({ name: "pnpm", version });
  }
  const begun = clock.now();
  clock.advance(1000);
  assert.equal(await toolchains.directory({ name: "pnpm", version: "10.0.0" }), join(directory, "pnpm@10.0.0"));
  await toolchains.prune(begun);
  assert.equal(readdirSync(directory).length, 2);
  await toolchains.prune(begun + 500);
  assert.deepEqual(readdirSync(directory), ["pnpm@10.0.0"]);
  await assert.rejects(toolchains.directory({ name: "pnpm", version: "9.0.0" }), { code: "INSTALL_FAILED" });
});
