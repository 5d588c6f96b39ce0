/**
 * Control groups: limits, freezing, killing and accounting for one sandbox. Hides that a machine has version 1, version 2
 * or a hybrid: every duty has a seat, a directory of one version or the other, found once from the mount table. Freezing
 * and killing prefer version 2, which needs no controller for them.
 */
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";

/** All groups of Mayfly lie below this one, in each hierarchy. */
const base = "mayfly";
/** Freezing, killing and removing take milliseconds; after this time something is wrong. */
const waitMsMax = 10_000;
/** Whether all is frozen is looked at so often at least. */
const frozenLookMsMax = 16;
const cpuPeriodUs = 20_000;
/** The kernel takes no smaller quota. */
const cpuQuotaUsMin = 1000;

export interface CgroupLimits {
  readonly memoryBytes: number;
  /** CPUs' worth of time; null: as much as there is. */
  readonly cpus: number | null;
  /** Share when there is not enough for all, relative to others with equal `cpus`. */
  readonly weight: number;
  readonly processesMax: number;
}

/** A duty's place: the mount point of a hierarchy that can do it. */
interface Seat {
  readonly version: 1 | 2;
  readonly root: string;
}

export interface Hierarchies {
  readonly memory: Seat | null;
  readonly cpu: Seat | null;
  readonly pids: Seat | null;
  readonly accounting: Seat | null;
  readonly freezer: Seat;
  /** Mount point of version 2 beside version 1. crun before 1.9 refuses to run where that has controllers. */
  readonly hybrid: string | null;
  /** Mount points of version 1 that have no duty. Some container runtimes make groups there all the same. */
  readonly others: readonly string[];
}

/**
 * What this machine has.
 * @throws MayflyError sandbox_unavailable when nothing can freeze
 */
export function findHierarchies(mountInfo: string = readFileSync("/proc/self/mountinfo", "utf8")): Hierarchies {
  const v1 = new Map<string, string>();
  let v2: string | null = null;
  for (const line of mountInfo.split("\n")) {
    const [place = "", source = ""] = line.split(" - ");
    const path = place.split(" ")[4] ?? "";
    const [type, , options = ""] = source.split(" ");
    if (type === "cgroup2") v2 ??= path;
    if (type === "cgroup") for (const option of options.split(",")) if (!v1.has(option)) v1.set(option, path);
  }
  const controllers = v2 === null ? [] : readControllers(v2);
  const seat = (controller: string): Seat | null => {
    if (v2 !== null && controllers.includes(controller)) return { version: 2, root: v2 };
    const root = v1.get(controller);
    return root === undefined ? null : { version: 1, root };
  };
  const unified: Seat | null = v2 === null ? null : { version: 2, root: v2 };
  const freezer = unified ?? seat("freezer");
  if (freezer === null) throw new MayflyError("sandbox_unavailable", "No control group hierarchy is mounted that can freeze processes.");
  const duties = {
    memory: seat("memory"),
    cpu: seat("cpu"),
    pids: seat("pids"),
    accounting: unified ?? seat("cpuacct"),
    freezer,
  };
  const seats = Object.values(duties).map((each) => each?.root);
  return {
    ...duties,
    others: [...new Set(v1.values())].filter((path) => !seats.includes(path)),
    hybrid: v2 !== null && v1.size > 0 && controllers.length > 0 ? v2 : null,
  };
}

/**
 * The version 2 group that a service manager has delegated to this process's user (`Delegate=yes`), null when there is none.
 * Below it an ordinary user makes groups as root does elsewhere.
 */
export function findDelegated(
  mountInfo: string = readFileSync("/proc/self/mountinfo", "utf8"),
  own: string = readFileSync("/proc/self/cgroup", "utf8"),
): Hierarchies | null {
  const mount = mountInfo.split("\n").find((line) => line.includes(" - cgroup2 "));
  const [, , , mountRoot = "/", mountPoint = ""] = mount?.split(" ") ?? [];
  const path = /^0::(\/.*)$/m.exec(own)?.[1];
  if (mount === undefined || path === undefined) return null;
  // A process that was in it when it was opened before has moved itself aside.
  const below = path.replace(new RegExp(`/${base}-host$`), "").slice(mountRoot === "/" ? 0 : mountRoot.length);
  const root = join(mountPoint, below);
  try {
    for (const file of ["", "cgroup.procs", "cgroup.subtree_control"]) accessSync(join(root, file), constants.W_OK);
  } catch {
    return null;
  }
  const controllers = readControllers(root);
  const seat: Seat = { version: 2, root };
  const has = (controller: string): Seat | null => (controllers.includes(controller) ? seat : null);
  return { memory: has("memory"), cpu: has("cpu"), pids: has("pids"), accounting: seat, freezer: seat, hybrid: null, others: [] };
}

