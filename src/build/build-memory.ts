/**
 * Where little builds have their files: in memory, since a build of some Functions makes a thousand files of some hundred
 * bytes, each of which takes a disk ten times as long. Only for builds that run nothing but our own builder, so that
 * nothing has to be moved to a cache or into a place on disk. Hides where that is on this machine. Invariant: what a build
 * has there counts as its own memory, and is gone with its sandbox.
 */
import { mkdir, rmdir, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoOf } from "../errors.ts";
import type { SourceTree } from "../model.ts";
import { randomId } from "../names.ts";
import type { PlannedJob } from "./builder.ts";
import { removeTree } from "./scratch.ts";

/** `man statfs` */
const tmpfs = 0x01_02_19_94;
/** A build goes elsewhere when there is less room. */
const freeBytesMin = 512 * 2 ** 20;
/** Each Function may have a copy of all that was uploaded, and then still takes no more than this. */
const buildBytesMax = 32 * 2 ** 20;
const filesMax = 5000;

export class BuildMemory {
  /** What one build may take. */
  static readonly bytesMax = 256 * 2 ** 20;
  readonly #root: string;

  /** @param root a directory of this process, made when needed, on a file system in memory */
  constructor(root: string) {
    this.#root = root;
  }

  /** A directory for a sandbox; null: there is no memory to be had. */
  async make(): Promise<string | null> {
    try {
      await mkdir(this.#root, { recursive: true, mode: 0o700 });
      if (!(await hasRoom(this.#root))) return null;
      const directory = join(this.#root, randomId(12));
      await mkdir(directory, { mode: 0o700 });
      return directory;
    } catch (error) {
      // The system has none for us; builds go to the disk.
      if (errnoOf(error) !== undefined) return null;
      throw error;
    }
  }

  /** Whether a build has its files there. @param directory of {@link make} */
  async takes(directory: string, job: PlannedJob, tree: SourceTree): Promise<boolean> {
    if (job.runsCommands || job.installs.length > 0) return false;
    const files = Object.values(tree);
    const bytes = files.reduce((sum, { size }) => sum + size, 0);
    return files.length <= filesMax && bytes * (job.steps.length + 1) <= buildBytesMax && (await hasRoom(directory));
  }

  async close(): Promise<void> {
    await removeTree(this.#root);
    // The directory above is shared with other processes of the data directory; the last one takes it away.
    await rmdir(dirname(this.#root)).catch(() => {});
  }
}

async function hasRoom(directory: string): Promise<boolean> {
  const { type, bavail, bsize } = await statfs(directory);
  return type === tmpfs && bavail * bsize >= freeBytesMin;
}
