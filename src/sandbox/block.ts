/**
 * A block: a share of the machine's names, addresses and users that one driver instance owns, so that several Mayfly
 * processes never meet. Invariant: who holds the lock on `/run/mayfly/<n>.lock` owns block n and all that is named after
 * it. The kernel gives the lock back when its holder dies, however it dies, so an unlocked block is nobody's and what is
 * left of it may be swept.
 */
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, rmdirSync, rmSync, statSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { errnoOf, MayflyError } from "../errors.ts";
import { tryLock } from "./libc.ts";

const blocksMax = 32;
/** Sandboxes of one block at the same time. */
export const slotsMax = 512;

const runDirectory = "/run/mayfly";
/** First user id of block 0; above those that distributions, containers and 65534 use. */
export const userIdBase = 700_000;

export class Block {
  readonly number: number;
  /** Private to this block, on the host, below /run; no guest can write to it. */
  readonly directory: string;
  readonly #lock: number;

  private constructor(number: number, lock: number) {
    this.number = number;
    this.#lock = lock;
    this.directory = join(runDirectory, String(number));
  }

  /**
   * Takes the first block that nobody holds, after `sweep` has cleared away what a former owner left in it and in every
   * other unheld block.
   * @throws MayflyError sandbox_unavailable when all are held
   */
  static async claim(sweep: (block: Block) => Promise<void>): Promise<Block> {
    let claimed: Block | undefined;
    for (let number = 0; number < blocksMax; number++) {
      if (claimed !== undefined && !hasTraces(number)) continue;
      const lock = takeLock(number);
      if (lock === null) continue;
      const block = new Block(number, lock);
      try {
        await sweep(block);
        rmSync(block.directory, { recursive: true, force: true });
        if (claimed === undefined) {
          mkdirSync(block.directory, { recursive: true, mode: 0o700 });
          claimed = block;
          continue;
        }
      } catch (error) {
        block.release();
        claimed?.release();
        throw error;
      }
      block.release();
    }
    if (claimed === undefined) {
      throw new MayflyError("sandbox_unavailable", `All ${blocksMax} blocks of sandboxes on this machine are held by running processes.`);
    }
    return claimed;
  }

  userId(slot: number): number {
    return userIdBase + this.number * slotsMax + slot;
  }

  /** Whether a user is one of this block's: it is nobody else's on this machine. */
  owns(userId: number): boolean {
    return Math.floor((userId - userIdBase) / slotsMax) === this.number;
  }

  /** Gives the block back; all that is named after it must be gone. */
  release(): void {
    rmSync(this.directory, { recursive: true, force: true });
    // Unlinked while locked: whoever opened the file before sees that it is no longer the one at the path.
    unlinkSync(lockPath(this.number));
    closeSync(this.#lock);
    try {
      rmdirSync(runDirectory);
    } catch {
      // others are still in it
    }
  }
}

const lockPath = (number: number): string => join(runDirectory, `${number}.lock`);

/** A descriptor that holds the lock of a block, null when another holds it. */
function takeLock(number: number): number | null {
  for (;;) {
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
    let descriptor: number;
    try {
      descriptor = openSync(lockPath(number), "a", 0o600);
    } catch (error) {
      // The directory went with its last user between the two calls.
      if (errnoOf(error) === "ENOENT") continue;
      throw error;
    }
    if (!tryLock(descriptor)) {
      closeSync(descriptor);
      return null;
    }
    if (statSync(lockPath(number), { throwIfNoEntry: false })?.ino === fstatSync(descriptor).ino) {
      // For people who look; nothing reads it.
      writeSync(descriptor, `${process.pid}\n`);
      return descriptor;
    }
    closeSync(descriptor);
  }
}

function hasTraces(number: number): boolean {
  try {
    return readdirSync(runDirectory).some((name) => name === `${number}.lock` || name === String(number));
  } catch {
    return false;
  }
}