function readControllers(root: string): readonly string[] {
  try {
    return readFileSync(join(root, "cgroup.controllers"), "utf8").trim().split(" ").filter(Boolean);
  } catch {
    return [];
  }
}

const seatsOf = (found: Hierarchies): readonly Seat[] =>
  [found.memory, found.cpu, found.pids, found.accounting, found.freezer].filter((seat) => seat !== null);
const rootsOf = (found: Hierarchies): readonly string[] => [...new Set(seatsOf(found).map((seat) => seat.root))];

/** The group of one sandbox. It exists from `create` to `remove`. */
export class Cgroup {
  readonly #found: Hierarchies;
  readonly #name: string;
  readonly #directories: readonly string[];
  /** Those of hierarchies without a duty: what runs a container makes them all. */
  readonly #others: readonly string[];
  readonly #freezer: string;
  /** Counts freezes and thaws: a freeze waits only until the next of either. */
  #turn = 0;

  private constructor(found: Hierarchies, name: string) {
    this.#found = found;
    this.#name = name;
    this.#directories = rootsOf(found).map((root) => join(root, base, name));
    this.#others = found.others.map((root) => join(root, base, name));
    this.#freezer = join(found.freezer.root, base, name);
  }

  /** @param name `<block>/<slot>` */
  static async create(found: Hierarchies, name: string, limits: CgroupLimits): Promise<Cgroup> {
    const group = new Cgroup(found, name);
    const [block = ""] = name.split("/");
    for (const directory of group.#directories) {
      await makeDirectory(directory);
    }
    const controllers = { memory: found.memory, cpu: found.cpu, pids: found.pids };
    const wanted = Object.entries(controllers).filter(([, seat]) => seat?.version === 2);
    if (wanted.length > 0) {
      const text = wanted.map(([controller]) => `+${controller}`).join(" ");
      const root = found.freezer.root;
      for (const directory of [root, join(root, base), join(root, base, block)]) await delegate(directory, text);
    }
    await weigh(found, block);
    await group.setLimits(limits);
    return group;
  }

