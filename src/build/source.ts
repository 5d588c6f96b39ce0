/**
 * The uploaded tree as plain files for a build: copies that belong to the build alone, so that nothing it does reaches a
 * blob. Links come last and are written only, so no file is ever written through one.
 */
import { chmodSync, constants, copyFileSync, mkdirSync } from "node:fs";
import { chmod, copyFile, mkdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { errnoOf, MayflyError } from "../errors.ts";
import type { FileRef, SourceTree } from "../model.ts";
import { outputDirectory } from "./builder.ts";
import { linkTarget } from "./output-files.ts";

const copiesAtOnce = 16;
/** Smaller files are copied in one go, so many in a turn: a trip through the thread pool takes longer than one of them. */
const smallBytesMax = 64 * 1024;
const smallAtOnce = 50;
const linkBytesMax = 4096;

/**
 * Writes the tree below `directory`, without what an earlier build left in it (`.vercel/output`).
 * @returns paths of links that lead out of the tree and so were left out
 * @throws MayflyError invalid_path when one path is a file and a directory
 */
export async function writeSource(tree: SourceTree, directory: string, blobs: BlobStore): Promise<readonly string[]> {
  const files: [string, FileRef][] = [];
  const links: [string, FileRef][] = [];
  for (const [path, file] of Object.entries(tree)) {
    if (path.startsWith(`${outputDirectory}/`) || path.includes(`/${outputDirectory}/`)) continue;
    ((file.mode & 0o170000) === 0o120000 ? links : files).push([path, file]);
  }
  await mkdir(directory, { recursive: true });
  const made = new Set([directory]);
  const makeParent = (path: string): void => {
    const parent = dirname(path);
    if (made.has(parent)) return;
    mkdirSync(parent, { recursive: true });
    made.add(parent);
  };
  let small = 0;
  const entries = files.values();
  const copy = async (): Promise<void> => {
    for (const [path, file] of entries) {
      const target = join(directory, path);
      makeParent(target);
      const source = await blobs.localPath(file.digest);
      const mode = (file.mode & 0o111) === 0 ? 0o644 : 0o755;
      if (file.size <= smallBytesMax) {
        copyFileSync(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
        chmodSync(target, mode);
        if (++small % smallAtOnce === 0) await new Promise(setImmediate);
        continue;
      }
      await copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await chmod(target, mode);
    }
  };
  const leftOut: string[] = [];
  try {
    await Promise.all(Array.from({ length: copiesAtOnce }, copy));
    for (const [path, file] of links) {
      const target = file.size > linkBytesMax ? "" : (await blobs.read(file.digest)).toString("utf8");
      if (target === "" || target.startsWith("/") || linkTarget(path, target) === null) {
        leftOut.push(path);
        continue;
      }
      makeParent(join(directory, path));
      await symlink(target, join(directory, path));
    }
  } catch (error) {
    if (["EEXIST", "ENOTDIR", "EISDIR"].includes(errnoOf(error) ?? "")) {
      throw new MayflyError("invalid_path", "A path of the source is a file and a directory at once.", { cause: error });
    }
    if (errnoOf(error) === "ENOSPC") throw new MayflyError("disk_full", undefined, { cause: error });
    throw error;
  }
  return leftOut;
}
