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
/** Between two looks at the disk: the closer to a limit at the pace of the last look, the shorter. */
const lookMsMax = 500;
const lookMsMin = 20;
/** After so long a build is measured in any case. */
const measureEveryMs = 10_000;
/** Beside a complaint of a build, so little left on the disk is none. */
const noRoomBytes = 64 * 2 ** 20;

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
  /** The first look is the beginning; that it is not empty then counts soon. */
  let measured: { bytes: number; files: number; freeBytes: number; freeFiles: number; atMs: number } | undefined;
  let last = { freeBytes: 0, atMs: 0 };
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
    measured = { bytes, files, freeBytes, freeFiles, atMs: clock.now() };
    if (bytes > bytesMax) refuse("BUILD_OUT_OF_DISK", tookTooMuch(bytesMax));
    if (files > filesMax) refuse("BUILD_OUT_OF_DISK", `The build made more than ${filesMax} files.`);
  };
  /** @returns when to look again */
  const look = async (): Promise<number> => {
    const { bavail, bsize, ffree } = await statfs(directory);
    const free = bavail * bsize;
    const now = clock.now();
    if (free < config.diskFreeBytesMin) {
      refuse("disk_full", filledDisk);
      return lookMsMax;
    }
    measured ??= { bytes: 0, files: 0, freeBytes: free, freeFiles: ffree, atMs: now - measureEveryMs + lookMsMax };
    const room = Math.min(free - config.diskFreeBytesMin, bytesMax - measured.bytes - (measured.freeBytes - free));
    const bytesPerMs = last.atMs === 0 ? 0 : Math.max(0, last.freeBytes - free) / Math.max(1, now - last.atMs);
    last = { freeBytes: free, atMs: now };
    const mayBeOver = measured.freeBytes - free >= bytesMax - measured.bytes || measured.freeFiles - ffree >= filesMax - measured.files;
    // Measuring takes as long as there are files; the looks go on meanwhile.
    if (!isMeasuring && (mayBeOver || now - measured.atMs >= measureEveryMs)) {
      isMeasuring = true;
      void measureAll(free, ffree).finally(() => (isMeasuring = false));
    }
    // At twice the pace it is still halfway.
    return bytesPerMs === 0 ? lookMsMax / 4 : Math.min(lookMsMax, Math.max(lookMsMin, room / bytesPerMs / 4));
  };
  const schedule = (ms: number): void => {
    if (isOver) return;
    stopClock = clock.after(ms, () => void look().then(schedule, () => schedule(lookMsMax)));
  };
  schedule(0);
  return stop;
}

const tookTooMuch = (bytesMax: number): string => `The build took more than ${Math.round(bytesMax / 2 ** 20)} MB of disk.`;
const filledDisk = "The build filled the server's disk.";

/** What a program says that meets the end of what one file may have, or of the disk. */
const tooLarge = /\bEFBIG\b|\bSIGXFSZ\b|file too large|file size limit exceeded/i;
const noRoom = /\bENOSPC\b|no space left on device/i;

/**
 * Why a build failed when the disk was the reason: a limit that it met before a look at the disk found out.
 * @param lastWords the build's own; they decide about nothing but what its end is called
 * @returns null when the disk was not
 */
export async function explainByDisk(
  directory: string,
  lastWords: string,
  config: Pick<Config, "buildDiskBytesMax" | "diskFreeBytesMin">,
): Promise<MayflyError | null> {
  const { bavail, bsize } = await statfs(directory);
  const free = bavail * bsize;
  if (free < config.diskFreeBytesMin || (free < noRoomBytes && noRoom.test(lastWords))) return new MayflyError("disk_full", filledDisk);
  const bytesMax = config.buildDiskBytesMax;
  const most = Math.round(bytesMax / 2 ** 20);
  if (tooLarge.test(lastWords)) {
    return new MayflyError("BUILD_OUT_OF_DISK", `The build made a file larger than ${most} MB, all the disk that it may take.`);
  }
  return (await bytesOf(directory)) > bytesMax ? new MayflyError("BUILD_OUT_OF_DISK", tookTooMuch(bytesMax)) : null;
}
