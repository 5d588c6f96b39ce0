/**
 * Gives Functions' bundles their module packs (runtime/module-pack.js): the traced files are laid out as they will be
 * served, the Function is loaded there once to record and once, with the packs, to check. What several Functions reach is
 * recorded with one of them, and is one file for all. Loading runs the Function's top level, without the project's
 * environment, and no handler; a Function of little code is never run. Hides temporary directories and processes.
 * Invariant: whatever goes wrong, the bundle is as good without.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { chmod, copyFile, lstat, mkdir, mkdtemp, readFile, readlink, rename, rm, statfs, symlink, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { messageOf } from "../errors.ts";
import { randomId } from "../names.ts";
import { packPaths } from "../runtime/module-pack.js";
import type { FunctionFiles, MadeFile } from "./function-directory.ts";
import { findShares, type Share } from "./module-share.ts";
import type { BuildContext } from "./step.ts";

/** Less code than this loads as fast without: its author's top level need not run during a build. */
const codeBytesMin = 128 * 1024;
/** For one load; what takes longer at a start has other troubles. */
const loadMsMax = 10_000;
/** So many Functions are tried, when those before did not load to their end. */
const attemptsMax = 3;
const copiesAtOnce = 16;
/** Where a sandbox has a file system in memory, what kind that is (`man statfs`), and how much of what it has left a bundle must fit in. */
const inMemory = "/tmp";
const tmpfs = 0x01_02_19_94;
const shareOfMemory = 4;
const code = /\.c?js$/;
/** Words of code that changes how modules are loaded: it must not get packs that were not tried with it. */
const changesLoading = /["'](?:node:)?module["']|_extensions|_resolveFilename|_compile/;
/** What V8 writes depends on its random numbers. (Another flag of its own, `--hash-seed`, would make a code cache for no other seed.) */
const sameBytes = ["--random-seed=1"];
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
  /** How files were left out of it: only Functions of which the same were left out share packs. */
  readonly group?: string;
}

type Entry = MadeFile | { readonly from: string; readonly size: number } | { readonly link: string };

/** A Function that waits for its packs. */
interface Candidate {
  readonly files: FunctionFiles;
  readonly entry: PackEntry;
  readonly done: (files: FunctionFiles) => void;
  readonly entries: Map<string, Entry>;
  bytes: number;
  shares: readonly PackShare[];
  /** A load of its own is worth its time: code that it shares with nobody. */
  needsOwn: boolean;
  own: string | null;
}

interface PackShare extends Share<Candidate> {
  /** Place of the pack; null: none yet. */
  pack: string | null;
  attempts: number;
  settled: boolean;
}

export class ModulePacker {
  readonly #context: BuildContext;
  readonly #entries = new Map<string, Promise<Entry | null>>();
  readonly #candidates: Candidate[] = [];
  #awaited: number;

  /** @param count of Functions: for each {@link addPacks} or {@link leave} is called once */
  constructor(context: BuildContext, count: number) {
    this.#context = context;
    this.#awaited = count;
  }

  /** The same files, with packs where they help, when all of the build's Functions are known. */
  addPacks(files: FunctionFiles, entry: PackEntry): Promise<FunctionFiles> {
    const { promise, resolve } = Promise.withResolvers<FunctionFiles>();
    this.#candidates.push({ files, entry, done: resolve, entries: new Map(), bytes: 0, shares: [], needsOwn: false, own: null });
    this.leave();
    return promise;
  }

