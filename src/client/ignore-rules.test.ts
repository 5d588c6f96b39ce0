/** What is not uploaded: the default list, and ignore files as Git reads them. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { scratchDirectory } from "../../test/scratch.ts";
import { readSource } from "./source.ts";

/** The paths that are sent of a directory with these files (path → content). */
async function sent(files: Readonly<Record<string, string>>): Promise<string[]> {
  const root = scratchDirectory();
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return (await readSource(root)).files.map(({ path }) => path);
}

const all = (paths: readonly string[]): Record<string, string> => Object.fromEntries(paths.map((path) => [path, path]));

describe("what is not uploaded", () => {
  it("leaves out the default list at every depth", async () => {
    const ignored = [
      ".git/HEAD",
      "sub/.git",
      ".gitignore",
      ".hg/store",
      ".svn/x",
      "CVS/x",
      "node_modules/a/index.js",
      "packages/a/node_modules/b.js",
      ".next/build",
      ".cache/x",
      ".vercel/project.json",
      ".mayfly/mayfly.db",
      ".now/x",
      ".env.local",
      ".env.production.local",
      "sub/.env.local",
      ".DS_Store",
      "sub/.DS_Store",
      ".index.html.swp",
      ".venv/x",
      "venv/x",
      "__pycache__/x",
      ".yarn/cache/x",
      ".pnp.cjs",
      "npm-debug.log",
      "config.gypi",
      ".npmignore",
      ".dockerignore",
      ".lock-wscript",
      ".wafpicke-7",
    ];
    const kept = [".env", ".env.production", ".vercelignoree", ".yarn/releases/y.cjs", "cache/x", "index.html", "next/x", "vercel.json"];
    assert.deepEqual(await sent(all([...ignored, ...kept])), kept);
  });

  const cases: readonly (readonly [title: string, files: Readonly<Record<string, string>>, expected: readonly string[]])[] = [
    [
      ".vercelignore leaves out",
      { ".vercelignore": "*.md\n/docs\n", ...all(["a.md", "docs/x", "sub/docs/y", "a.js"]) },
      [".vercelignore", "a.js", "sub/docs/y"],
    ],
    [
      ".vercelignore may begin patterns with ./",
      { ".vercelignore": "./docs\n!./docs\n./tmp", ...all(["docs/x", "tmp/y"]) },
      [".vercelignore", "docs/x"],
    ],
    [
      ".vercelignore takes a default back",
      { ".vercelignore": "!node_modules", ...all(["node_modules/a/b.js"]) },
      [".vercelignore", "node_modules/a/b.js"],
    ],
    [
      ".vercelignore replaces .gitignore",
      { ".vercelignore": "b", ".gitignore": "a", "sub/.gitignore": "c", ...all(["a", "b", "sub/c"]) },
      [".vercelignore", "a", "sub/c"],
    ],
    [
      ".gitignore leaves out",
      { ".gitignore": "dist/\n*.log\n!keep.log", ...all(["dist/x", "a.log", "keep.log", "src/dist/y"]) },
      ["keep.log"],
    ],
    [
      "a nested .gitignore counts below it only",
      { "sub/.gitignore": "*.txt", ...all(["a.txt", "sub/b.txt", "sub/deep/c.txt"]) },
      ["a.txt"],
    ],
    [
      "a nested .gitignore takes back",
      { ".gitignore": "*.txt", "sub/.gitignore": "!b.txt", ...all(["a.txt", "sub/b.txt", "sub/c.txt"]) },
      ["sub/b.txt"],
    ],
    [
      "a nested pattern with a slash is anchored there",
      { "sub/.gitignore": "/x", ...all(["x", "sub/x", "sub/deep/x"]) },
      ["sub/deep/x", "x"],
    ],
    [
      ".gitignore cannot take a default back",
      { ".gitignore": "!.*\n!node_modules", ...all([".env.local", ".git/config", "node_modules/a", "b"]) },
      ["b"],
    ],
    ["what is below an ignored directory stays out", { ".gitignore": "out/", "out/.gitignore": "!x", ...all(["out/x", "y"]) }, ["y"]],
  ];
  for (const [title, files, expected] of cases) {
    it(title, async () => assert.deepEqual(await sent(files), expected));
  }
});
