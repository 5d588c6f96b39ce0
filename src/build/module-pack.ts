/**
 * Gives a Function's bundle its module pack (runtime/module-pack.js): the traced files are laid out as they will be
 * served, the Function is loaded there once to record and once, with the pack, to check. Loading runs the Function's top
 * level, without the project's environment, and no handler; a Function of little code is never run. Hides temporary
 * directories and processes. Invariant: whatever goes wrong, the bundle is as good without.
 */
import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { chmod, copyFile, lstat, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { packPath } from "../runtime/module-pack.js";
import type { FunctionFiles, MadeFile } from "./function-directory.ts";
import type { BuildContext } from "./step.ts";

/** Less code than this loads as fast without: its author's top level need not run during a build. */
const codeBytesMin = 128 * 1024;
/** For one load; what takes longer at a start has other troubles. */
const loadMsMax = 10_000;
const copiesAtOnce = 16;
const code = /\.c?js$/;
const recorder = resolve(import.meta.dirname, "../runtime/pack-recorder.js");

/** Files that are loaded besides, so many at most. */
const onDemandMax = 64;

/** From where a Function is loaded. */
export interface PackEntry {
  /** `nodejs24.x`. */
  readonly runtime: string;
  readonly handler: string;
  readonly awsHandler: string;
  /** Files of the bundle that the handler loads when it is asked for them, each of them harmless to load. */
  readonly onDemand?: readonly string[];
}

type Entry = MadeFile | { readonly from: string; readonly size: number } | { readonly link: string };

export class ModulePacker {
  readonly #context: BuildContext;
  readonly #entries = new Map<string, Promise<Entry | null>>();
  readonly #free: (() => void)[] = [];
  #room = availableParallelism();

  constructor(context: BuildContext) {
    this.#context = context;
  }

  /** The same files, with a pack where it helps. */
  async addPack(files: FunctionFiles, entry: PackEntry): Promise<FunctionFiles> {
    if (this.#room > 0) this.#room--;
    else await new Promise<void>((resolve) => this.#free.push(resolve));
    try {
      const pack = await this.#makePack(files, entry);
      return pack === null ? files : new Map([...files, [packPath, { data: pack, executable: false }]]);
    } catch {
      return files;
    } finally {
      const next = this.#free.shift();
      if (next === undefined) this.#room++;
      else next();
    }
  }

  /** Many Functions reach the same files. */
  #entryOf(path: string): Promise<Entry | null> {
    let entry = this.#entries.get(path);
    if (entry === undefined) this.#entries.set(path, (entry = entryOf(path, this.#context.repository)));
    return entry;
  }

  async #makePack(files: FunctionFiles, { runtime, handler, awsHandler, onDemand = [] }: PackEntry): Promise<Buffer | null> {
    // V8's code cache is good for the Node that made it, and that is the one that runs here.
    if (runtime !== `nodejs${process.versions.node.split(".", 1)[0]}.x`) return null;
    const { job } = this.#context;
    const entries = new Map<string, Entry>();
    let bytes = 0;
    let codeBytes = 0;
    for (const [path, file] of files) {
      const entry = typeof file === "string" ? await this.#entryOf(file) : file;
      if (entry === null || path === packPath) return null;
      entries.set(path, entry);
      const size = "data" in entry ? Buffer.byteLength(entry.data) : "size" in entry ? entry.size : 0;
      bytes += size;
      if (code.test(path)) codeBytes += size;
    }
    if (codeBytes < codeBytesMin || bytes > job.bundleBytesMax) return null;
    const directory = await mkdtemp(join(tmpdir(), "mayfly-pack-"));
    try {
      const root = join(directory, "task");
      await layOut(entries, root);
      const args = [root, handler, awsHandler, ...onDemand.slice(0, onDemandMax)];
      const recorded = await runRecorder(["record", ...args], directory);
      if (recorded === null) return null;
      const pack = await readFile(join(root, packPath)).catch(() => null);
      if (pack === null || bytes + pack.length > job.bundleBytesMax) return null;
      const checked = await runRecorder(["check", ...args], directory);
      return checked === recorded ? pack : null;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

/** null: it is nothing that a bundle is laid out from. */
async function entryOf(path: string, repository: string): Promise<Entry | null> {
  const found = await lstat(path);
  if (found.isFile()) return { from: path, size: found.size };
  if (!found.isSymbolicLink()) return null;
  const target = await readlink(path);
  if (!isAbsolute(target)) return { link: target };
  return target.startsWith(`${repository}/`) ? { link: relative(dirname(path), target) } : null;
}

/** Copies: the code that is loaded may write to its files, and they are the project's. */
async function layOut(entries: ReadonlyMap<string, Entry>, root: string): Promise<void> {
  await mkdir(root);
  const remaining = entries.entries();
  const work = async (): Promise<void> => {
    for (const [path, entry] of remaining) {
      const target = join(root, path);
      await mkdir(dirname(target), { recursive: true });
      if ("link" in entry) await symlink(entry.link, target);
      else if ("data" in entry) await writeFile(target, entry.data);
      else {
        await copyFile(entry.from, target, constants.COPYFILE_FICLONE);
        await chmod(target, 0o644);
      }
    }
  };
  await Promise.all(Array.from({ length: copiesAtOnce }, work));
}

/** @returns the exit code, or null when it took too long or was killed */
async function runRecorder(args: readonly string[], home: string): Promise<number | null> {
  const child = spawn(process.execPath, [recorder, ...args], {
    cwd: home,
    // Not the project's: code that opens a connection while it loads finds no address.
    env: {
      PATH: "/var/lang/bin:/usr/local/bin:/usr/bin:/bin",
      HOME: home,
      TMPDIR: home,
      LANG: "en_US.UTF-8",
      TZ: ":UTC",
      NODE_ENV: "production",
      VERCEL: "1",
    },
    stdio: "ignore",
    // A group of its own, so that what it starts ends with it.
    detached: true,
  });
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once("error", () => resolve(null));
  child.once("exit", resolve);
  const timer = setTimeout(() => resolve(null), loadMsMax);
  const exitCode = await promise;
  clearTimeout(timer);
  try {
    process.kill(-child.pid!, "SIGKILL");
  } catch {
    // All of it is gone.
  }
  return exitCode;
}
