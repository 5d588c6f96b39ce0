/** The uploaded tree seen from the project's root directory: what a plan may look at. */
import { posix } from "node:path";
import { MayflyError } from "../errors.ts";
import type { FileRef, SourceTree } from "../model.ts";
import { checkFilePath } from "../names.ts";

/** Files that are read for a plan are small; beyond this they are not what they seem. */
const planFileBytesMax = 16 * 1024 * 1024;

export interface Project {
  /** "" or `apps/web`. */
  readonly rootDirectory: string;
  /** Sorted paths of the project, relative to its root, without what is outside it. */
  readonly files: readonly string[];
  readonly tree: SourceTree;
  has(path: string): boolean;
  ref(path: string): FileRef | undefined;
  /** @throws MayflyError BUILD_FAILED when it is absent or larger than a plan reads */
  read(path: string): Promise<Buffer>;
  /** The same for a path relative to the tree's root. */
  readFromTree(path: string): Promise<Buffer>;
}

/** @throws MayflyError BUILD_FAILED when there is no file below `rootDirectory`, invalid_path when that is no path */
export function openProject(tree: SourceTree, readFile: (path: string) => Promise<Buffer>, rootDirectory: string | null): Project {
  const root = parseRootDirectory(rootDirectory);
  const prefix = root === "" ? "" : `${root}/`;
  const files: string[] = [];
  for (const path of Object.keys(tree)) if (path.startsWith(prefix)) files.push(path.slice(prefix.length));
  if (files.length === 0)
    throw new MayflyError("BUILD_FAILED", root === "" ? "There are no files." : `The root directory "${root}" has no files.`);
  files.sort();
  const ref = (path: string): FileRef | undefined => (Object.hasOwn(tree, prefix + path) ? tree[prefix + path] : undefined);
  const readFromTree = async (path: string): Promise<Buffer> => {
    const size = Object.hasOwn(tree, path) ? tree[path]?.size : undefined;
    if (size === undefined) throw new MayflyError("BUILD_FAILED", `There is no file "${path}".`);
    if (size > planFileBytesMax) throw new MayflyError("BUILD_FAILED", `"${path}" has ${size} bytes; it may have ${planFileBytesMax}.`);
    return readFile(path);
  };
  return {
    rootDirectory: root,
    files,
    tree,
    has: (path) => ref(path) !== undefined,
    ref,
    read: (path) => readFromTree(prefix + path),
    readFromTree,
  };
}

/** "" or `apps/web`. @throws MayflyError invalid_path */
export function parseRootDirectory(text: string | null): string {
  const path = posix.normalize(text ?? "").replace(/^\/+|\/+$/g, "");
  return path === "." || path === "" ? "" : checkFilePath(path, 1024);
}
