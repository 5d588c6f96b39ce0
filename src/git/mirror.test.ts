/** Repositories that are nobody's friends: what a mirror fetches, and what it never does, against a real Git server. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { atEnd } from "../../test/at-end.ts";
import { FakeGithub } from "../../test/git/fake-github.ts";
import { git } from "../../test/git/repository.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import { systemClock } from "../clock.ts";
import { MayflyError } from "../errors.ts";
import { readCommit } from "./commit.ts";
import { readCommitTree, type TreeLimits } from "./commit-tree.ts";
import { Mirrors, type FetchRequest, type Mirror, type MirrorsOptions } from "./mirror.ts";

const limits: TreeLimits = { filesMax: 1000, bytesMax: 100_000_000, fileBytesMax: 50_000_000, pathBytesMax: 1024 };
const blobs = openDiskBlobs({ directory: scratchDirectory() });

let host: FakeGithub;
before(async () => {
  host = await FakeGithub.open();
});

function openMirrors(options: Partial<MirrorsOptions> = {}): { mirrors: Mirrors; directory: string } {
  const directory = scratchDirectory();
  const bounds = { fetchMsMax: 60_000, repositoryBytesMax: 100_000_000, bytesMax: 200_000_000 };
  const mirrors = new Mirrors({ directory, clock: systemClock, ...bounds, ...options });
  atEnd(() => mirrors.close());
  return { mirrors, directory };
}

const requestOf = (repository: string, ref = "refs/heads/main"): FetchRequest => ({
  baseUrl: host.url,
  repository,
  repositoryId: String(host.idOf(repository)),
  ref,
  credentials: { username: "x-access-token", password: host.token },
});

/** A commit's files as the mirror reads them: path → text. */
async function filesOf(mirror: Mirror, sha: string | null) {
  const { tree, warnings } = await readCommitTree(mirror, sha!, blobs, limits);
  const files: Record<string, string> = {};
  for (const [path, file] of Object.entries(tree)) files[path] = (await blobs.read(file.digest)).toString();
  return { files, tree, warnings };
}

const isRefused = (code: string, words: RegExp) => (error: unknown) =>
  error instanceof MayflyError && error.code === code && words.test(error.message) && !error.message.includes(host.token);

