/**
 * Production driver: every guest is a container of crun or runc, with namespaces, a read-only root, no capabilities, a seccomp
 * filter, its own user, network and control group. Needs root on Linux. Hides the order in which these are made and
 * undone. Invariant: a slot (names, addresses, user) is given to a new guest only when all of the last one is gone.
 */
import { randomBytes } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError, messageOf } from "../errors.ts";
import { Attacher, startThread } from "./attach.ts";
import { Block, slotsMax } from "./block.ts";
import type { Hierarchies } from "./cgroup.ts";
import { Cgroup, findHierarchies } from "./cgroup.ts";
import type { Channels } from "./channels.ts";
import { findProgram, runCommand } from "./command.ts";
import { cgroupLimits, memoryFilesMax, openFilesWithin, shmBytes } from "./limits.ts";
import { checkWorkingDirectory, giveWritableMounts } from "./mounts.ts";
import { Network, sweepNetwork } from "./network.ts";
import { createRuntime, type Goodbye, type Runtime } from "./oci-runtime.ts";
import { warmPages } from "./pages.ts";
import { whyNot } from "./probe.ts";
import { guestNode, openRootfs } from "./rootfs.ts";
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
import { seccompPolicy } from "./seccomp.ts";
import { killStrays } from "./strays.ts";

/** The first process says goodbye a moment before it is gone. */
const goodbyeMs = 500;

/**
 * The guest's first process is a shell that reaps orphans: Node would not, and zombies count as processes. It reports the
 * exit code on descriptor 5, since nobody on the host is the parent of a container that was created and then started. It
 * has no part in descriptors 3 and 4, so that they close when the guest closes them. A shell makes what it starts beside
 * itself deaf to two signals; `env` undoes that.
 */
const init = ["/bin/sh", "-c", '"$@" 5>&- & exec 3>&- 4>&-; wait "$!"; code=$?; echo "$code" >&5; exit "$code"', "init"];
const withEnvironment = ["/usr/bin/env", "-i", "--default-signal=INT,QUIT", "--"];

export interface OciOptions extends SandboxDriverOptions {
  /** The program that makes containers. crun starts a guest in two thirds of the time that runc takes. Default: crun. */
  readonly runtime?: "crun" | "runc";
}

/**
 * Opens the driver: takes a block of this machine's slots, makes the root file system, loads the network's rules and
 * sweeps what Mayfly processes that are gone have left.
 * @throws MayflyError sandbox_unavailable with the reason, config_invalid
 */
export async function openOciSandboxes(options: OciOptions): Promise<SandboxDriver> {
  const log = options.log ?? (() => {});
  const program = options.runtime ?? "crun";
  await checkHost(program);
  const found = findHierarchies();
  const rootfs = await openRootfs({ dataDirectory: resolve(options.dataDirectory), nodeBinary: resolve(options.nodeBinary) });
  const block = await Block.claim(async (unheld) => {
    await Cgroup.sweep(found, unheld.number);
    await killStrays(({ args, userId }) => unheld.owns(userId) || args.some((arg) => arg.startsWith(`--root=${unheld.directory}/`)));
    await sweepNetwork(unheld.number);
  });
  try {
    const network = await Network.open({ block, allow: options.networkAllow, log });
    const driver = new OciSandboxes({ block, found, rootfs, network, runtime: createRuntime(program, block, found), log });
    warmPages(join(rootfs, guestNode)).catch(() => {});
    return driver;
  } catch (error) {
    await sweepNetwork(block.number).catch(() => {});
    block.release();
    throw error;
  }
}

/** Null when the driver really works on this machine, which one guest is made and destroyed to see; else why not. */
export async function whyNoOci(options: OciOptions): Promise<string | null> {
  return whyNot(() => openOciSandboxes(options));
}

async function checkHost(runtime: "crun" | "runc"): Promise<void> {
  const refuse = (sentence: string): never => {
    throw new MayflyError("sandbox_unavailable", sentence);
  };
  if (process.platform !== "linux") refuse("OCI sandboxes need Linux.");
  if (process.getuid?.() !== 0) refuse("OCI sandboxes need root.");
  for (const program of [runtime, "nft", "ip", "nsenter", "unshare", "umount", "chown"]) {
    if ((await findProgram(program)) === null) refuse(`The program ${program} is not installed.`);
  }
  if (!/\+SECCOMP|libseccomp:/.test(await runCommand(runtime, ["--version"]))) refuse(`${runtime} was built without seccomp.`);
}