  /** One more is not waited for. */
  leave(): void {
    if (--this.#awaited === 0) void this.#answerAll();
  }

  async #answerAll(): Promise<void> {
    try {
      await this.#packAll();
    } catch (error) {
      console.warn(`No module packs: ${messageOf(error)}`);
    }
    for (const { done, files } of this.#candidates) done(files);
  }

  async #packAll(): Promise<void> {
    const heavy: Candidate[] = [];
    for (const candidate of this.#candidates) if (await this.#isHeavy(candidate)) heavy.push(candidate);
    const shares = await this.#share(heavy);
    for (let pending = shares; pending.length > 0; pending = pending.filter((share) => !share.settled)) await this.#attempt(pending);
    await eachAtOnce(
      heavy.filter((candidate) => candidate.needsOwn && candidate.own === null),
      (candidate) => this.#record(candidate),
    );
    for (const candidate of heavy) await this.#finish(candidate);
  }

  /** Whether packs may help it, and fit. */
  async #isHeavy(candidate: Candidate): Promise<boolean> {
    const { files, entry, entries } = candidate;
    // V8's code cache is good for the Node that made it, and that is the one that runs here.
    if (entry.runtime !== `nodejs${process.versions.node.split(".", 1)[0]}.x`) return false;
    for (const [path, file] of files) {
      const entry = typeof file === "string" ? await this.#entryOf(file).catch(() => null) : file;
      if (entry === null || packPaths.includes(path)) return false;
      entries.set(path, entry);
      candidate.bytes += sizeOf(entry);
    }
    return codeBytesOf(entries, entries.keys()) >= codeBytesMin && candidate.bytes <= this.#context.job.bundleBytesMax;
  }

  /** Decides who shares what. */
  async #share(heavy: readonly Candidate[]): Promise<readonly PackShare[]> {
    const weigh = (path: string, { entries }: Candidate): number => (code.test(path) ? sizeOf(entries.get(path)!) : 0);
    const groups = Map.groupBy(heavy, ({ entry }) => entry.group ?? "");
    const shares = [...groups.values()].flatMap((members) =>
      findShares(members, weigh, codeBytesMin).map((share): PackShare => ({ ...share, pack: null, attempts: 0, settled: false })),
    );
    for (const candidate of heavy) {
      const { entries, entry } = candidate;
      const mine = shares.filter((share) => share.members.includes(candidate)).sort((a, b) => b.weight - a.weight);
      candidate.shares = mine.slice(0, packPaths.length - 1);
      const shared = new Set(candidate.shares.flatMap(({ files }) => files));
      const own = [...entries.keys()].filter((path) => !shared.has(path));
      candidate.needsOwn = codeBytesOf(entries, own) >= codeBytesMin || (entry.onDemand ?? []).length > 0;
      if (candidate.shares.length > 0 && (await changesHowModulesLoad(entries, own))) {
        candidate.shares = [];
        candidate.needsOwn = true;
      }
    }
    return shares;
  }

  /** Records each of the shares with the next of its members. */
  async #attempt(pending: readonly PackShare[]): Promise<void> {
    const turns = new Map<Candidate, PackShare[]>();
    for (const share of pending) {
      const members = share.members.filter(({ shares }) => shares.includes(share));
      const next = members[share.attempts++];
      share.settled = next === undefined || share.attempts >= Math.min(attemptsMax, members.length);
      if (next !== undefined) turns.set(next, [...(turns.get(next) ?? []), share]);
    }
    await eachAtOnce([...turns], async ([candidate, shares]) => {
      if (await this.#record(candidate)) for (const share of shares) share.settled = true;
    });
  }

  /** Makes packs of all that the Function loads. @returns whether it loaded to its end */
  async #record(candidate: Candidate): Promise<boolean> {
    const { entries, entry, shares } = candidate;
    const directory = await makeDirectory(entry.handler, [...entries.keys()], candidate.bytes);
    try {
      const root = join(directory, "task");
      await layOut(entries, root);
      const names = new Map(shares.map((share, index) => [share, `share${index}`]));
      const plan = shares.map((share) => ({
        name: names.get(share)!,
        files: share.files,
        reaches: shares
          .filter((other) => other !== share && share.members.every((member) => other.members.includes(member)))
          .map((other) => names.get(other)!),
      }));
      await writeFile(join(directory, "shares.json"), JSON.stringify(plan));
      const args = [root, entry.handler, entry.awsHandler, join(directory, "shares.json"), ...(entry.onDemand ?? []).slice(0, onDemandMax)];
      const recorded = await runRecorder(["record", ...args], directory);
      if (recorded === null) return false;
      const packs = new Map<PackShare | null, string>();
      for (const [share, name] of [[null, "own"] as const, ...names]) {
        const path = join(directory, `${name}.pack`);
        if ((await lstat(path).catch(() => null))?.isFile() === true) packs.set(share, path);
      }
      if (packs.size === 0) return false;
      await mkdir(dirname(join(root, packPaths[0]!)), { recursive: true });
      for (const [index, path] of [...packs.values()].entries()) await copyFile(path, join(root, packPaths[index]!));
      if ((await runRecorder(["check", ...args], directory)) !== recorded) return false;
      for (const [share, path] of packs) await this.#keep(candidate, share, path);
      return recorded === 0;
    } catch {
      return false;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  /** Among the project's files, where a Function's configuration can name it. The first one stays, unless it is smaller. */
  async #keep(candidate: Candidate, share: PackShare | null, path: string): Promise<void> {
    if (share === null && !candidate.needsOwn) return;
    const held = share === null ? candidate.own : share.pack;
    if (held !== null && (await lstat(held)).size >= (await lstat(path)).size) return;
    const place = join(this.#context.work, ".vercel/module-packs", `${randomId(16)}.pack`);
    await mkdir(dirname(place), { recursive: true });
    await rename(path, place).catch(() => copyFile(path, place));
    if (share === null) candidate.own = place;
    else share.pack = place;
  }

  async #finish({ files, bytes, own, shares, done }: Candidate): Promise<void> {
    const packs = [...(own === null ? [] : [own]), ...shares.flatMap(({ pack }) => pack ?? [])];
    let total = bytes;
    for (const pack of packs) total += (await lstat(pack)).size;
    if (total > this.#context.job.bundleBytesMax) return;
    done(new Map([...files, ...packs.map((pack, index) => [packPaths[index]!, pack] as const)]));
  }

  /** Many Functions reach the same files. */
  #entryOf(path: string): Promise<Entry | null> {
    let entry = this.#entries.get(path);
    if (entry === undefined) this.#entries.set(path, (entry = entryOf(path, this.#context.repository)));
    return entry;
  }
}

