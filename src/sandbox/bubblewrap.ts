/**
 * Driver for ordinary users: every guest is a bubblewrap (bwrap) container, made with an unprivileged user namespace of its
 * own. It has namespaces of every kind, a read-only root, no capabilities and a seccomp filter; it has limits of memory and
 * CPU only where a version 2 control group is delegated to the platform (systemd's `Delegate=yes`), and a way out of its
 * loopback only where pasta works. Invariant: when its `ended` settles, no process of a guest is left; the kernel sees to it when the
 * platform dies.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, existsSync, fchownSync, readFileSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { release } from "node:os";
import { join, resolve } from "node:path";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError, messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import { Attacher, startProcess } from "./attach.ts";
import { Container, readStat, signal, signalMsMax } from "./bubblewrap-container.ts";
import type { Hierarchies } from "./cgroup.ts";
import { Cgroup, findDelegated } from "./cgroup.ts";
import { Channels } from "./channels.ts";
import { findProgram } from "./command.ts";
import { keepDescriptors, openPipe } from "./libc.ts";
import { cgroupLimits, memoryFilesMax, openFilesWithin, shmBytes } from "./limits.ts";
import { checkWorkingDirectory, giveWritableMounts, makeMountPoints } from "./mounts.ts";
import { whyNot } from "./probe.ts";
import { openRootfs } from "./rootfs.ts";
import type {
  InnerDirectory,
  Sandbox,
  SandboxCapabilities,
  SandboxDriver,
  SandboxDriverOptions,
  SandboxEnd,
  SandboxLimits,
  SandboxSpec,
  SandboxUsage,
} from "./sandbox.ts";
import { seccompProgram } from "./seccomp.ts";
import { killStrays } from "./strays.ts";
import type { Disconnect, Outside } from "./user-network.ts";
import { UserNetwork } from "./user-network.ts";

const createMsMax = 20_000;
/** A guest that closed its control channel may take so long to exit by itself. */
const goodbyeMs = 500;
/** Where in bwrap's arguments the sandbox's name stands. */
const markPlace = 8;
/** What guests see of their user; outside it is the platform's own. */
const guestUser = 1000;

export interface BubblewrapOptions extends SandboxDriverOptions {
  /**
   * Who guests, and what makes them, run as, instead of the platform's own user; for a platform that is root. This user
   * must be able to read what is mounted, and the data directory.
   */
  readonly user?: { readonly uid: number; readonly gid: number };
}

/**
 * Opens the driver: makes the root file system, starts the process that attaches, and sweeps what Mayfly processes that
 * are gone have left below the data directory.
 *
 * Where pasta does not work, guests with network `internet` have nothing but their loopback: an ordinary user has no other
 * way out for them that would keep them from the host. The log says so when the first of them is made.
 * @throws MayflyError sandbox_unavailable with the reason
 */
export async function openBubblewrapSandboxes(options: BubblewrapOptions): Promise<SandboxDriver> {
  const programs = await findPrograms(options);
  const dataDirectory = resolve(options.dataDirectory);
  const rootfs = await openRootfs({ dataDirectory, nodeBinary: resolve(options.nodeBinary) });
  const parent = join(dataDirectory, "sandboxes");
  await mkdir(parent, { recursive: true });
  for (const name of await readdir(parent)) {
    const pid = /^bubblewrap-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    await killMarked(name);
    await rm(join(parent, name), { recursive: true, force: true });
  }
  const name = `bubblewrap-${process.pid}-${randomBytes(4).toString("hex")}`;
  const directory = join(parent, name);
  await mkdir(directory, { mode: 0o755 });
  await writeFile(join(directory, "passwd"), `root:x:0:0:root:/root:/bin/sh\nsandbox:x:${guestUser}:${guestUser}:sandbox:/tmp:/bin/sh\n`);
  await writeFile(join(directory, "group"), `root:x:0:\nsandbox:x:${guestUser}:\n`);
  // A program that another user runs is not this platform's to limit.
  const found = options.user === undefined ? findDelegated() : null;
  if (found !== null) await Cgroup.sweepDead(found);
  const log = options.log ?? (() => {});
  const network = await UserNetwork.open({ allow: options.networkAllow, log, ...(options.user !== undefined && { user: options.user }) });
  await writeFile(join(directory, "resolv.conf"), typeof network === "string" ? "" : network.resolvConf);
  keepDescriptors();
  return new BubblewrapSandboxes({ options, programs, rootfs, directory, name, found, network, log });
}

