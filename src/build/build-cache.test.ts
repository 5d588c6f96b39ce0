/** What a build finds of an earlier one on disk, and what it must not find. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BuildCaches } from "./build-cache.ts";
import type { BuildRecord } from "./reuse.ts";
import { hasRegistry, openTestbed } from "./testbed.ts";
import type { Files, Testbed } from "./testbed.ts";

const skip = (await hasRegistry()) ? false : "no npm registry can be reached";
let bed: Testbed;
let directory: string;
before(async () => {
  bed = await openTestbed();
  directory = await mkdtemp(join(tmpdir(), "mayfly-build-cache-"));
});
after(async () => {
  await bed[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const MB = 2 ** 20;
const json = (value: unknown): string => JSON.stringify(value);
const openCaches = (name: string, options: { laneBytesMax?: number; bytesMax?: number } = {}) =>
  new BuildCaches({ directory: join(directory, name), laneBytesMax: 100 * MB, bytesMax: 100 * MB, ...options });

/** Says what it finds in the directories that are kept, and leaves something there. */
const counting = (framework: string | null = null, more = ""): Files => ({
  "vercel.json": json({ framework, buildCommand: `sh build.sh`, outputDirectory: "out", installCommand: "" }),
  "build.sh": `mkdir -p node_modules .vercel/cache public .cache out
cat node_modules/n .vercel/cache/n public/n .cache/n > out/found 2>/dev/null
for place in node_modules .vercel/cache public .cache; do echo $place >> $place/n; done
${more} echo done > out/index.html`,
});

test("node_modules, .vercel/cache and what the framework declares come back", async () => {
  const caches = openCaches("frameworks");
  const first = await bed.build(counting("gatsby"), { caches });
  assert.equal(await bed.text(first, "found"), "");
  const second = await bed.build(counting("gatsby"), { caches });
  assert.equal(await bed.text(second, "found"), "node_modules\n.vercel/cache\npublic\n.cache\n");
  const none = await bed.build(counting("gatsby"), { caches, lanesToRead: [] });
  assert.equal(await bed.text(none, "found"), "", "--force");
  const other = await bed.build(counting(), { caches });
  assert.equal(await bed.text(other, "found").then((text) => text.includes("node_modules\n")), true);
  assert.deepEqual(await bed.leftovers(), []);
});

test("a preview begins with production's, and production never with a preview's", async () => {
  const caches = openCaches("lanes");
  await bed.build(counting(), { caches });
  const preview = { caches, lanesToRead: ["branch:x", "production"], laneToWrite: "branch:x" };
  const found = async (options: Parameters<Testbed["build"]>[1]) =>
    (await bed.text(await bed.build(counting(), options), "found")).split("\n").length - 1;
  assert.equal(await found(preview), 2);
  assert.equal(await found(preview), 4, "its own by now");
  assert.equal(await found({ caches }), 2, "production's, as it left it");
  assert.equal(await found({ caches, lanesToRead: ["branch:y"], laneToWrite: "branch:y" }), 0);
});

test("a build that fails keeps what there is; one that is larger than it may be keeps nothing; the oldest go", async () => {
  const failing = openCaches("failing");
  await assert.rejects(bed.build(counting(null, "exit 1;"), { caches: failing }), { code: "BUILD_FAILED" });
  assert.match(await bed.text(await bed.build(counting(), { caches: failing }), "found"), /node_modules/);
  const small = openCaches("small", { laneBytesMax: MB });
  await bed.build(counting(null, "head -c 3000000 /dev/zero > node_modules/big;"), { caches: small });
  assert.deepEqual(await readdir(join(directory, "small")).catch(() => []), []);
  const few = openCaches("few", { bytesMax: 5 * MB });
  const fill = counting(null, "head -c 3000000 /dev/zero > node_modules/big;");
  await bed.build(fill, { caches: few, lanesToRead: [], laneToWrite: "one" });
  await bed.build(fill, { caches: few, lanesToRead: [], laneToWrite: "two" });
  assert.equal((await readdir(join(directory, "few", "prj_test"))).length, 1);
});

