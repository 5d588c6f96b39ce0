/**
 * The unmodified client of npm against a running server: the commands that people need most. All of them, with an older
 * version too: `npm run test:clients`.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { installClients, vercelClient, versions } from "../clients/clients.ts";
import { steps } from "../clients/steps.ts";
import { openWorld } from "../clients/world.ts";
import type { World } from "../clients/steps.ts";
import { projectDirectory, startMayfly } from "../mayfly.ts";

describe(`vercel ${versions[0]}`, () => {
  let world: World;
  before(async () => {
    installClients();
    world = await openWorld(await startMayfly(), versions[0]);
  });

  for (const step of steps.filter(({ core }) => core === true)) it(`vercel ${step.command}`, () => step.run(world));

  it("createDeployment of @vercel/client", async () => {
    const { mayfly } = world;
    const tokens = JSON.parse(readFileSync(join(mayfly.home, "config/mayfly/credentials.json"), "utf8")) as Record<string, string>;
    const path = projectDirectory({ "index.html": "by the library", "a/b.txt": "b" });
    const events: string[] = [];
    let host = "";
    const options = { token: Object.values(tokens)[0]!, apiUrl: mayfly.api, path, skipAutoDetectionConfirmation: true };
    for await (const { type, payload } of vercelClient().createDeployment(options, { name: "library", version: 2 })) {
      assert.notEqual(type, "error", JSON.stringify(payload));
      events.push(type);
      if (type === "ready") host = (payload as { url: string }).url;
    }
    assert.ok(events.includes("created") && events.includes("ready"), events.join());
    assert.equal(await world.text(host), "by the library");
    assert.equal(await world.text(host, "/a/b.txt"), "b");
  });
});

it("docs/compatibility.md has a row for every command that is tested", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/compatibility.md"), "utf8");
  const rows = [...page.matchAll(/^\| `vercel (.+?)` \|/gm)].map(([, command]) => command);
  assert.deepEqual(
    rows,
    steps.map(({ command }) => command),
    "npm run test:clients writes it anew",
  );
  assert.doesNotMatch(page, /\| ✗/);
});
