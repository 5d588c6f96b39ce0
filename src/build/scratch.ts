/**
 * The directory on this machine that a build may write to: what it takes of the disk, whether it is what it was, and its
 * end. All in it was made by untrusted code, so nothing here follows a link.
 */
import { execFile } from "node:child_process";
import { lstat, rm, statfs } from "node:fs/promises";
import { promisify } from "node:util";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";

const measureMsMax = 60_000;
const lookMs = 500;
/** After so many looks at the disk a build is measured in any case. */
const looksMax = 20;

/** A build owns also the place of its source, and may have left a link to elsewhere there: nothing is to be sought behind that. */
export async function isRealDirectory(path: string): Promise<boolean> {
  return lstat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

/** As the disk counts; a file with several names once. What cannot be counted in a minute is without bound. */
export async function bytesOf(directory: string): Promise<number> {
  return measure(directory, "--block-size=1");
}

/** Files, directories and links. What cannot be counted in a minute is without bound. */
export async function filesOf(directory: string): Promise<number> {
  return measure(directory, "--inodes");
}

async function measure(directory: string, unit: string): Promise<number> {
  // A file that vanishes while it is counted makes `du` fail after it has counted the rest.
  const { stdout } = await promisify(execFile)("du", ["-s", unit, "--", directory], { timeout: measureMsMax }).catch(
    (error: { stdout?: string; killed?: boolean }) => ({ stdout: error.killed === true ? "Infinity" : (error.stdout ?? "") }),
  );
  return Number.parseFloat(stdout) || 0;
}

/** A command under which no file becomes larger than `bytesMax`, however little of it is on the disk. */
export function withFileLimit(bytesMax: number, argv: readonly string[]): [string, ...string[]] {
  // A block of ulimit has 512 bytes.
  return ["/bin/sh", "-c", 'ulimit -f "$1" && shift && exec "$@"', "sh", String(Math.ceil(bytesMax / 512)), ...argv];
}

/** Also when a build took the rights off its own directories, or nested them deeper than a path can say: `rm` walks. */
export async function removeTree(directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  } catch {
    const run = promisify(execFile);
    await run("chmod", ["-R", "u+rwX", "--", directory]).catch(() => {});
    await run("rm", ["-rf", "--", directory]);
  }
}

/**
 * A build may fill its share of the disk, and never the disk that everything else needs; nor may it use up the disk's
 * files. What the disk has left is looked at often; what the build itself takes is measured when it could have passed a
 * limit since, and now and then.
 * @param onOver called at most once, with BUILD_OUT_OF_DISK or disk_full
 * @returns ends the watch
 */
export function watchDisk(options: {
  readonly directory: string;
  readonly clock: Clock;
  readonly config: Pick<Config, "buildDiskBytesMax" | "buildFilesMax" | "diskFreeBytesMin">;
  readonly onOver: (error: MayflyError) => void;
}): () => void {
  const { directory, clock, config } = options;
  const { buildDiskBytesMax: bytesMax, buildFilesMax: filesMax } = config;
  let stopClock = (): void => {};
  let isOver = false;
  let isMeasuring = false;
  let measured = { bytes: 0, files: 0, freeBytes: Number.POSITIVE_INFINITY, freeFiles: Number.POSITIVE_INFINITY };
  let looks = looksMax;
  const stop = (): void => {
    isOver = true;
    stopClock();
  };
  const refuse = (code: "BUILD_OUT_OF_DISK" | "disk_full", sentence: string): void => {
    if (isOver) return;
    stop();
    options.onOver(new MayflyError(code, sentence));
  };
  const measureAll = async (freeBytes: number, freeFiles: number): Promise<void> => {
    const [bytes, files] = await Promise.all([bytesOf(directory), filesOf(directory)]);
    measured = { bytes, files, freeBytes, freeFiles };
    looks = 0;
    if (bytes > bytesMax) refuse("BUILD_OUT_OF_DISK", `The build took more than ${Math.round(bytesMax / 2 ** 20)} MB of disk.`);
    if (files > filesMax) refuse("BUILD_OUT_OF_DISK", `The build made more than ${filesMax} files.`);
  };
  const look = async (): Promise<void> => {
    const { bavail, bsize, ffree } = await statfs(directory);
    const free = bavail * bsize;
    if (free < config.diskFreeBytesMin) return refuse("disk_full", "The build filled the server's disk.");
    const mayBeOver = measured.freeBytes - free >= bytesMax - measured.bytes || measured.freeFiles - ffree >= filesMax - measured.files;
    // Measuring takes as long as there are files; the looks go on meanwhile.
    if (isMeasuring || !(mayBeOver || looks++ >= looksMax)) return;
    isMeasuring = true;
    void measureAll(free, ffree).finally(() => (isMeasuring = false));
  };
  const schedule = (): void => {
    if (isOver) return;
    stopClock = clock.after(
      lookMs,
      () =>
        void look()
          .catch(() => {})
          .finally(schedule),
    );
  };
  schedule();
  return stop;
}