function sizeOf(entry: Entry): number {
  return "data" in entry ? Buffer.byteLength(entry.data) : "size" in entry ? entry.size : 0;
}

function codeBytesOf(entries: ReadonlyMap<string, Entry>, paths: Iterable<string>): number {
  let bytes = 0;
  for (const path of paths) if (code.test(path)) bytes += sizeOf(entries.get(path)!);
  return bytes;
}

async function changesHowModulesLoad(entries: ReadonlyMap<string, Entry>, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    const entry = entries.get(path)!;
    if (!code.test(path) || "link" in entry) continue;
    const text = "data" in entry ? Buffer.from(entry.data).toString("latin1") : await readFile(entry.from, "latin1");
    if (changesLoading.test(text)) return true;
  }
  return false;
}

/** As many as there are processors. */
async function eachAtOnce<Item>(items: readonly Item[], work: (item: Item) => Promise<unknown>): Promise<void> {
  const remaining = items.values();
  const run = async (): Promise<void> => {
    for (const item of remaining) await work(item);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, run));
}

/** The same for the same Function: its path decides on a few bytes of V8's code cache. Another when somebody has made that one. */
async function makeDirectory(handler: string, paths: readonly string[], bytes: number): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify([handler, ...paths.toSorted()]));
  const directory = join(await chooseTemporary(bytes), `mayfly-pack-${hash.digest("hex").slice(0, 16)}`);
  try {
    await mkdir(directory, { mode: 0o700 });
    return directory;
  } catch {
    return await mkdtemp(`${directory}-`);
  }
}

/** A directory in memory, if there is one with room: hundreds of files that live for a second are made there in a tenth of the time. */
async function chooseTemporary(bytes: number): Promise<string> {
  const { type, bavail, bsize } = await statfs(inMemory);
  return type === tmpfs && bytes * shareOfMemory < bavail * bsize ? inMemory : tmpdir();
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
  // It is checked as guests will run.
  const flags = args[0] === "record" ? sameBytes : [];
  const child = spawn(process.execPath, [...flags, recorder, ...args], {
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
