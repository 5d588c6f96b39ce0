/** Unpacked bundles: read-only, shared, whole after any end, and removed when nobody holds them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import type { Digest, FileRef } from "../model.ts";
import { openBundles, type Bundles, type BundlesOptions } from "./bundles.ts";
import { until } from "./testbed.ts";

const file = 0o100644;
const executable = 0o100755;
const symlink = 0o120777;

async function open(settings: Partial<BundlesOptions> = {}) {
  const data = scratchDirectory();
  const blobs = openDiskBlobs({ directory: join(data, "blobs") });
  const options: BundlesOptions = {
    directory: join(data, "bundles"),
    blobs,
    bytesMax: 1e9,
    pathBytesMax: 1024,
    filesMax: 1000,
    mounts: true,
    ...settings,
  };
  const store = async (files: Record<string, [number, string]>): Promise<Digest> => {
    const tree: Record<string, FileRef> = {};
    for (const [path, [mode, text]] of Object.entries(files)) {
      const { digest, size } = await blobs.put(text);
      tree[path] = { digest, size, mode };
    }
    return (await blobs.put(JSON.stringify(tree))).digest;
  };
  return { blobs, options, store, bundles: await openBundles(options) };
}

const names = (options: BundlesOptions) => readdirSync(options.directory).filter((name) => !name.startsWith(".held-"));

describe("unpacked bundles", () => {
  it("are read-only, share their bytes with the blobs, and keep symlinks and executables", async () => {
    const { bundles, store, blobs } = await open();
    const digest = await store({
      "index.js": [file, "code"],
      "bin/run": [executable, "#!/bin/sh"],
      "node_modules/a/package.json": [file, "{}"],
      "node_modules/b": [symlink, "a"],
      "deep/er/up": [symlink, "../../index.js"],
      "deep/dangling": [symlink, "nowhere"],
    });
    using lease = await bundles.lease(digest);
    const at = (path: string) => join(lease.directory, path);
    const mode = (path: string) => statSync(at(path)).mode & 0o777;
    assert.deepEqual([mode("."), mode("deep/er"), mode("index.js"), mode("bin/run")], [0o555, 0o555, 0o444, 0o555]);
    assert.equal(statSync(at("index.js")).nlink, 2);
    assert.equal(readFileSync(at("deep/er/up"), "utf8"), "code");
    assert.equal(readFileSync(at("node_modules/b/package.json"), "utf8"), "{}");
    assert.equal(readlinkSync(at("deep/dangling")), "nowhere");
    assert.equal((await blobs.read(digest)).length > 0, true);
  });

  const hostile: Record<string, Record<string, [number, string]>> = {
    "a path above": { "../x": [file, ""] },
    "an absolute path": { "/x": [file, ""] },
    "a path with dots inside": { "a/../../x": [file, ""] },
    "an absolute symlink": { x: [symlink, "/etc/passwd"] },
    "a symlink above": { x: [symlink, "../x"] },
    "a symlink that climbs by another": { "a/b/c/up": [symlink, "../../.."], "a/b/c/out": [symlink, "up/../x"] },
    "a dangling symlink that climbs by another": { "a/b/up": [symlink, "../.."], y: [symlink, "a/b/up/../nowhere"] },
    "a circle of symlinks": { a: [symlink, "b"], b: [symlink, "a"] },
    "a file below a symlink": { a: [symlink, "b"], "a/x": [file, ""], "b/y": [file, ""] },
    "a file below a file": { a: [file, ""], "a/x": [file, ""] },
    "a device": { a: [0o020666, ""] },
    "a setuid file": { a: [0o104755, ""] },
  };
  for (const [what, files] of Object.entries(hostile)) {
    it(`refuse ${what}, and leave nothing`, async () => {
      const { bundles, store, options } = await open();
      await assert.rejects(bundles.lease(await store(files)), { name: "MayflyError" });
      assert.deepEqual(names(options), []);
    });
  }

  it("refuse what is no file tree or has absent blobs", async () => {
    const { bundles, blobs, options } = await open();
    const absent = JSON.stringify({ a: { digest: "0".repeat(64), size: 1, mode: file } });
    for (const text of ["[]", "null", "{", '{"a":1}', '{"a":{"digest":"../../etc/passwd","size":1,"mode":33188}}', absent]) {
      await assert.rejects(bundles.lease((await blobs.put(text)).digest), { name: "MayflyError" }, text);
    }
    await assert.rejects(bundles.lease("1".repeat(64)));
    assert.deepEqual(names(options), []);
  });

  it("are unpacked once for many callers", async () => {
    const { bundles, store, options } = await open();
    const digest = await store({ a: [file, "a"] });
    const leases = await Promise.all(Array.from({ length: 10 }, () => bundles.lease(digest)));
    assert.equal(new Set(leases.map((lease) => lease.directory)).size, 1);
    assert.deepEqual(names(options), [digest]);
  });

  it("go least recently used first, never while in use, and come back", async () => {
    const { bundles, store, options } = await open({ bytesMax: 25 });
    const digests: Digest[] = [];
    for (const text of ["0123456789", "abcdefghij", "ABCDEFGHIJ"]) digests.push(await store({ [text]: [file, text] }));
    const [a, b, c] = digests as [Digest, Digest, Digest];
    const leaseA = await bundles.lease(a);
    (await bundles.lease(b))[Symbol.dispose]();
    const leaseC = await bundles.lease(c);
    await gone(bundles, options, b);
    assert.deepEqual(names(options).sort(), [a, c].sort());
    const leaseB = await bundles.lease(b);
    assert.deepEqual(names(options).length, 3, "all are in use");
    leaseA[Symbol.dispose]();
    leaseA[Symbol.dispose]();
    await gone(bundles, options, a);
    leaseB[Symbol.dispose]();
    leaseC[Symbol.dispose]();
    assert.deepEqual(names(options).sort(), [b, c].sort());
  });

  it("stay as long as another process that lives has marked them, and no longer", async () => {
    const { bundles, store, options } = await open({ bytesMax: 15 });
    const dead = spawnSync("true").pid;
    const digests: Digest[] = [];
    for (const text of ["0123456789", "abcdefghij", "ABCDEFGHIJ"]) digests.push(await store({ [text]: [file, text] }));
    const [theirs, left, mine] = digests as [Digest, Digest, Digest];
    writeFileSync(join(options.directory, `.held-${process.ppid}-${theirs}`), "");
    writeFileSync(join(options.directory, `.held-${dead}-${left}`), "");
    writeFileSync(join(options.directory, `.going-${left}`), String(dead));
    for (const digest of [theirs, left, mine]) (await bundles.lease(digest))[Symbol.dispose]();
    await gone(bundles, options, left);
    assert.deepEqual(names(options).sort(), [theirs, mine].sort());
    // Whoever wants one that is being taken away waits until it is through.
    writeFileSync(join(options.directory, `.going-${left}`), String(process.ppid));
    let taken = false;
    const waiting = bundles.lease(left).then((lease) => {
      taken = true;
      return lease;
    });
    await until(() => existsSync(join(options.directory, `.held-${process.pid}-${left}`)));
    assert.equal(taken, false);
    rmSync(join(options.directory, `.going-${left}`));
    using lease = await waiting;
    assert.ok(existsSync(lease.directory));
  });

  it("have directories that others have too once, to be mounted, or each its own where nothing can be mounted", async () => {
    const { bundles, store, options, blobs } = await open();
    const tree = await store({ "a/index.js": [file, "a"], up: [symlink, "a/index.js"] });
    const bundleOf = async (name: string): Promise<Digest> => {
      const { digest, size } = await blobs.put(name);
      const shared = { treeDigest: tree, size: 20, mode: 0o040000 };
      return (await blobs.put(JSON.stringify({ "index.js": { digest, size, mode: file }, "lib/node_modules": shared }))).digest;
    };
    const digests = [await bundleOf("one"), await bundleOf("two")];
    const leases = await Promise.all(digests.map((digest) => bundles.lease(digest)));
    for (const lease of leases) {
      assert.deepEqual(lease.inner, [{ path: "lib/node_modules", source: join(options.directory, tree) }]);
      assert.deepEqual(readdirSync(join(lease.directory, "lib/node_modules")), []);
    }
    assert.equal(readFileSync(join(leases[0]!.inner[0]!.source, "up"), "utf8"), "a");
    assert.deepEqual(names(options).sort(), [...digests, tree].sort());
    for (const lease of leases) lease[Symbol.dispose]();
    await bundles.close();

    const whole = await openBundles({ ...options, mounts: false });
    using lease = await whole.lease(digests[0]!);
    assert.deepEqual(lease.inner, []);
    assert.equal(readFileSync(join(lease.directory, "lib/node_modules/up"), "utf8"), "a");
  });

  it("fail when a directory that they share is absent, and leave no lease", async () => {
    const { bundles, options, blobs, store } = await open({ bytesMax: 0 });
    const other = await store({ b: [file, "b"] });
    const { digest, size } = await blobs.put("a");
    const lost = { treeDigest: "3".repeat(64), size: 1, mode: 0o040000 };
    const bundle = await blobs.put(JSON.stringify({ a: { digest, size, mode: file }, inner: lost }));
    await assert.rejects(bundles.lease(bundle.digest), { name: "MayflyError" });
    (await bundles.lease(other))[Symbol.dispose]();
    await bundles.close();
    assert.deepEqual(names(options), []);
  });

  it("are found again after a restart, and what was half-made is removed", async () => {
    const { bundles, store, options } = await open();
    const digest = await store({ "d/a": [file, "a"] });
    (await bundles.lease(digest))[Symbol.dispose]();
    const dead = spawnSync("true").pid;
    mkdirSync(join(options.directory, `.new-${dead}-x`, "d"), { recursive: true });
    writeFileSync(join(options.directory, `.new-${dead}-x`, "d", "half"), "");
    mkdirSync(join(options.directory, `.old-${dead}-x`));
    mkdirSync(join(options.directory, `.new-${process.ppid}-x`));
    mkdirSync(join(options.directory, "2".repeat(64)));
    const before = statSync(join(options.directory, digest)).ino;
    const again = await openBundles(options);
    using lease = await again.lease(digest);
    assert.equal(statSync(lease.directory).ino, before);
    assert.deepEqual(names(options).sort(), [digest, `.new-${process.ppid}-x`].sort());
  });
});

async function gone(bundles: Bundles, options: BundlesOptions, digest: Digest): Promise<void> {
  await bundles.close();
  await until(() => !names(options).includes(digest));
}