describe("a mirror", () => {
  it("reads a commit's files, modes and links without a checkout; submodules and ignored files are left out", async () => {
    const repository = host.repository("ann/all", { private: true });
    const { work } = repository;
    writeFileSync(join(work, "run.sh"), "#!/bin/sh\n");
    chmodSync(join(work, "run.sh"), 0o755);
    mkdirSync(join(work, "a/b"), { recursive: true });
    symlinkSync("../../run.sh", join(work, "a/b/link"));
    mkdirSync(join(work, "sub"));
    git(work, "update-index", "--add", "--cacheinfo", `160000,${"1".repeat(40)},sub`);
    const big = "x".repeat(3_000_000);
    const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    const sha = repository.commit(
      "main",
      {
        "big.txt": big,
        "ü €.txt": "umlaut",
        "photo.png": pointer,
        ".gitattributes": "*.png filter=lfs\n",
        ".vercelignore": "secret\n",
        "secret/x": "hidden",
        empty: "",
      },
      "Title\n\nBody: ü",
    );
    repository.push("main");
    const { mirrors } = openMirrors();
    await mirrors.fetch(requestOf("ann/all"), async (mirror, tip) => {
      assert.equal(tip, sha);
      assert.deepEqual(await readCommit(mirror, sha), { sha, author: "Ann", message: "Title\n\nBody: ü" });
      const { files, tree, warnings } = await filesOf(mirror, tip);
      assert.deepEqual(Object.keys(files).toSorted(), [
        ".gitattributes",
        ".vercelignore",
        "a/b/link",
        "big.txt",
        "empty",
        "photo.png",
        "run.sh",
        "ü €.txt",
      ]);
      assert.equal(files["big.txt"], big);
      assert.equal(files["photo.png"], pointer, "no filter has run");
      assert.equal(files["a/b/link"], "../../run.sh");
      assert.deepEqual([tree["a/b/link"]?.mode, tree["run.sh"]?.mode, tree["empty"]?.mode], [0o120777, 0o100755, 0o100644]);
      assert.match(warnings.join(), /Submodule sub is left out/);
    });
  });

  it("reads only what is new of the next commit, and keeps the older one to compare with", async () => {
    const repository = host.repository("ann/next");
    const first = repository.commit("main", { "a.txt": "a", "b.txt": "b" });
    repository.push("main");
    const { mirrors } = openMirrors();
    await mirrors.fetch(requestOf("ann/next"), async (mirror, sha) =>
      assert.deepEqual((await filesOf(mirror, sha)).files, { "a.txt": "a", "b.txt": "b" }),
    );
    repository.commit("main", { "b.txt": "changed" });
    repository.push("main");
    await mirrors.fetch(requestOf("ann/next"), async (mirror, sha) => {
      assert.deepEqual((await filesOf(mirror, sha)).files, { "a.txt": "a", "b.txt": "changed" });
      assert.deepEqual((await filesOf(mirror, first)).files, { "a.txt": "a", "b.txt": "b" });
    });
    assert.equal(await mirrors.fetch(requestOf("ann/next", "refs/heads/none"), async (_mirror, sha) => sha), null);
  });

  it("runs no hook, and shows its token to no process list and no file", async () => {
    const repository = host.repository("ann/quiet", { private: true });
    repository.commit("main", { "a.txt": "a" });
    repository.push("main");
    const { mirrors, directory } = openMirrors();
    let seen = 0;
    host.onGit = () => {
      for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
        let line = "";
        try {
          line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        } catch {
          continue; // it has ended
        }
        if (line.includes("ann/quiet.git")) seen++;
        assert.ok(!line.includes(host.token) && !line.includes(Buffer.from(`x-access-token:${host.token}`).toString("base64")), line);
      }
      return false;
    };
    try {
      await mirrors.fetch(requestOf("ann/quiet"), async () => {});
      const mirror = join(directory, "mirrors", readdirSync(join(directory, "mirrors"))[0]!);
      const proof = join(directory, "hook-has-run");
      mkdirSync(join(mirror, "hooks"), { recursive: true });
      for (const hook of ["reference-transaction", "post-checkout", "pre-auto-gc", "post-merge"]) {
        writeFileSync(join(mirror, "hooks", hook), `#!/bin/sh\ntouch ${proof}\n`, { mode: 0o755 });
      }
      repository.commit("main", { "a.txt": "b" });
      repository.push("main");
      await mirrors.fetch(requestOf("ann/quiet"), async () => {});
      assert.ok(!existsSync(proof));
    } finally {
      host.onGit = () => false;
    }
    assert.ok(seen > 0, "the process list was looked at while git ran");
    for (const path of readdirSync(directory, { recursive: true, encoding: "utf8", withFileTypes: true })) {
      if (path.isFile()) assert.ok(!readFileSync(join(path.parentPath, path.name)).includes(host.token), path.name);
    }
  });

  it("does not follow the host to another address, nor does it tell it the token", async () => {
    const asked: string[] = [];
    const other = createServer((request, response) => {
      asked.push(request.url ?? "");
      response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    atEnd(() => void other.close());
    host.onGit = (_request, response) => {
      response
        .writeHead(302, {
          location: `http://127.0.0.1:${(other.address() as AddressInfo).port}/internal.git/info/refs?service=git-upload-pack`,
        })
        .end();
      return true;
    };
    try {
      await assert.rejects(
        openMirrors().mirrors.fetch(requestOf("ann/moved"), async () => {}),
        isRefused("git_refused", /./),
      );
    } finally {
      host.onGit = () => false;
    }
    assert.deepEqual(asked, []);
  });

  it("refuses a wrong token without a prompt, and says nothing of it", async () => {
    host.repository("ann/locked", { private: true });
    const request = { ...requestOf("ann/locked"), credentials: { username: "x", password: "wrong-secret" } };
    await assert.rejects(
      openMirrors().mirrors.fetch(request, async () => {}),
      (error) => error instanceof MayflyError && error.code === "git_refused" && !error.message.includes("wrong-secret"),
    );
  });

  it("speaks no other protocol than the host's own", async () => {
    const { mirrors } = openMirrors();
    const proof = join(scratchDirectory(), "proof");
    for (const baseUrl of [`ext::sh -c touch% ${proof}`, "file:///tmp", "ssh://127.0.0.1"]) {
      await assert.rejects(mirrors.fetch({ ...requestOf("ann/x"), baseUrl }, async () => {}));
    }
    assert.ok(!existsSync(proof));
  });

  it("refuses paths that lead out of the tree, and more files or bytes than a deployment may have", async () => {
    const repository = host.repository("ann/evil");
    const content = repository.commit("main", { "a.txt": "a", "b.txt": "bb" });
    repository.push("main");
    const { mirrors } = openMirrors();
    const read = (bounds: Partial<TreeLimits>, ref?: string) =>
      mirrors.fetch(requestOf("ann/evil", ref), (mirror, sha) => readCommitTree(mirror, sha!, blobs, { ...limits, ...bounds }));
    await assert.rejects(read({ filesMax: 1 }), isRefused("too_many_files", /1 files/));
    await assert.rejects(read({ bytesMax: 2 }), isRefused("payload_too_large", /2 bytes/));
    await assert.rejects(read({ fileBytesMax: 1 }), isRefused("payload_too_large", /b\.txt/));

    const blob = git(repository.work, "rev-parse", `${content}:a.txt`);
    const plant = (path: string) => {
      const tree = execFileSync("git", ["-C", repository.work, "mktree"], {
        input: `100644 blob ${blob}\t${path}\n`,
        encoding: "utf8",
      }).trim();
      const inner = execFileSync("git", ["-C", repository.work, "mktree"], {
        input: `040000 tree ${tree}\tdir\n`,
        encoding: "utf8",
      }).trim();
      const sha = execFileSync(
        "git",
        ["-C", repository.work, "-c", "user.name=e", "-c", "user.email=e@e", "commit-tree", inner, "-m", "x"],
        { encoding: "utf8" },
      ).trim();
      git(repository.work, "push", "--quiet", "--force", "origin", `${sha}:refs/heads/evil`);
    };
    for (const path of ["..", ".", "a\\b"]) {
      plant(path);
      await assert.rejects(read({}, "refs/heads/evil"), isRefused("invalid_path", /./), path);
    }
  });

  it("ends a fetch that takes too long, and one that grows too large; nothing is left of them", async () => {
    host.onGit = () => true; // never answers
    try {
      await assert.rejects(
        openMirrors({ fetchMsMax: 300 }).mirrors.fetch(requestOf("ann/slow"), async () => {}),
        isRefused("git_host_unavailable", /300 ms/),
      );
    } finally {
      host.onGit = () => false;
    }
    const repository = host.repository("ann/large");
    repository.commit("main", { "noise.bin": Buffer.from(Array.from({ length: 2_000_000 }, () => Math.floor(Math.random() * 256))) });
    repository.push("main");
    const { mirrors, directory } = openMirrors({ repositoryBytesMax: 1_000_000 });
    await assert.rejects(
      mirrors.fetch(requestOf("ann/large"), async () => {}),
      isRefused("git_refused", /1000000 bytes/),
    );
    assert.deepEqual(readdirSync(join(directory, "mirrors")), []);
  });

  it("throws the least recently used mirror away when all of them are too large, and mends one that a crash broke", async () => {
    const noise = () => Buffer.from(Array.from({ length: 300_000 }, () => Math.floor(Math.random() * 256)));
    const { mirrors, directory } = openMirrors({ bytesMax: 800_000 });
    for (const name of ["ann/m1", "ann/m2", "ann/m3"]) {
      const repository = host.repository(name);
      repository.commit("main", { "noise.bin": noise() });
      repository.push("main");
      await mirrors.fetch(requestOf(name), async () => {});
    }
    const left = readdirSync(join(directory, "mirrors"));
    assert.equal(left.length, 2);
    for (const name of left) writeFileSync(join(directory, "mirrors", name, "shallow.lock"), "");
    assert.match(String(await mirrors.fetch(requestOf("ann/m3"), async (_mirror, sha) => sha)), /^[0-9a-f]{40}$/);
  });
});