test("links and files in the way of what comes back are left as uploaded", async () => {
  const caches = openCaches("ways");
  const nested: Files = {
    "vercel.json": json({
      buildCommand: "mkdir -p a/node_modules && echo kept > a/node_modules/n && ls a/node_modules b > out/list",
      outputDirectory: "out",
      installCommand: "",
    }),
    "out/index.html": "",
    "a/x": "",
    "b/x": "",
  };
  await bed.build(nested, { caches });
  const linked: Files = {
    "vercel.json": json({ buildCommand: "ls -R b > out/list", outputDirectory: "out", installCommand: "" }),
    "out/index.html": "",
    a: { link: "b" },
    "b/x": "",
  };
  const result = await bed.build(linked, { caches });
  assert.doesNotMatch(await bed.text(result, "list"), /node_modules/);
});

test("packages of an equal install are not installed again", { skip }, async () => {
  const caches = openCaches("installs");
  const files = (more: string, name = "x"): Files => ({
    "package.json": json({ name, dependencies: { ms: "2.1.3" } }),
    "api/a.js": `module.exports = (req, res) => res.end(require("ms")(1)); ${more}`,
  });
  const first = await bed.build(files(""), { caches });
  assert.ok(first.log.some((line) => line.startsWith("Installing dependencies: npm install")));
  const edited = await bed.build(files("//"), { caches, record: first.record });
  assert.ok(edited.log.includes("Dependencies are those of an earlier build"), edited.log.join("\n"));
  const other = await bed.build(files("//", "y"), { caches });
  assert.ok(other.log.some((line) => line.startsWith("Installing dependencies: npm install")));
  const anew = await bed.build(files("//", "y"));
  assert.deepEqual(other.functions, anew.functions);
  // Of one whose scripts may read anything, only an equal tree is an equal install.
  const scripted = (text: string): Files => ({
    ...files(""),
    "package.json": json({ dependencies: { ms: "2.1.3" }, scripts: { postinstall: "cp input.txt node_modules/ms/input.txt" } }),
    "input.txt": text,
    "vercel.json": json({ functions: { "api/a.js": { includeFiles: "node_modules/ms/input.txt" } } }),
  });
  const textOf = async (text: string) => {
    const result = await bed.build(scripted(text), { caches });
    return (await bed.bundle(Object.values(result.functions)[0]))["node_modules/ms/input.txt"];
  };
  assert.deepEqual([await textOf("one"), await textOf("two"), await textOf("two")], ["one", "two", "two"]);
});

test("a lock file that names another version installs another version", { skip }, async () => {
  const caches = openCaches("locks");
  const files = (version: string, wanted = "^2.1.0"): Files => ({
    "package.json": json({ name: "x", dependencies: { ms: wanted } }),
    "package-lock.json": json({
      name: "x",
      lockfileVersion: 3,
      packages: { "": { name: "x", dependencies: { ms: "^2.1.0" } }, "node_modules/ms": { version } },
    }),
    "api/a.js": 'module.exports = (req, res) => res.end(require("ms/package.json").version);',
  });
  const versionOf = async (version: string, record: BuildRecord | null): Promise<[string, BuildRecord | null]> => {
    const result = await bed.build(files(version), { caches, record });
    const bundle = await bed.bundle(Object.values(result.functions)[0]);
    return [(JSON.parse(bundle["node_modules/ms/package.json"]!) as { version: string }).version, result.record];
  };
  const [first, record] = await versionOf("2.1.2", null);
  const [second] = await versionOf("2.1.3", record);
  assert.deepEqual([first, second], ["2.1.2", "2.1.3"]);
  // What is installed already does not hide that the two disagree.
  await assert.rejects(bed.build(files("2.1.3", "2.0.0"), { caches, record }), { code: "INSTALL_FAILED" });
});
