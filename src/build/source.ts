/**
 * The uploaded tree as plain files for a build: copies that belong to the build alone, so that nothing it does reaches a
 * blob. Links come last and are written only, so no file is ever written through one.
 */
import { constants } from "node:fs";
import { chmod, copyFile, mkdir, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { errnoOf, MayflyError } from "../errors.ts";
import type { FileRef, SourceTree } from "../model.ts";
import { outputDirectory } from "./builder.ts";
import { linkTarget } from "./output-files.ts";

const copiesAtOnce = 16;
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
  const makeParent = async (path: string): Promise<void> => {
    const parent = dirname(path);
    if (made.has(parent)) return;
    await mkdir(parent, { recursive: true });
    made.add(parent);
  };
  const entries = files.values();
  const copy = async (): Promise<void> => {
    for (const [path, file] of entries) {
      const target = join(directory, path);
      await makeParent(target);
      await copyFile(await blobs.localPath(file.digest), target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await chmod(target, (file.mode & 0o111) === 0 ? 0o644 : 0o755);
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
      await makeParent(join(directory, path));
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
