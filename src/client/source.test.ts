/** A directory as it is uploaded: paths, modes, digests, links, and what is left out. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { readSource } from "./source.ts";

const sha1 = (text: string): string => createHash("sha1").update(text).digest("hex");

function write(root: string, path: string, content: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

/** Runs without root's right to read everything. */
async function asNobody<T>(act: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return act();
  process.seteuid?.(65_534);
  try {
    return await act();
  } finally {
    process.seteuid?.(0);
  }
}

describe("readSource", () => {
  it("lists path, size, mode and digest, sorted", async () => {
    const root = scratchDirectory();
    write(root, "z.txt", "zz");
    write(root, "a/b/run.sh", "#!/bin/sh");
    chmodSync(join(root, "a/b/run.sh"), 0o755);
    write(root, "a.txt", "");
    write(root, "über straße.txt", "ü");
    const source = await readSource(root);
    assert.deepEqual(source.files, [
      { path: "a.txt", sha: sha1(""), size: 0, mode: 0o100644 },
      { path: "a/b/run.sh", sha: sha1("#!/bin/sh"), size: 9, mode: 0o100755 },
      { path: "z.txt", sha: sha1("zz"), size: 2, mode: 0o100644 },
      { path: "über straße.txt", sha: sha1("ü"), size: 2, mode: 0o100644 },
    ]);
    assert.equal(source.bytes, 13);
    assert.deepEqual(source.warnings, []);
  });

  it("sends symlinks as links, also to directories and to nothing, and warns when they lead out", async () => {
    const root = scratchDirectory();
    write(root, "dir/file", "x");
    symlinkSync("dir", join(root, "to-dir"));
    symlinkSync("nowhere", join(root, "broken"));
    symlinkSync("../dir/file", join(root, "dir/inside"));
    symlinkSync("../../etc/passwd", join(root, "dir/outside"));
    symlinkSync("/etc/passwd", join(root, "absolute"));
    const { files, warnings } = await readSource(root);
    const links = files.filter(({ mode }) => mode === 0o120777).map(({ path, sha }) => [path, sha]);
    assert.deepEqual(links, [
      ["absolute", sha1("/etc/passwd")],
      ["broken", sha1("nowhere")],
      ["dir/inside", sha1("../dir/file")],
      ["dir/outside", sha1("../../etc/passwd")],
      ["to-dir", sha1("dir")],
    ]);
    assert.equal(warnings.length, 2);
    assert.match(warnings.join(), /"absolute".*"dir\/outside"/s);
  });

  it("skips sockets and pipes with a warning", async () => {
    const root = scratchDirectory();
    write(root, "a", "a");
    execFileSync("mkfifo", [join(root, "pipe")]);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(root, "socket"), resolve));
    const { files, warnings } = await readSource(root);
    server.close();
    assert.deepEqual(
      files.map(({ path }) => path),
      ["a"],
    );
    assert.deepEqual(warnings.toSorted(), [
      'Skipped "pipe": it is a socket, pipe or device.',
      'Skipped "socket": it is a socket, pipe or device.',
    ]);
  });

  it("refuses an empty directory, one of ignored files alone, a file and nothing", async () => {
    const root = scratchDirectory();
    await assert.rejects(readSource(root), { code: "empty_directory" });
    write(root, "node_modules/a.js", "x");
    await assert.rejects(readSource(root), { code: "empty_directory" });
    await assert.rejects(readSource(join(root, "node_modules/a.js")), { code: "not_a_directory" });
    await assert.rejects(readSource(join(root, "missing")), { code: "not_a_directory", message: /does not exist/ });
  });

  it("names a file and a directory that cannot be read", async () => {
    const root = scratchDirectory();
    chmodSync(root, 0o755);
    write(root, "ok", "x");
    write(root, "secret/key.pem", "x");
    chmodSync(join(root, "secret/key.pem"), 0);
    await asNobody(() => assert.rejects(readSource(root), { code: "unreadable_file", message: /"secret\/key\.pem": EACCES/ }));
    chmodSync(join(root, "secret"), 0);
    await asNobody(() => assert.rejects(readSource(root), { code: "unreadable_file", message: /"secret\/": EACCES/ }));
  });

  it("stops when it is told to", async () => {
    const root = scratchDirectory();
    write(root, "a", "a");
    await assert.rejects(readSource(root, { signal: AbortSignal.abort() }), { code: "canceled" });
  });

  it("hashes 1 GB without holding it", async () => {
    const root = scratchDirectory();
    write(root, "big", "");
    truncateSync(join(root, "big"), 2 ** 30);
    const before = process.memoryUsage.rss();
    let most = 0;
    const watch = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 10);
    const { files } = await readSource(root);
    clearInterval(watch);
    assert.deepEqual(files, [{ path: "big", sha: "2a492f15396a6768bcbca016993f4b4c8b0b5307", size: 2 ** 30, mode: 0o100644 }]);
    assert.ok(most - before < 100e6, `${most - before} bytes more`);
  });
});

