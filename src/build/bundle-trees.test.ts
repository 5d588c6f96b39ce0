/** Directories that bundles have in common are found, whatever they are called, and nothing of a bundle changes. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import type { Bundle, FileRef, FileTree } from "../model.ts";
import { shareDirectories } from "./bundle-trees.ts";

const sha = (text: string): string => createHash("sha256").update(text).digest("hex");
const links = new Map<string, string>();
const file = (text: string): FileRef => ({ digest: sha(text), size: text.length, mode: 0o100644 });
const link = (target: string): FileRef => {
  links.set(sha(target), target);
  return { digest: sha(target), size: target.length, mode: 0o120777 };
};
const many = (directory: string, count = 8): Record<string, FileRef> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${directory}/d${index % 3}/f${index}.js`, file(`${index}`)]));

function share(...bundles: FileTree[]): readonly string[][] {
  const found = shareDirectories(bundles, links);
  for (const [index, bundle] of found.bundles.entries()) assert.deepEqual(flatten(bundle, found.trees), bundles[index]);
  return found.bundles.map((bundle) => Object.entries(bundle).flatMap(([path, entry]) => ("treeDigest" in entry ? [path] : [])));
}

function flatten(bundle: Bundle, trees: ReadonlyMap<string, string>): FileTree {
  const files: [string, FileRef][] = [];
  for (const [path, entry] of Object.entries(bundle)) {
    if (!("treeDigest" in entry)) files.push([path, entry]);
    else {
      const tree = JSON.parse(trees.get(entry.treeDigest)!) as FileTree;
      for (const [name, inner] of Object.entries(tree)) files.push([`${path}/${name}`, inner]);
      assert.equal(
        entry.size,
        Object.values(tree).reduce((sum, { size }) => sum + size, 0),
      );
    }
  }
  return Object.fromEntries(files.sort(([a], [b]) => (a < b ? -1 : 1)));
}

const sorted = (files: Record<string, FileRef>): FileTree => Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)));

describe("directories of several bundles", () => {
  it("are kept once, the highest ones, at any path", () => {
    const a = sorted({ "api/a.js": file("a"), ...many("node_modules/x"), ...many("node_modules/y") });
    const b = sorted({ "api/b.js": file("b"), ...many("node_modules/x"), ...many("node_modules/y") });
    const c = sorted({ "api/c.js": file("c"), ...many("web/node_modules/x") });
    assert.deepEqual(share(a, b, c), [["node_modules"], ["node_modules"], ["web/node_modules/x"]]);
    assert.deepEqual(share(a, c), [["node_modules/x", "node_modules/y"], ["web/node_modules/x"]]);
    assert.deepEqual(share(a, a), [[], []], "equal bundles are one anyway");
  });

  it("stay where they are when they are small, of another content, or all of the bundle", () => {
    assert.deepEqual(share(sorted(many("a/x", 7)), sorted(many("b/x", 7))), [[], []]);
    assert.deepEqual(share(sorted({ ...many("a/x"), "a/x/more": file("1") }), sorted({ ...many("b/x"), "b/x/more": file("2") })), [[], []]);
    const executable = { ...file("1"), mode: 0o100755 };
    assert.deepEqual(share(sorted({ ...many("a/x"), "a/x/more": file("1") }), sorted({ ...many("b/x"), "b/x/more": executable })), [
      [],
      [],
    ]);
  });

  it("keep their links, and are not taken out when one leads out of them", () => {
    const inner = (target: string, name: string): FileTree => sorted({ ...many(`${name}/x`), [`${name}/x/l/up`]: link(target) });
    assert.deepEqual(share(inner("../d0", "a"), inner("../d0", "b")), [["a"], ["b"]]);
    for (const target of ["../../../y", "../d0/../../..", "/etc"])
      assert.deepEqual(share(inner(target, "a"), inner(target, "b")), [[], []], target);
  });

  it("are eight in a bundle at most, the largest", () => {
    const bundle = (name: string): FileTree =>
      sorted({
        ...Object.assign({}, ...Array.from({ length: 12 }, (_, index) => many(`lib/p${index}`, 8 + index))),
        "lib/own.js": file(name),
      });
    const [found] = share(bundle("a"), bundle("b"));
    assert.deepEqual(found?.toSorted(), Array.from({ length: 8 }, (_, index) => `lib/p${index + 4}`).toSorted());
  });
});