interface Parts {
  readonly block: Block;
  readonly found: Hierarchies;
  readonly rootfs: string;
  readonly network: Network;
  readonly runtime: Runtime;
  readonly log: (line: string) => void;
}

class OciSandboxes implements SandboxDriver {
  readonly name = "oci";
  readonly can: SandboxCapabilities;
  readonly #parts: Parts;
  readonly #attacher = new Attacher(startThread);
  readonly #runtime: Runtime;
  readonly #free = Array.from({ length: slotsMax }, (_, slot) => slot);
  readonly #open = new Set<OciSandbox>();
  #creating = new Set<Promise<Sandbox>>();
  #closed: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#runtime = parts.runtime;
    this.#attacher.warm();
    this.can = {
      fileIsolation: true,
      processIsolation: true,
      networkIsolation: true,
      seccomp: true,
      memoryLimit: parts.found.memory === null ? "none" : "tree",
      cpuLimit: parts.found.cpu !== null,
      processLimit: parts.found.pids !== null,
      tmpLimit: true,
      freeze: "tree",
    };
  }

  async create(spec: SandboxSpec): Promise<Sandbox> {
    if (this.#closed !== undefined) throw new MayflyError("sandbox_unavailable", "The sandbox driver is closed.");
    // The longest unused first: the kernel takes a guest's network down some time after its end.
    const slot = this.#free.shift();
    if (slot === undefined) throw new MayflyError("sandbox_unavailable", `All ${slotsMax} sandboxes of this process are in use.`);
    const creating = this.#create(spec, slot);
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

  async #create(spec: SandboxSpec, slot: number): Promise<Sandbox> {
    const { block, found, network } = this.#parts;
    const traces: Traces = {
      id: `${spec.purpose}-${block.number}-${slot}-${randomBytes(4).toString("hex")}`,
      directory: join(block.directory, String(slot)),
      descriptors: [],
      connected: false,
      cgroup: null,
    };
    let channels: Channels | undefined;
    try {
      const [cgroup] = await Promise.all([
        Cgroup.create(found, `${block.number}/${slot}`, cgroupLimits(spec, spec.limits)),
        this.#writeBundle(spec, slot, traces.directory),
        giveWritableMounts(spec, block.userId(slot)),
      ]);
      traces.cgroup = cgroup;
      const created = await this.#runtime.create(traces.id, traces.directory);
      channels = created.channels;
      const { pid } = created;
      // Descriptors keep meaning this guest's namespaces; the process's number may one day mean another process.
      const mountNamespace = openSync(`/proc/${pid}/ns/mnt`, "r");
      traces.descriptors.push(mountNamespace);
      const networkNamespace = openSync(`/proc/${pid}/ns/net`, "r");
      traces.descriptors.push(networkNamespace);
      const networkPath = `/proc/${process.pid}/fd/${networkNamespace}`;
      traces.connected = spec.network === "internet";
      // In this order: while a process moves between groups the kernel lets no other one fork.
      await Promise.all([spec.network === "internet" ? network.connect(slot, networkPath) : undefined, cgroup.add(pid)]);
      await this.#runtime.start(traces.id);
      // Its namespace lives by its processes alone from here on.
      closeSync(networkNamespace);
      traces.descriptors.pop();
      const sandbox = new OciSandbox({
        spec,
        traces,
        cgroup,
        channels,
        pid,
        mountNamespace,
        goodbye: created.goodbye,
        give: () => giveWritableMounts(spec, block.userId(slot)),
        attacher: this.#attacher,
        log: this.#parts.log,
        undo: async () => {
          await this.#undo(traces, slot);
          this.#open.delete(sandbox);
        },
      });
      this.#open.add(sandbox);
      return sandbox;
    } catch (error) {
      channels?.closeNow();
      // Perhaps it has come to be, and not into its group.
      await killStrays(({ userId }) => userId === block.userId(slot));
      await this.#undo(traces, slot).catch((undoing: unknown) => this.#parts.log(`${traces.id}: ${messageOf(undoing)}`));
      throw error;
    }
  }

  /** Takes away all that `#create` made. When that fails the slot stays taken until the next process sweeps the block. */
  async #undo(traces: Traces, slot: number): Promise<void> {
    await traces.cgroup?.kill();
    for (const descriptor of traces.descriptors.splice(0)) closeSync(descriptor);
    await Promise.all([
      traces.connected ? this.#parts.network.disconnect(slot) : undefined,
      traces.cgroup?.remove(),
      rm(traces.directory, { recursive: true, force: true }),
      this.#runtime.forget(traces.id),
    ]);
    this.#free.push(slot);
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#creating);
    const results = await Promise.allSettled([...this.#open].map((sandbox) => sandbox.destroy()));
    const { block, found, network } = this.#parts;
    await this.#attacher.close();
    await Cgroup.sweep(found, block.number);
    await network.close();
    block.release();
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async #writeBundle(spec: SandboxSpec, slot: number, directory: string): Promise<void> {
    const { block, rootfs, network } = this.#parts;
    const userId = block.userId(slot);
    const openFilesMax = openFilesWithin(spec.openFilesMax);
    await checkWorkingDirectory(spec, rootfs);
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o711 });
    const passwd = join(directory, "passwd");
    const group = join(directory, "group");
    const mounts = [
      { source: passwd, target: "/etc/passwd", writable: false },
      { source: group, target: "/etc/group", writable: false },
      ...(spec.network === "internet" ? [{ source: network.resolvConf, target: "/etc/resolv.conf", writable: false }] : []),
      ...spec.mounts,
    ];
    const bundle = {
      ociVersion: "1.0.2",
      hostname: "sandbox",
      root: { path: rootfs, readonly: true },
      process: {
        terminal: false,
        user: { uid: userId, gid: userId },
        // The shell adds variables of its own, so the environment is set behind it.
        args: [...init, ...withEnvironment, ...Object.entries(spec.env).map(([key, value]) => `${key}=${value}`), ...spec.argv],
        env: [],
        cwd: spec.cwd,
        capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
        noNewPrivileges: true,
        rlimits: [
          { type: "RLIMIT_NOFILE", hard: openFilesMax, soft: openFilesMax },
          { type: "RLIMIT_CORE", hard: 0, soft: 0 },
        ],
      },
      mounts: [
        { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
        { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "noexec", "mode=755", "size=64k"] },
        tmpfs("/dev/shm", shmBytes, ["noexec"]),
        tmpfs("/tmp", spec.tmpBytes),
        ...mounts.map((mount) => ({
          destination: mount.target,
          type: "bind",
          source: resolve(mount.source),
          options: ["bind", "nosuid", "nodev", mount.writable ? "rw" : "ro"],
        })),
      ],
      linux: {
        ...this.#runtime.cgroupsPath(slot),
        namespaces: ["pid", "ipc", "uts", "mount", "cgroup", "network"].map((type) => ({ type })),
        seccomp: seccompPolicy(),
        maskedPaths: [
          ..."acpi asound interrupts kallsyms kcore keys latency_stats sched_debug scsi timer_list".split(" "),
          ..."timer_stats vmallocinfo config.gz cmdline partitions diskstats mdstat swaps modules".split(" "),
        ].map((name) => `/proc/${name}`),
        readonlyPaths: ["bus", "fs", "irq", "sys", "sysrq-trigger"].map((name) => `/proc/${name}`),
      },
    };
    await Promise.all([
      writeFile(passwd, `root:x:0:0:root:/root:/bin/sh\nsandbox:x:${userId}:${userId}:sandbox:/tmp:/bin/sh\n`),
      writeFile(group, `root:x:0:\nsandbox:x:${userId}:\n`),
      writeFile(join(directory, "config.json"), JSON.stringify(bundle)),
    ]);
  }
}