/** Null when the driver really works on this machine, which one guest is made and destroyed to see; else why not. */
export async function whyNoBubblewrap(options: BubblewrapOptions): Promise<string | null> {
  return whyNot(() => openBubblewrapSandboxes(options));
}

interface Programs {
  readonly bwrap: string;
  readonly nsenter: string;
}

/**
 * Kills what bwrap has left by its mark: until its first process starts the guest's program, it does not go down with bwrap,
 * which may be killed in that moment.
 */
function killMarked(mark: string): Promise<void> {
  return killStrays(({ args }) => args[0]?.endsWith("/bwrap") === true && args.slice(0, markPlace + 1).some((arg) => arg.startsWith(mark)));
}

async function findPrograms(options: BubblewrapOptions): Promise<Programs> {
  const refuse = (sentence: string): never => {
    throw new MayflyError("sandbox_unavailable", sentence);
  };
  if (process.platform !== "linux") refuse("Bubblewrap sandboxes need Linux.");
  // Behind a root without capabilities there still are root's files.
  if ((options.user?.uid ?? process.getuid?.()) === 0) refuse("Bubblewrap sandboxes are for ordinary users, not for root.");
  if (!existsSync(`/proc/self/task/${process.pid}/children`)) refuse("This kernel does not list a process's children in /proc.");
  const find = async (program: string): Promise<string> =>
    (await findProgram(program)) ?? refuse(`The program ${program} is not installed.`);
  await find("unshare");
  return { bwrap: await find("bwrap"), nsenter: await find("nsenter") };
}

/** From 5.14 on RLIMIT_NPROC counts a user's processes in its user namespace, and each guest has one of its own. */
function countsProcessesByNamespace(): boolean {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  return major > 5 || (major === 5 && minor >= 14);
}

interface Parts {
  readonly options: BubblewrapOptions;
  readonly programs: Programs;
  readonly rootfs: string;
  readonly directory: string;
  /** Unique on this machine. */
  readonly name: string;
  readonly found: Hierarchies | null;
  /** Or why there is none. */
  readonly network: UserNetwork | string;
  readonly log: (line: string) => void;
}