  /** Moves a process in; what it starts from then on is in as well. */
  async add(pid: number): Promise<void> {
    await Promise.all(this.#directories.map((directory) => writeFile(join(directory, "cgroup.procs"), String(pid))));
  }

  async setLimits(limits: CgroupLimits): Promise<void> {
    const { memory, cpu, pids } = this.#found;
    const bytes = String(limits.memoryBytes);
    if (memory?.version === 1) {
      // Memory and swap together must never be less than memory, so the order depends on the direction.
      const parts = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
      const hasSwapLimit = existsSync(this.#file(memory, "memory.memsw.limit_in_bytes"));
      const present = hasSwapLimit ? Number(await readFile(this.#file(memory, "memory.limit_in_bytes"), "utf8")) : 0;
      if (!hasSwapLimit) parts.pop();
      for (const part of limits.memoryBytes > present ? parts.toReversed() : parts) await writeFile(this.#file(memory, part), bytes);
    } else if (memory?.version === 2) {
      await writeFile(this.#file(memory, "memory.max"), bytes);
      await writeFile(this.#file(memory, "memory.oom.group"), "1");
      await writeFile(this.#file(memory, "memory.swap.max"), "0").catch(ignoreMissing);
    }
    const share = (limits.cpus ?? 1) * limits.weight;
    const quotaUs = limits.cpus === null ? null : Math.max(cpuQuotaUsMin, Math.round(cpuPeriodUs * limits.cpus));
    if (cpu?.version === 1) {
      await writeFile(this.#file(cpu, "cpu.cfs_period_us"), String(cpuPeriodUs));
      await writeFile(this.#file(cpu, "cpu.cfs_quota_us"), String(quotaUs ?? -1));
      await writeFile(this.#file(cpu, "cpu.shares"), String(Math.max(2, Math.round(1024 * share))));
    } else if (cpu?.version === 2) {
      await writeFile(this.#file(cpu, "cpu.max"), `${quotaUs ?? "max"} ${cpuPeriodUs}`);
      await writeFile(this.#file(cpu, "cpu.weight"), String(Math.min(10_000, Math.max(1, Math.round(100 * share)))));
    }
    if (pids !== null) await writeFile(this.#file(pids, "pids.max"), String(limits.processesMax));
  }

  /**
   * Resolves when every process has stopped. Synchronous as far as it goes: it takes a quarter of a millisecond, less
   * than a trip through the thread pool.
   */
  async freeze(): Promise<void> {
    const turn = ++this.#turn;
    const deadline = performance.now() + waitMsMax;
    const isV2 = this.#found.freezer.version === 2;
    writeFileSync(join(this.#freezer, isV2 ? "cgroup.freeze" : "freezer.state"), isV2 ? "1" : "FROZEN");
    // On a busy machine it takes its time: each process has to run once more.
    for (let pauseMs = 0; this.#turn === turn; pauseMs = Math.min(frozenLookMsMax, pauseMs * 2 || 1)) {
      const state = readFileSync(join(this.#freezer, isV2 ? "cgroup.events" : "freezer.state"), "utf8");
      if (isV2 ? state.includes("frozen 1") : state.startsWith("FROZEN")) return;
      if (performance.now() > deadline) throw new MayflyError("INTERNAL_ERROR", `Sandbox ${this.#name} could not be frozen.`);
      await (pauseMs === 0 ? new Promise(setImmediate) : sleep(pauseMs));
    }
  }

  /** At once, also while it is being frozen; that then resolves. */
  thaw(): void {
    this.#turn++;
    const isV2 = this.#found.freezer.version === 2;
    writeFileSync(join(this.#freezer, isV2 ? "cgroup.freeze" : "freezer.state"), isV2 ? "0" : "THAWED");
  }

  /**
   * Kills every process, frozen or not; resolves when none is left. In version 1 a process is moved into one hierarchy after
   * the other: who did that may have been killed in between, and left it in some of them only.
   */
  async kill(): Promise<void> {
    const deadline = performance.now() + waitMsMax;
    for (;;) {
      const files = [...this.#directories, ...this.#others].map((directory) => join(directory, "cgroup.procs"));
      const lists = await Promise.all(files.map((file) => readFile(file, "utf8").catch(emptyWhenMissing)));
      const pids = new Set(lists.flatMap((list) => list.split("\n").filter(Boolean)));
      if (pids.size === 0) return;
      if (performance.now() > deadline) throw new MayflyError("INTERNAL_ERROR", `Sandbox ${this.#name} could not be killed.`);
      for (const pid of pids) signalKill(Number(pid));
      const killFile = join(this.#freezer, "cgroup.kill");
      if (existsSync(killFile)) await writeFile(killFile, "1").catch(ignoreMissing);
      // Version 1 keeps the dead frozen.
      else if (existsSync(this.#freezer)) this.thaw();
      await sleep(1);
    }
  }

  /** How many processes the kernel has killed for want of memory. */
  async outOfMemoryKills(): Promise<number> {
    const { memory } = this.#found;
    if (memory === null) return 0;
    const text = await readFile(this.#file(memory, memory.version === 1 ? "memory.oom_control" : "memory.events"), "utf8").catch(
      emptyWhenMissing,
    );
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  }

  /** @returns milliseconds of CPU time; bytes of memory without the files that could be dropped */
  async usage(): Promise<{ cpuMs: number; memoryBytes: number }> {
    const { accounting, memory } = this.#found;
    let cpuMs = 0;
    if (accounting?.version === 1) cpuMs = Number(await readFile(this.#file(accounting, "cpuacct.usage"), "utf8")) / 1e6;
    if (accounting?.version === 2) cpuMs = field(await readFile(this.#file(accounting, "cpu.stat"), "utf8"), "usage_usec") / 1000;
    if (memory === null) return { cpuMs, memoryBytes: 0 };
    const used = Number(await readFile(this.#file(memory, memory.version === 1 ? "memory.usage_in_bytes" : "memory.current"), "utf8"));
    const stat = await readFile(this.#file(memory, "memory.stat"), "utf8");
    return { cpuMs, memoryBytes: Math.max(0, used - field(stat, memory.version === 1 ? "total_inactive_file" : "inactive_file")) };
  }

  /** Removes the group, which must be empty. */
  async remove(): Promise<void> {
    await Promise.all([...this.#directories, ...this.#others].map(removeDirectory));
  }

  /** The group of a sandbox, from the root of any hierarchy. */
  static pathOf(name: string): string {
    return `/${base}/${name}`;
  }

  #file(seat: Seat, name: string): string {
    return join(seat.root, base, this.#name, name);
  }

  /** Kills and removes every group of blocks that are named for processes that are gone. */
  static async sweepDead(found: Hierarchies): Promise<void> {
    for (const root of rootsOf(found)) {
      for (const name of await readdir(join(root, base)).catch(() => [])) {
        const pid = /^[a-z]+-(\d+)-/.exec(name)?.[1];
        if (pid !== undefined && !isAlive(Number(pid))) await Cgroup.sweep(found, name);
      }
    }
  }

  /** Kills and removes every group of a block, and the block's own. */
  static async sweep(found: Hierarchies, block: number | string): Promise<void> {
    const names = new Set<string>();
    for (const root of [...rootsOf(found), ...found.others]) {
      const entries = await readdir(join(root, base, String(block)), { withFileTypes: true }).catch(() => []);
      for (const entry of entries) if (entry.isDirectory()) names.add(entry.name);
    }
    for (const name of names) {
      const group = new Cgroup(found, `${block}/${name}`);
      await group.kill();
      await group.remove();
    }
    for (const root of [...rootsOf(found), ...found.others]) {
      await removeDirectory(join(root, base, String(block)));
      // Others may be in it: then it stays.
      await rmdir(join(root, base)).catch(() => {});
    }
  }
}

/** With its parents. Another process may remove a parent that was empty for a moment: then once more. */
async function makeDirectory(directory: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await mkdir(directory, { recursive: true });
      return;
    } catch (error) {
      if (errnoOf(error) !== "ENOENT" || attempt === 10) throw error;
    }
  }
}

const weighed = new Set<string>();

/**
 * All sandboxes together weigh like one process on each processor. By the kernel's default they would weigh like a single
 * one, and on a busy machine a Function would wait for its turn many times as long as the request's way to it takes.
 */
async function weigh({ cpu }: Hierarchies, block: string): Promise<void> {
  if (cpu === null || weighed.has(join(cpu.root, block))) return;
  const [file, unit, max] = cpu.version === 1 ? ["cpu.shares", 1024, 262_144] : ["cpu.weight", 100, 10_000];
  for (const directory of [join(cpu.root, base), join(cpu.root, base, block)]) {
    await writeFile(join(directory, file), String(Math.min(max, unit * availableParallelism())));
  }
  weighed.add(join(cpu.root, block));
}

/** Opens controllers to the children of a version 2 group. */
async function delegate(directory: string, controllers: string): Promise<void> {
  const file = join(directory, "cgroup.subtree_control");
  try {
    await writeFile(file, controllers);
  } catch (error) {
    // In a container the topmost group holds the container's processes, and a group with processes cannot give
    // controllers to children: they move into a group of their own.
    if (errnoOf(error) !== "EBUSY") throw error;
    const aside = join(directory, `${base}-host`);
    await mkdir(aside, { recursive: true });
    for (const pid of (await readFile(join(directory, "cgroup.procs"), "utf8")).split("\n").filter(Boolean)) {
      await writeFile(join(aside, "cgroup.procs"), pid).catch((moved: unknown) => {
        if (errnoOf(moved) !== "ESRCH") throw moved;
      });
    }
    await writeFile(file, controllers);
  }
}

/** Busy for a moment after its last process has died. */
async function removeDirectory(directory: string): Promise<void> {
  const deadline = performance.now() + waitMsMax;
  for (;;) {
    try {
      await rmdir(directory);
      return;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      if (performance.now() > deadline) throw new Error(`Cannot remove ${directory}: ${messageOf(error)}`, { cause: error });
    }
    await sleep(2);
  }
}

function signalKill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone meanwhile
  }
}

const field = (text: string, name: string): number => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? 0);

function ignoreMissing(error: unknown): void {
  if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ENODEV") throw error;
}

function emptyWhenMissing(error: unknown): string {
  ignoreMissing(error);
  return "";
}