describe("readSource of a prebuilt output", () => {
  const prebuilt = (): string => {
    const root = scratchDirectory();
    write(root, "index.html", "source, not sent");
    write(root, ".vercel/output/config.json", '{"version":3}');
    write(root, ".vercel/output/static/.env.local", "in the output, so sent");
    write(root, ".vercel/output/functions/api/a.func/node_modules/x.js", "x");
    return root;
  };
  const config = (root: string, filePathMap: unknown): void =>
    write(root, ".vercel/output/functions/api/a.func/.vc-config.json", JSON.stringify({ handler: "a.js", filePathMap }));
  const paths = async (root: string): Promise<string[]> => (await readSource(root, { prebuilt: true })).files.map(({ path }) => path);

  it("sends all of the output, links too, and nothing else", async () => {
    const root = prebuilt();
    symlinkSync("a.func", join(root, ".vercel/output/functions/api/b.func"));
    assert.deepEqual(await paths(root), [
      ".vercel/output/config.json",
      ".vercel/output/functions/api/a.func/node_modules/x.js",
      ".vercel/output/functions/api/b.func",
      ".vercel/output/static/.env.local",
    ]);
  });

  it("adds the files that filePathMaps name, links as links, each once", async () => {
    const root = prebuilt();
    write(root, "node_modules/dep/index.js", "dep");
    symlinkSync("dep", join(root, "node_modules/alias"));
    config(root, { "node_modules/dep/index.js": "node_modules/dep/index.js", x: "./node_modules/dep/index.js", y: "node_modules/alias" });
    const added = (await paths(root)).filter((path) => !path.startsWith(".vercel/"));
    assert.deepEqual(added, ["node_modules/alias", "node_modules/dep/index.js"]);
  });

  it("does not add what .vercelignore leaves out, and says so", async () => {
    const root = prebuilt();
    write(root, ".vercelignore", "*.pem");
    write(root, "key.pem", "secret");
    config(root, { "key.pem": "key.pem" });
    const { files, warnings } = await readSource(root, { prebuilt: true });
    assert.ok(!files.some(({ path }) => path === "key.pem"));
    assert.match(warnings.join(), /"key.pem"/);
  });

  for (const [title, value] of [
    ["above", "../outside"],
    ["absolute", "/etc/passwd"],
    ["through a link", ".vercel/output/static/door/passwd"],
    ["missing", "node_modules/none.js"],
    ["a directory", "node_modules"],
    ["not a string", 7],
  ] as const) {
    it(`refuses a filePathMap value that is ${title}`, async () => {
      const root = prebuilt();
      mkdirSync(join(root, "node_modules"));
      symlinkSync("/etc", join(root, ".vercel/output/static/door"));
      assert.ok(existsSync(join(root, ".vercel/output/static/door/passwd")));
      config(root, { x: value });
      await assert.rejects(readSource(root, { prebuilt: true }), { code: "BUILD_OUTPUT_INVALID", message: /a\.func\/\.vc-config\.json/ });
    });
  }

  it("refuses no output, a failed build and one for another target", async () => {
    const root = prebuilt();
    await assert.rejects(readSource(scratchDirectory(), { prebuilt: true }), { code: "empty_directory", message: /no prebuilt output/ });
    write(root, ".vercel/output/builds.json", JSON.stringify({ target: "production", builds: [{ error: { message: "tsc says no" } }] }));
    await assert.rejects(readSource(root, { prebuilt: true, target: "production" }), { code: "BUILD_FAILED", message: /tsc says no/ });
    write(root, ".vercel/output/builds.json", JSON.stringify({ target: "production", builds: [] }));
    await assert.rejects(readSource(root, { prebuilt: true, target: "preview" }), { code: "conflict", message: /--prod/ });
    assert.equal((await readSource(root, { prebuilt: true, target: "production" })).files.length, 4);
  });
});
