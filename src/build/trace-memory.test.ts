/** What packages reach is traced once for an install, and again when anything else that the trace met has changed. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { writeFiles } from "../../test/server.ts";
import { Probes, SourceFiles } from "./source-files.ts";
import { TraceMemory } from "./trace-memory.ts";
import { Tracer } from "./trace.ts";
import { Transpiler } from "./transpile.ts";

const packages = {
  "package.json": '{"dependencies":{"one":"1"}}',
  "index.js": 'require("one");',
  "node_modules/one/package.json": '{"name":"one","main":"main.js"}',
  "node_modules/one/main.js": 'require("./part"); require("two");',
  "node_modules/one/part.js": "",
  "node_modules/two/package.json": '{"name":"two"}',
  "node_modules/two/index.js": "",
};

/** Traces index.js as a build does. @returns paths relative to the top, and what the trace depends on */
async function trace(top: string, isSameInstall: boolean) {
  const memory = new TraceMemory(top, top, isSameInstall);
  const files = new SourceFiles(top, false);
  const probes = new Probes(files);
  const tracer = new Tracer(files, new Transpiler(files, Promise.resolve(24)), top, memory);
  const found = await tracer.trace(join(top, "index.js"), null, probes);
  memory.keep();
  const { inputs, absent, ...rest } = probes.toTrace();
  return {
    files: found.map((path) => path.slice(top.length + 1)).sort(),
    trace: { inputs: inputs.toSorted(), absent: absent.toSorted(), ...rest },
  };
}

const keptAt = (top: string): string => join(top, ".vercel/cache/package-traces.json");

/** Makes the memory say that the package has one file less, so that it shows who believes it. */
function shorten(top: string): void {
  writeFileSync(keptAt(top), readFileSync(keptAt(top), "utf8").replace('"node_modules/one/part.js"', '"node_modules/one/main.js"'));
}

describe("trace memory", () => {
  it("spares the trace of packages that are those of the build before, and gives the same", async () => {
    const top = scratchDirectory();
    writeFiles(top, packages);
    const first = await trace(top, false);
    assert.ok(first.files.includes("node_modules/one/part.js") && first.files.includes("node_modules/two/index.js"), String(first.files));
    assert.deepEqual(await trace(top, true), first);
    shorten(top);
    assert.ok(!(await trace(top, true)).files.includes("node_modules/one/part.js"), "it is believed");
    assert.deepEqual(await trace(top, false), first, "not where something was installed meanwhile");
    writeFileSync(keptAt(top), '{"version":1,"closures":{"node_modules/one/main.js":{"files":[1]}}}');
    assert.deepEqual(await trace(top, true), first, "nor where it is broken");
  });

  it("traces anew when something outside of packages has changed that the trace had looked at", async () => {
    const top = scratchDirectory();
    writeFiles(top, { ...packages, "node_modules/one/main.js": 'require("./part"); require("../../settings.json");' });
    const first = await trace(top, false);
    // There is nothing yet: where it was sought is what counts.
    shorten(top);
    writeFiles(top, { "settings.json": "{}" });
    const second = await trace(top, true);
    assert.deepEqual(
      second.files.filter((path) => !first.files.includes(path)),
      ["settings.json"],
    );
    assert.ok(second.files.includes("node_modules/one/part.js"));
  });

  it("keeps nothing that reaches files of the project", async () => {
    const top = scratchDirectory();
    writeFiles(top, { ...packages, "packages/shared/index.js": 'require("./more");', "packages/shared/more.js": "" });
    rmSync(join(top, "node_modules/two"), { recursive: true });
    symlinkSync("../packages/shared", join(top, "node_modules/two"));
    await trace(top, false);
    writeFiles(top, { "packages/shared/index.js": "", "packages/shared/other.js": "" });
    mkdirSync(join(top, ".vercel/cache"), { recursive: true });
    const { files } = await trace(top, true);
    assert.ok(files.includes("packages/shared/index.js") && !files.includes("packages/shared/more.js"), String(files));
  });
});
