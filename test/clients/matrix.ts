/**
 * Every step with every version of the client, against one server; writes what came of it to docs/compatibility.md.
 * `npm run test:clients`; the core of it is part of `npm test` (test/journeys/vercel-client.test.ts).
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { startMayfly } from "../mayfly.ts";
import { installClients, versions, type Version } from "./clients.ts";
import { compatibilityPage, type Result } from "./page.ts";
import { steps } from "./steps.ts";
import { openWorld } from "./world.ts";

const results = new Map<string, Partial<Record<Version, Result>>>();
installClients();
const mayfly = await startMayfly();

for (const version of versions) {
  describe(`vercel ${version}`, async () => {
    const world = await openWorld(mayfly, version);
    for (const step of steps) {
      const key = step.command;
      const row = results.get(key) ?? {};
      results.set(key, row);
      if (step.versions !== undefined && !step.versions.includes(version)) {
        row[version] = "absent";
        continue;
      }
      it(key, async () => {
        row[version] = "fails";
        await step.run(world);
        row[version] = "works";
      });
    }
  });
}

after(() => {
  writeFileSync(join(import.meta.dirname, "../../docs/compatibility.md"), compatibilityPage(results));
  assert.equal(results.size, steps.length);
});