/** What a sandbox has on the host, as far as it has been made. */
interface Traces {
  readonly id: string;
  readonly directory: string;
  readonly descriptors: number[];
  connected: boolean;
  cgroup: Cgroup | null;
}

interface OciSandboxParts {
  readonly spec: SandboxSpec;
  readonly traces: Traces;
  readonly cgroup: Cgroup;
  readonly channels: Channels;
  /** Of the guest's first process, as the host numbers it. */
  readonly pid: number;
  readonly mountNamespace: number;
  readonly goodbye: Goodbye;
  readonly give: () => Promise<void>;
  readonly attacher: Attacher;
  readonly log: (line: string) => void;
  readonly undo: () => Promise<void>;
}

/**
 * ```
 * running ⇄ frozen
 *    └───────┴──▶ ending ─▶ ended     ending: the first process said goodbye, closed its control channel, or was killed
 * ```
 */
class OciSandbox implements Sandbox {
  readonly id: string;
  readonly control: Channels["control"];
  readonly requests: Channels["requests"];
  readonly stdout: Channels["stdout"];
  readonly stderr: Channels["stderr"];
  readonly ended: Promise<SandboxEnd>;
  readonly #parts: OciSandboxParts;
  readonly #end: (end: SandboxEnd) => void;
  #state: "running" | "frozen" | "ending" | "ended" = "running";
  #asked = false;
  #exitCode: number | null = null;
  #destroyed: Promise<void> | undefined;
  #usage: SandboxUsage = { cpuMs: 0, memoryBytes: 0 };

