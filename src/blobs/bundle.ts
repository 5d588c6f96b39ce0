/**
 * A Function's bundle as it is kept: files, and directories that several bundles have, each of them a tree of its own. Who
 * wants to know a bundle's files asks here; functions/bundles.ts lays it out on disk.
 */
import type { Bundle, Digest, DirectoryRef, FileRef, FileTree } from "../model.ts";
import type { BlobStore } from "./blob-store.ts";

export const isDirectory = (entry: FileRef | DirectoryRef): entry is DirectoryRef => "treeDigest" in entry;

/** All files of a bundle by their path, in order. */
export async function readBundle(digest: Digest, blobs: Pick<BlobStore, "read">): Promise<FileTree> {
  const files: [string, FileRef][] = [];
  for (const [path, entry] of Object.entries(await readJson<Bundle>(digest, blobs))) {
    if (!isDirectory(entry)) files.push([path, entry]);
    else
      for (const [name, file] of Object.entries(await readJson<FileTree>(entry.treeDigest, blobs))) files.push([`${path}/${name}`, file]);
  }
  return Object.fromEntries(files.sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function readJson<Value>(digest: Digest, blobs: Pick<BlobStore, "read">): Promise<Value> {
  return JSON.parse((await blobs.read(digest)).toString("utf8")) as Value;
}
