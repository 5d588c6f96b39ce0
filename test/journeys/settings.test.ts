/** A project's settings by the command line and the API, for the deployments after them. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";

it("settings are shown, set, taken back and refused, and count from the next deployment on", { timeout: 120_000 }, async () => {
  const mayfly = await startMayfly();
  const directory = projectDirectory({ "public/a.txt": "first", "other/a.txt": "second" });
  const first = await mayfly.deploy(directory, "--name", "shop");
  assert.equal((await mayfly.fetch(`${first}/a.txt`)).text, "first");
  const settings = async (...parameters: string[]): Promise<Record<string, unknown>> => {
    const { code, stdout, stderr } = await mayfly.run("settings", "--project", "shop", "--json", ...parameters);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  assert.equal((await settings())["nextFunctions"], null);
  const set = await settings("nextFunctions=separate", "outputDirectory=other", "directoryListing=true");
  assert.deepEqual([set["nextFunctions"], set["outputDirectory"], set["directoryListing"]], ["separate", "other", true]);
  assert.deepEqual(await settings(), set);
  assert.equal((await mayfly.call("GET", "/v9/projects/shop")).json["nextFunctions"], "separate");
  const second = await mayfly.deploy(directory, "--name", "shop");
  assert.equal((await mayfly.fetch(`${second}/a.txt`)).text, "second");
  assert.match((await mayfly.fetch(`${second}/`)).text, /a\.txt/, "directories are listed");
  assert.equal((await mayfly.fetch(`${first}/a.txt`)).text, "first", "what was deployed stays as it is");
  const back = await settings("nextFunctions=", "outputDirectory=", "directoryListing=false");
  assert.deepEqual([back["nextFunctions"], back["outputDirectory"], back["directoryListing"]], [null, null, false]);

  const wrong: readonly (readonly [string, number, RegExp])[] = [
    ["nextFunctions=both", 1, /nextFunctions/],
    ["nextFunction=shared", 2, /no setting "nextFunction"; there are framework, /],
    ["framework", 2, /framework=VALUE/],
    ["directoryListing=perhaps", 2, /true or false/],
  ];
  for (const [change, status, message] of wrong) {
    const { code, stderr } = await mayfly.run("settings", "--project", "shop", change);
    assert.equal(code, status, stderr);
    assert.match(stderr, message);
  }
  const table = await mayfly.run("settings", "--project", "shop");
  assert.match(table.stdout, /^nextFunctions\s+-$/m);
});
