/** A build that runs the project's own commands is not run again when nothing can have changed, and in doubt it is. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { projectDirectory, startMayfly } from "../mayfly.ts";
import type { Mayfly } from "../server.ts";

let mayfly: Mayfly;
before(async () => {
  mayfly = await startMayfly({ env: { MAYFLY_POOL_SIZE: "0" } });
});

/** Its page is another one each time that it is built. */
const project = (command: string): string =>
  projectDirectory({
    "vercel.json": JSON.stringify({ buildCommand: "sh build.sh", outputDirectory: "out" }),
    "build.sh": `mkdir -p out && node -p 'Date.now() + Math.random()' > out/index.html && ${command}`,
    "content.txt": "1",
  });

async function deploy(directory: string, ...flags: string[]): Promise<string> {
  const { code, stdout, stderr } = await mayfly.run("deploy", directory, ...flags);
  assert.equal(code, 0, stderr);
  return (await mayfly.fetch(stdout.trim())).text;
}

describe("a second deployment", () => {
  it("of the same files takes the first one's output, unless it is told to build or a file differs", async (t) => {
    const directory = project("true");
    // A project's first deployment is production in any case.
    const first = await deploy(directory, "--prod");
    const second = await deploy(directory, "--prod");
    if (first !== second && process.getuid?.() !== 0) return t.skip("nobody knows here what a build asks for");
    assert.equal(second, first);
    assert.notEqual(await deploy(directory), first, "a preview's environment is another");
    assert.notEqual(await deploy(directory, "--prod", "--build-env", "A=1"), first);
    assert.notEqual(await deploy(directory, "--prod", "--force"), first);
    writeFileSync(join(directory, "content.txt"), "2");
    assert.notEqual(await deploy(directory, "--prod"), first);
  });

  it("is built when the first one asked others, or named its own deployment in what it made", async () => {
    for (const command of [
      `node -e 'require("net").connect(9, "127.0.0.1").on("error", () => {})'`,
      "echo $VERCEL_URL > out/url",
      "echo $VERCEL_DEPLOYMENT_ID > out/id",
    ]) {
      const directory = project(command);
      assert.notEqual(await deploy(directory, "--prod"), await deploy(directory, "--prod"), command);
    }
  });
});
