/**
 * One wait for the disk for many small files: the kernel's `syncfs`, which Node does not offer. Files that are written
 * within a few milliseconds of each other share a call; whoever asks while one is under way waits for the next, because
 * the one under way may have passed his file by.
 */
import { closeSync, openSync } from "node:fs";
import koffi from "koffi";

const gatherMs = 2;

/** Makes all that was written to the file system of `directory` before the call reach the disk; null: not here. */
export function openSyncfs(directory: string): (() => Promise<void>) | null {
  if (process.platform !== "linux") return null;
  const syncfs = koffi.load(null).func("int syncfs(int fd)");
  let waiting: Promise<void> | null = null;
  let last: Promise<unknown> = Promise.resolve();

  const sync = () =>
    new Promise<void>((resolve, reject) => {
      const fd = openSync(directory, "r");
      syncfs.async(fd, (error: unknown, result: number) => {
        closeSync(fd);
        if (error !== null && error !== undefined) reject(error instanceof Error ? error : new Error("syncfs cannot be called"));
        else if (result !== 0) reject(new Error(`syncfs of ${directory} failed: the disk does not take what was written.`));
        else resolve();
      });
    });

  return () => {
    if (waiting === null) {
      const mine = Promise.all([last, new Promise((gathered) => setTimeout(gathered, gatherMs))]).then(() => {
        waiting = null; // who comes from now on may be too late for this call
        return sync();
      });
      waiting = mine;
      last = mine.catch(() => {});
    }
    return waiting;
  };
}
