/** What is remembered of a directory that was deployed, and every edit that must be seen all the same. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync, renameSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { ApiClient } from "./client.ts";
import { startDeployment } from "./deploy.ts";
import { openRecordingApi, type RecordingApi } from "./recording-api.ts";

const settings = { name: "site", target: "preview", prebuilt: false, force: false, env: {}, buildEnv: {} } as const;

/** A directory whose files nobody has touched for a minute. */
function oldSite(files: Readonly<Record<string, string>>): string {
  const root = scratchDirectory();
  for (const [name, text] of Object.entries(files)) writeOld(join(root, name), text);
  return root;
}

function writeOld(path: string, text: string): void {
  writeFileSync(path, text);
  const then = Date.now() / 1000 - 60;
  utimesSync(path, then, then);
}

/** Deploys the directory. @returns what was sent: by path, and whether with its bytes; and how many calls that took */
async function deploy(api: RecordingApi, directory: string, memory: string) {
  const before = api.to("POST", "/v13/deployments").length;
  using client = new ApiClient({ api: api.url, token: "mayfly_test", backoffMs: 1 });
  await startDeployment(client, { ...settings, directory, memory });
  const calls = api.to("POST", "/v13/deployments").slice(before);
  const files: readonly { readonly file: string; readonly data?: string; readonly sha?: string }[] = calls.at(-1)!.body.files;
  return {
    calls: calls.length,
    sent: files.flatMap(({ file, data }) => (data === undefined ? [] : [file])),
    shas: new Map(files.map(({ file, sha }) => [file, sha])),
  };
}

/** Waits until the memory of the last deployment is kept. */
async function kept(memory: string, isKept: (text: string) => boolean = () => true): Promise<string> {
  for (;;) {
    const [name] = readdirSync(memory).filter((name) => name.endsWith(".json"));
    if (name !== undefined && isKept(readFileSync(join(memory, name), "utf8"))) return join(memory, name);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe("known files", () => {
  it("sends what is new with the only call, and nothing when nothing is", async () => {
    const root = oldSite({ a: "a", b: "b" });
    const memory = scratchDirectory();
    await using api = await openRecordingApi();
    const first = await deploy(api, root, memory);
    assert.deepEqual([first.calls, first.sent], [1, ["a", "b"]]);
    await kept(memory);
    const second = await deploy(api, root, memory);
    assert.deepEqual([second.calls, second.sent], [1, []]);
    writeFileSync(join(root, "b"), "B");
    const third = await deploy(api, root, memory);
    assert.deepEqual([third.calls, third.sent], [1, ["b"]]);
  });

  it("asks the server again that has lost a file, or that is another", async () => {
    const root = oldSite({ a: "a", b: "b" });
    const memory = scratchDirectory();
    await using api = await openRecordingApi();
    await deploy(api, root, memory);
    await kept(memory);
    api.files.clear();
    const again = await deploy(api, root, memory);
    assert.deepEqual([again.calls, again.sent], [2, ["a", "b"]]);
    await using other = await openRecordingApi();
    assert.deepEqual((await deploy(other, root, memory)).sent, ["a", "b"]);
  });

  it("sees every edit: of one size, with its time put back, by a file moved into the place, in one tick with the reading", async () => {
    const root = oldSite({ a: "1" });
    const path = join(root, "a");
    const memory = scratchDirectory();
    await using api = await openRecordingApi();
    await deploy(api, root, memory);
    const { mtimeMs } = statSync(path);
    writeFileSync(path, "2");
    utimesSync(path, mtimeMs / 1000, mtimeMs / 1000);
    assert.deepEqual((await deploy(api, root, memory)).sent, ["a"]);
    writeOld(join(root, "..", "moved"), "3");
    renameSync(join(root, "..", "moved"), path);
    assert.deepEqual((await deploy(api, root, memory)).sent, ["a"]);
    for (let turn = 4; turn < 10; turn++) {
      writeFileSync(path, String(turn));
      assert.deepEqual((await deploy(api, root, memory)).sent, ["a"], `turn ${turn}`);
    }
  });

  it("trusts only what had rested when it was read, and does not read that again", async () => {
    const root = oldSite({ rested: "x" });
    const memory = scratchDirectory();
    await using api = await openRecordingApi();
    await deploy(api, root, memory);
    const path = await kept(memory);
    const facts = (): readonly (readonly string[])[] => (JSON.parse(readFileSync(path, "utf8")) as { files: string[][] }).files;
    // Its times were put back, but when that was done the system has written down too.
    assert.deepEqual(
      facts().map(([name, , known]) => [name, known]),
      [["rested", undefined]],
    );
    const { ino, size, mode, mtimeMs, ctimeMs } = statSync(join(root, "rested"));
    const sha = "0123456789012345678901234567890123456789";
    writeFileSync(path, JSON.stringify({ version: 1, files: [["rested", sha, `${ino} ${size} ${mode} ${mtimeMs} ${ctimeMs}`]] }));
    api.files.set(sha, 1);
    assert.equal((await deploy(api, root, memory)).shas.get("rested"), sha, "it is as it was");
    writeFileSync(path, "no JSON");
    const anew = await deploy(api, root, memory);
    assert.deepEqual([anew.calls, anew.sent], [1, ["rested"]]);
  });
});