  constructor(parts: OciSandboxParts) {
    this.#parts = parts;
    this.id = parts.traces.id;
    this.control = parts.channels.control;
    this.requests = parts.channels.requests;
    this.stdout = parts.channels.stdout;
    this.stderr = parts.channels.stderr;
    const ended = Promise.withResolvers<SandboxEnd>();
    this.ended = ended.promise;
    this.#end = ended.resolve;
    void parts.goodbye.said.then((exitCode) => {
      this.#exitCode = exitCode;
      return this.#finish();
    });
    void parts.channels.controlClosed.then(() => this.#finish());
  }

  async attach(sourceDirectory: string, target: string, inner: readonly InnerDirectory[] = []): Promise<string> {
    if (this.#state !== "running" && this.#state !== "frozen") throw new MayflyError("INTERNAL_ERROR", `Sandbox ${this.id} has ended.`);
    await this.#parts.attacher.attach(this.#parts.mountNamespace, resolve(sourceDirectory), target, inner);
    return target;
  }

  async give(): Promise<void> {
    await this.#parts.give();
  }

  async setLimits(limits: SandboxLimits): Promise<void> {
    if (this.#state === "ended") return;
    await this.#parts.cgroup.setLimits(cgroupLimits(this.#parts.spec, limits));
  }

  async freeze(): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "frozen";
    try {
      await this.#parts.cgroup.freeze();
    } catch (error) {
      // The end, which may come at any moment, takes the group away.
      if (this.#state === "frozen") throw error;
    }
  }

  async thaw(): Promise<void> {
    if (this.#state !== "frozen") return;
    this.#state = "running";
    this.#parts.cgroup.thaw();
  }

  async usage(): Promise<SandboxUsage> {
    if (this.#state === "ended") return this.#usage;
    const usage = await this.#parts.cgroup.usage().catch(() => undefined);
    if (usage !== undefined) this.#usage = usage;
    return this.#usage;
  }

  async kill(): Promise<void> {
    if (this.#state === "running" || this.#state === "frozen") {
      this.#asked = true;
      await this.#parts.cgroup.kill();
    }
    await this.#finish();
    await this.ended;
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.kill().then(() => this.#parts.undo());
    return this.#destroyed;
  }

  /** However the end has shown itself: makes sure that no process is left, and says what it was. */
  async #finish(): Promise<void> {
    if (this.#state === "ending" || this.#state === "ended") return;
    this.#state = "ending";
    const { cgroup, pid, channels, goodbye, log } = this.#parts;
    try {
      const deadline = performance.now() + goodbyeMs;
      while (!this.#asked && (await isRunning(pid)) && performance.now() < deadline) await sleep(1);
      await cgroup.kill();
      this.#usage = { ...(await cgroup.usage()), memoryBytes: 0 };
      const killed = this.#exitCode === null || this.#exitCode === 137;
      const outOfMemory = killed && !this.#asked && (await cgroup.outOfMemoryKills()) > 0;
      this.#state = "ended";
      this.#end({ reason: this.#asked ? "destroyed" : outOfMemory ? "out-of-memory" : "exited", exitCode: this.#exitCode });
    } catch (error) {
      log(`${this.id}: ${messageOf(error)}`);
      this.#state = "ended";
      this.#end({ reason: this.#asked ? "destroyed" : "exited", exitCode: this.#exitCode });
    }
    channels.closeSoon();
    goodbye.close();
  }
}

const tmpfs = (destination: string, bytes: number, options: readonly string[] = []): object => ({
  destination,
  type: "tmpfs",
  source: "tmpfs",
  options: ["nosuid", "nodev", "mode=1777", `size=${bytes}`, `nr_inodes=${memoryFilesMax(bytes)}`, ...options],
});

/** Whether a process is more than a zombie. */
async function isRunning(pid: number): Promise<boolean> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return !"ZX".includes(text.charAt(text.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}