class BubblewrapSandboxes implements SandboxDriver {
  readonly name = "bubblewrap";
  readonly can: SandboxCapabilities;
  readonly #parts: Parts;
  readonly #attacher: Attacher;
  readonly #open = new Set<BubblewrapSandbox>();
  readonly #creating = new Set<Promise<Sandbox>>();
  #closed: Promise<void> | undefined;
  #network: UserNetwork | null;
  #hasConnected = false;
  #saidNoNetwork = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#attacher = new Attacher(startProcess(process.execPath, parts.options.user ?? {}));
    this.#attacher.warm();
    const { found, network } = parts;
    this.#network = typeof network === "string" ? null : network;
    this.can = {
      fileIsolation: true,
      processIsolation: true,
      networkIsolation: true,
      seccomp: true,
      memoryLimit: (found?.memory ?? null) === null ? "none" : "tree",
      cpuLimit: (found?.cpu ?? null) !== null,
      processLimit: (found?.pids ?? null) !== null || countsProcessesByNamespace(),
      tmpLimit: true,
      freeze: found === null ? "process" : "tree",
    };
  }

  async create(spec: SandboxSpec): Promise<Sandbox> {
    if (this.#closed !== undefined) throw new MayflyError("sandbox_unavailable", "The sandbox driver is closed.");
    if (spec.network === "internet" && typeof this.#parts.network === "string") this.#sayNoNetwork(this.#parts.network);
    const creating = this.#create(spec);
    this.#creating.add(creating);
    try {
      return await creating;
    } catch (error) {
      throw new MayflyError("sandbox_unavailable", `Cannot make a sandbox: ${messageOf(error)}`, { cause: error });
    } finally {
      this.#creating.delete(creating);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#creating);
    const results = await Promise.allSettled([...this.#open].map((sandbox) => sandbox.destroy()));
    await this.#attacher.close();
    const { found, name, directory } = this.#parts;
    if (found !== null) await Cgroup.sweep(found, name);
    await rm(directory, { recursive: true, force: true });
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async #create(spec: SandboxSpec): Promise<Sandbox> {
    const { options, rootfs, found, name, log } = this.#parts;
    const serial = randomBytes(4).toString("hex");
    const id = `${spec.purpose}-${name}-${serial}`;
    await checkWorkingDirectory(spec, rootfs);
    await makeMountPoints(spec.mounts, rootfs);
    if (options.user !== undefined) await giveWritableMounts(spec, options.user.uid);
    const cgroup = found === null ? null : await Cgroup.create(found, `${name}/${serial}`, cgroupLimits(spec, spec.limits));
    let container: Container | undefined;
    let disconnect: Disconnect = () => {};
    try {
      container = await this.#start(spec, `${name}-${serial}`);
      const { pid } = container;
      if (cgroup !== null) await cgroup.add(pid);
      await this.#attacher.order("hold", { guest: id, pid });
      await this.#attacher.order("limit", {
        guest: id,
        pid,
        filesMax: { "/tmp": memoryFilesMax(spec.tmpBytes), "/dev/shm": memoryFilesMax(shmBytes) },
        openFilesMax: openFilesWithin(spec.openFilesMax),
        processesMax: spec.processesMax,
      });
      disconnect = await this.#connect(spec, pid);
      const sandbox = new BubblewrapSandbox({
        id,
        spec,
        container,
        cgroup,
        give: async () => {
          if (options.user !== undefined) await giveWritableMounts(spec, options.user.uid);
        },
        attacher: this.#attacher,
        log,
        undo: async () => {
          this.#open.delete(sandbox);
          disconnect();
          await this.#attacher.order("release", { guest: id }).catch(() => {});
          await cgroup?.remove();
        },
      });
      this.#open.add(sandbox);
      container.go();
      return sandbox;
    } catch (error) {
      disconnect();
      container?.kill();
      container?.channels.closeNow();
      await container?.gone();
      await this.#attacher.order("release", { guest: id }).catch(() => {});
      await cgroup?.kill();
      await cgroup?.remove();
      throw error;
    }
  }

  /** Gives a guest its way out, where there is one. */
  async #connect(spec: SandboxSpec, pid: number): Promise<Disconnect> {
    if (spec.network === "none" || this.#network === null) return () => {};
    try {
      const disconnect = await this.#network.connect(pid, await this.#outside());
      this.#hasConnected = true;
      return disconnect;
    } catch (error) {
      // That it fails for the first one is how one finds out that it does not work here.
      if (this.#hasConnected) throw error;
      this.#network = null;
      this.#sayNoNetwork(messageOf(error));
      return () => {};
    }
  }

  #sayNoNetwork(why: string): void {
    if (this.#saidNoNetwork) return;
    this.#saidNoNetwork = true;
    this.#parts.log(`bubblewrap sandboxes have no network: ${why}`);
  }

  /** How nsenter finds the namespaces that those of all guests descend from. */
  async #outside(): Promise<Outside> {
    const pid = await this.#attacher.process();
    return ["--preserve-credentials", `--user=/proc/${pid}/ns/user`, `--mount=/proc/${pid}/ns/mnt`];
  }

  /** Makes the container; its first process waits for `go`. */
  async #start(spec: SandboxSpec, mark: string): Promise<Container> {
    const { programs, options } = this.#parts;
    const outside = await this.#outside();
    const [stdout, stderr] = [openPipe(), openPipe()];
    // From here on the sockets own the ends that are read.
    const [out, err] = [stdout, stderr].map(({ read }) => new Socket({ fd: read, readable: true, writable: false }));
    // So that the guest may open them again by name.
    if (options.user !== undefined) for (const { write } of [stdout, stderr]) fchownSync(write, options.user.uid, options.user.gid);
    // A guest may read its first process's environment: that is bwrap's own. Arguments are everybody's to read.
    // The mark unsets nothing: it is there to be seen.
    const command = [programs.bwrap, "--args", "5", "--", "/usr/bin/env", "-u", "PWD", "-u", mark, "--", ...spec.argv];
    const child = spawn(programs.nsenter, [...outside, "--", ...command], {
      ...options.user,
      env: {},
      detached: true,
      stdio: ["ignore", stdout.write, stderr.write, "pipe", "pipe", "pipe", "pipe", "pipe", "pipe"],
    });
    closeSync(stdout.write);
    closeSync(stderr.write);
    const channels = new Channels([out, err, ...child.stdio.slice(3)]);
    const [args, filter, info, block] = (child.stdio as readonly unknown[]).slice(5) as [Duplex, Duplex, Duplex, Duplex];
    for (const stream of [args, filter, info, block]) stream.on("error", () => {});
    const close = (): void => {
      for (const stream of [args, filter, info, block]) stream.destroy();
    };
    const exited = new Promise<string>((done) => {
      child.once("error", (error) => done(error.message));
      child.once("exit", (code, signal) => done(`${signal ?? code}`));
    });
    try {
      args.end(this.#arguments(spec));
      filter.end(seccompProgram());
      const heard = await Promise.race([childPid(info), exited.then(() => null), sleep(createMsMax, null, { ref: false })]);
      if (heard === null || !(await isSetUp(heard, exited))) {
        child.kill("SIGKILL");
        const said = await Promise.race([text(channels.stderr), sleep(goodbyeMs, "")]);
        throw new Error(`bwrap failed (${await Promise.race([exited, sleep(goodbyeMs, "no answer")])}): ${said.slice(0, 500).trim()}`);
      }
      return new Container(child, heard, channels, () => {
        block.write("x");
        close();
      });
    } catch (error) {
      child.kill("SIGKILL");
      await Promise.race([exited, sleep(signalMsMax, undefined, { ref: false })]);
      await killMarked(mark);
      channels.closeNow();
      close();
      throw error;
    }
  }

  /** For `--args`: each ends with a zero byte. */
  #arguments(spec: SandboxSpec): string {
    const { rootfs, directory } = this.#parts;
    const tmpfs = (target: string, bytes: number): string[] => ["--perms", "1777", "--size", String(bytes), "--tmpfs", target];
    const list = [
      ..."--unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup".split(" "),
      ...`--uid ${guestUser} --gid ${guestUser} --cap-drop ALL --hostname sandbox`.split(" "),
      ..."--die-with-parent --new-session --seccomp 6 --info-fd 7 --block-fd 8".split(" "),
      ...["--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", ...tmpfs("/dev/shm", shmBytes), "--remount-ro", "/dev"],
      ...tmpfs("/tmp", spec.tmpBytes),
      ...["passwd", "group", "resolv.conf"].flatMap((name) => ["--ro-bind", join(directory, name), `/etc/${name}`]),
      ...spec.mounts.flatMap(({ source, target, writable }) => [writable ? "--bind" : "--ro-bind", resolve(source), target]),
      ...Object.entries(spec.env).flatMap(([key, value]) => ["--setenv", key, value]),
      ...["--chdir", spec.cwd],
    ];
    // It would be an argument of bwrap's then.
    if (list.some((each) => each.includes("\0"))) throw new Error("A zero byte cannot be part of the environment or a path.");
    return list.map((each) => `${each}\0`).join("");
  }
}

/** What bwrap says once its child, the guest's first process, lives. It has more to say, and nobody to say it to is its end. */
function childPid(info: Duplex): Promise<number> {
  return new Promise((done) => {
    let said = "";
    info.on("data", (bytes: Buffer) => {
      if (said.length < 4096) said += bytes.toString();
      const pid = /"child-pid": (\d+)[,\s]/.exec(said)?.[1];
      if (pid !== undefined) done(Number(pid));
    });
  });
}

/**
 * Resolves when bwrap's child waits for its start, or, with false, when it has failed. It needs its capabilities until all
 * is mounted, and gives them up then; there is nothing else by which one could tell.
 */
async function isSetUp(pid: number, exited: Promise<unknown>): Promise<boolean> {
  const deadline = performance.now() + createMsMax;
  const over = exited.then(() => true as const);
  for (let isOver = false; !isOver;) {
    let status = "";
    try {
      status = readFileSync(`/proc/${pid}/status`, "latin1");
    } catch {
      // bwrap has failed and is about to say so
    }
    if (/^CapEff:\t0+$/m.test(status) && !/^State:\t[ZX]/m.test(status)) return true;
    if (performance.now() > deadline) throw new Error("bwrap does not get ready.");
    isOver = await Promise.race([over, sleep(1, false)]);
  }
  return false;
}

interface BubblewrapSandboxParts {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly container: Container;
  readonly cgroup: Cgroup | null;
  readonly give: () => Promise<void>;
  readonly attacher: Attacher;
  readonly log: (line: string) => void;
  readonly undo: () => Promise<void>;
}

/**
 * ```
 * running ⇄ frozen
 *    └───────┴──▶ ended     bwrap has reported the end, and no process is left
 * ```
 */
class BubblewrapSandbox implements Sandbox {
  readonly id: string;
  readonly control: Channels["control"];
  readonly requests: Channels["requests"];
  readonly stdout: Channels["stdout"];
  readonly stderr: Channels["stderr"];
  readonly ended: Promise<SandboxEnd>;
  readonly #parts: BubblewrapSandboxParts;
  #state: "running" | "frozen" | "ended" = "running";
  #asked = false;
  #destroyed: Promise<void> | undefined;
  #usage: SandboxUsage = { cpuMs: 0, memoryBytes: 0 };

  constructor(parts: BubblewrapSandboxParts) {
    this.#parts = parts;
    this.id = parts.id;
    const { channels } = parts.container;
    this.control = channels.control;
    this.requests = channels.requests;
    this.stdout = channels.stdout;
    this.stderr = channels.stderr;
    this.ended = parts.container.exited.then((exitCode) => this.#finish(exitCode));
    void channels.controlClosed.then(() => setTimeout(() => parts.container.kill(), goodbyeMs).unref());
  }

  async attach(sourceDirectory: string, target: string, inner: readonly InnerDirectory[] = []): Promise<string> {
    if (this.#state === "ended") throw new MayflyError("INTERNAL_ERROR", `Sandbox ${this.id} has ended.`);
    await this.#parts.attacher.attach(this.id, resolve(sourceDirectory), target, inner);
    return target;
  }

  async give(): Promise<void> {
    await this.#parts.give();
  }

  async setLimits(limits: SandboxLimits): Promise<void> {
    if (this.#state === "ended") return;
    await this.#parts.cgroup?.setLimits(cgroupLimits(this.#parts.spec, limits));
  }

  async freeze(): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "frozen";
    try {
      await (this.#parts.cgroup?.freeze() ?? this.#stop());
    } catch (error) {
      // The end, which may come at any moment, takes the group away.
      if (this.#isFrozen()) throw error;
    }
  }

  async thaw(): Promise<void> {
    if (this.#state !== "frozen") return;
    this.#state = "running";
    const { cgroup, container } = this.#parts;
    if (cgroup !== null) cgroup.thaw();
    else for (const pid of container.processes()) signal(pid, "SIGCONT");
  }

  async usage(): Promise<SandboxUsage> {
    if (this.#state === "ended") return this.#usage;
    const usage = (await this.#parts.cgroup?.usage().catch(() => undefined)) ?? this.#count();
    if (usage !== undefined) this.#usage = usage;
    return this.#usage;
  }

  async kill(): Promise<void> {
    this.#asked = true;
    this.#parts.container.kill();
    await this.ended;
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.kill().then(() => this.#parts.undo());
    return this.#destroyed;
  }

  async #finish(exitCode: number | null): Promise<SandboxEnd> {
    const { container, cgroup, log } = this.#parts;
    let outOfMemory = false;
    try {
      container.kill();
      await container.gone();
      if (cgroup !== null) {
        await cgroup.kill();
        this.#usage = await cgroup.usage();
        outOfMemory = !this.#asked && (exitCode === null || exitCode === 137) && (await cgroup.outOfMemoryKills()) > 0;
      }
    } catch (error) {
      log(`${this.id}: ${messageOf(error)}`);
    }
    this.#usage = { ...this.#usage, memoryBytes: 0 };
    this.#state = "ended";
    container.channels.closeSoon();
    return { reason: this.#asked ? "destroyed" : outOfMemory ? "out-of-memory" : "exited", exitCode };
  }

  /**
   * Stops what it finds, until it finds nothing that runs: what has stopped cannot fork. No process can leave the guest's
   * process namespace, so all are below its first one; but a guest that wants to can wake one while others are looked at.
   */
  async #stop(): Promise<void> {
    const deadline = performance.now() + signalMsMax;
    while (this.#isFrozen()) {
      const running = this.#parts.container.processes().filter((pid) => !"TtZX".includes(readStat(pid)?.[0] ?? "X"));
      if (running.length === 0) return;
      for (const pid of running) signal(pid, "SIGSTOP");
      if (performance.now() > deadline) throw new MayflyError("INTERNAL_ERROR", `Sandbox ${this.id} could not be frozen.`);
      await new Promise(setImmediate);
    }
  }

  /** A method, since others change the state while one waits. */
  #isFrozen(): boolean {
    return this.#state === "frozen";
  }

  /** Of all that live, and of what they have reaped. */
  #count(): SandboxUsage | undefined {
    const { container } = this.#parts;
    let ticks = 0;
    let pages = 0;
    for (const pid of [container.pid, ...container.processes()]) {
      const fields = readStat(pid);
      // utime, stime, cutime and cstime in ticks of 10 ms; rss in pages.
      for (const field of fields?.slice(11, 15) ?? []) ticks += Number(field);
      pages += Number(fields?.[21] ?? 0);
    }
    return pages === 0 ? undefined : { cpuMs: ticks * 10, memoryBytes: pages * 4096 };
  }
}
