/**
 * What a fetched builder wants to find again: the files of its `prepareCache()` are laid aside below `.vercel/`, whence the
 * build cache takes them, and are in their places before its next `build()`. What the upload brings is never replaced.
 * Invariant: a cache that cannot be kept or restored makes a build slower, and fails none.
 */
import { createHash } from "node:crypto";
import { link, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, posix, relative } from "node:path";
import { errnoOf, messageOf } from "../errors.ts";
import type { BuildStep } from "./builder.ts";
import type { BuildContext } from "./step.ts";

/** Below the project's root. */
export const builderCacheDirectory = ".vercel/builder-cache";

/** A file of `@vercel/build-utils`. */
type CachedFile =
  | { readonly type: "FileFsRef"; readonly mode: number; readonly fsPath: string }
  | { readonly type: "FileBlob"; readonly mode: number; readonly data: string | Uint8Array };

/** Puts back what the last build of this step has left. */
export async function restoreBuilderCache(step: BuildStep, context: BuildContext): Promise<void> {
  const held = directoryOf(step, context);
  const entries = await readdir(held, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const from = join(entry.parentPath, entry.name);
    const to = join(context.work, relative(held, from));
    try {
      await mkdir(dirname(to), { recursive: true });
      await link(from, to);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") console.warn(`Not restored from the builder's cache: ${messageOf(error)}`);
    }
  }
  await rm(held, { recursive: true, force: true });
}

/**
 * Asks the builder what to keep.
 * @param prepareCache of the builder, with its arguments; it gives files by path relative to the project's root
 */
export async function keepBuilderCache(step: BuildStep, context: BuildContext, prepareCache: () => Promise<unknown>): Promise<void> {
  const held = directoryOf(step, context);
  try {
    for (const [path, file] of Object.entries((await prepareCache()) as Readonly<Record<string, CachedFile>>)) {
      const to = join(held, posix.join("/", path));
      await mkdir(dirname(to), { recursive: true });
      if (file.type === "FileFsRef") await link(file.fsPath, to);
      else if (file.type === "FileBlob") await writeFile(to, file.data, { mode: file.mode & 0o777 });
    }
  } catch (error) {
    console.warn(`${step.use}: what it would keep for its next build is lost: ${messageOf(error)}`);
    await rm(held, { recursive: true, force: true });
  }
}

function directoryOf({ use, entrypoint }: BuildStep, { work }: BuildContext): string {
  const name = createHash("sha256").update(`${use}\0${entrypoint}`).digest("hex").slice(0, 32);
  return join(work, builderCacheDirectory, name);
}
