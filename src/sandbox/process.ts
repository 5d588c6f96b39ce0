/**
 * Development driver: a guest is a process group of the platform's own user. It isolates nothing, and `can` says so; it
 * is for macOS, and for Linux without root. Hides that there are no mounts: guest paths become host paths on the way in.
 * Invariant: after `destroy` no process of the group runs and the guest's /tmp is gone.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm, symlink } from "node:fs/promises";
import { constants } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import { isAlive } from "../liveness.ts";
import { Channels } from "./channels.ts";
import { killStrays, type Stray } from "./strays.ts";
import type {
  Sandbox,
  SandboxCapabilities,
  SandboxDriver,
  SandboxDriverOptions,
  SandboxEnd,
  SandboxMount,
  SandboxSpec,
  SandboxUsage,
} from "./sandbox.ts";

/** A stop signal, or the end after SIGKILL, must have come about within this time. */
const signalMsMax = 5000;
/** A guest that closed its control channel may take so long to exit by itself. */
const goodbyeMs = 500;

const can: SandboxCapabilities = {
  fileIsolation: false,
  processIsolation: false,
  networkIsolation: false,
  seccomp: false,
  memoryLimit: "none",
  cpuLimit: false,
  processLimit: false,
  tmpLimit: false,
  freeze: "process",
};

/** Opens the driver; ends and removes what a platform process that is gone has left below the data directory. */
export async function openProcessSandboxes(options: SandboxDriverOptions): Promise<SandboxDriver> {
  const directory = resolve(options.dataDirectory, "sandboxes");
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(directory)) {
    const pid = /^process-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    // One that was frozen does not notice that its platform is gone. Its program lies below its directory; it leads a group.
    const isLeft = ({ args: [program = ""] }: Stray): boolean => program.startsWith(`${join(directory, name)}/`);
    if (process.platform === "linux") await killStrays(isLeft, { withGroup: true });
    await rm(join(directory, name), { recursive: true, force: true });
  }
  return new ProcessSandboxes(directory, resolve(options.nodeBinary), options.log ?? (() => {}));
}

class ProcessSandboxes implements SandboxDriver {
  readonly name = "process";
  readonly can = can;
  readonly #directory: string;
  readonly #nodeBinary: string;
  readonly #log: (line: string) => void;
  readonly #open = new Set<ProcessSandbox>();
  #closed = false;

  constructor(directory: string, nodeBinary: string, log: (line: string) => void) {
    this.#directory = directory;
    this.#nodeBinary = nodeBinary;
    this.#log = log;
  }

  async create(spec: SandboxSpec): Promise<Sandbox> {
    if (this.#closed) throw new MayflyError("sandbox_unavailable", "The sandbox driver is closed.");
    const name = `process-${process.pid}-${randomBytes(6).toString("hex")}`;
    const tmp = join(this.#directory, name, "tmp");
    await mkdir(tmp, { recursive: true });
    const programs = await this.#placePrograms(join(this.#directory, name, "bin"), spec);
    const places = [
      // Of several for one target the first counts.
      ...spec.mounts,
      { target: "/tmp", source: tmp },
      { target: "/var/lang/bin", source: programs },
    ];
    const [program, ...args] = spec.argv.map((text) => hostArgument(text, places)) as [string, ...string[]];
    const env: Record<string, string> = { TMPDIR: tmp };
    for (const [key, value] of Object.entries(spec.env)) {
      env[key] = value
        .split(":")
        .map((part) => hostPath(part, places))
        .join(":");
    }
    let child: ChildProcess;
    try {
      child = spawn(program, args, {
        cwd: hostPath(spec.cwd, places),
        env,
        detached: true,
        stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
      });
      await once(child, "spawn");
    } catch (error) {
      await rm(dirname(tmp), { recursive: true, force: true });
      throw new MayflyError("sandbox_unavailable", `Cannot start "${program}": ${messageOf(error)}`, { cause: error });
    }
    const sandbox = new ProcessSandbox(`${spec.purpose}-${name}`, child, dirname(tmp), this.#log);
    this.#open.add(sandbox);
    void sandbox.gone.then(() => this.#open.delete(sandbox));
    if (this.#closed) {
      await sandbox.destroy();
      throw new MayflyError("sandbox_unavailable", "The sandbox driver is closed.");
    }
    return sandbox;
  }

  /** A directory that shows what others mount as /var/lang/bin: a spec may bring a Node of its own, whatever its file is called. */
  async #placePrograms(directory: string, spec: SandboxSpec): Promise<string> {
    const programs = new Map([["node", this.#nodeBinary]]);
    for (const { source, target } of spec.mounts) if (dirname(target) === "/var/lang/bin") programs.set(basename(target), resolve(source));
    await mkdir(directory);
    for (const [name, source] of programs) await symlink(source, join(directory, name));
    return directory;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open].map((sandbox) => sandbox.destroy()));
  }
}

class ProcessSandbox implements Sandbox {
  readonly id: string;
  readonly control;
  readonly requests;
  readonly stdout;
  readonly stderr;
  readonly ended: Promise<SandboxEnd>;
  /** Settles when `destroy` is through. */
  readonly gone: Promise<void>;
  readonly #pid: number;
  readonly #directory: string;
  readonly #channels: Channels;
  readonly #log: (line: string) => void;
  readonly #markGone: () => void;
  #state: "running" | "frozen" | "ended" = "running";
  #asked = false;
  #destroyed: Promise<void> | undefined;
  #usage: SandboxUsage = { cpuMs: 0, memoryBytes: 0 };

  constructor(id: string, child: ChildProcess, directory: string, log: (line: string) => void) {
    const gone = Promise.withResolvers<void>();
    this.gone = gone.promise;
    this.#markGone = gone.resolve;
    this.id = id;
    this.#pid = child.pid as number;
    this.#directory = directory;
    this.#log = log;
    this.#channels = new Channels(child.stdio.slice(1));
    this.control = this.#channels.control;
    this.requests = this.#channels.requests;
    this.stdout = this.#channels.stdout;
    this.stderr = this.#channels.stderr;
    const ended = Promise.withResolvers<SandboxEnd>();
    this.ended = ended.promise;
    child.once("exit", (code, signal) => {
      // The group's number stays taken as long as it has members, so this is the moment, and the last one, to kill it.
      this.#signal("SIGKILL");
      this.#state = "ended";
      ended.resolve({ reason: this.#asked ? "destroyed" : "exited", exitCode: code ?? exitCodeOf(signal) });
      this.#channels.keepUnread();
      this.#channels.closeSoon();
    });
    void this.#channels.controlClosed.then(() => setTimeout(() => this.#signal("SIGKILL"), goodbyeMs).unref());
  }

  async attach(sourceDirectory: string): Promise<string> {
    return resolve(sourceDirectory);
  }

  async give(): Promise<void> {}

  async setLimits(): Promise<void> {}

  async freeze(): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "frozen";
    this.#signal("SIGSTOP");
    // Elsewhere than on Linux there is nothing to look at: a stop signal takes well under a millisecond.
    if (process.platform !== "linux") return;
    const deadline = performance.now() + signalMsMax;
    while (this.#state === "frozen" && performance.now() < deadline) {
      const state = (await readStat(this.#pid))?.[0];
      if (state === undefined || "TtZX".includes(state)) return;
      await sleep(1);
    }
  }

  async thaw(): Promise<void> {
    if (this.#state !== "frozen") return;
    this.#state = "running";
    this.#signal("SIGCONT");
  }

  /** Of the first process and those of its children that have ended; zeros elsewhere than on Linux. */
  async usage(): Promise<SandboxUsage> {
    const fields = this.#state === "ended" ? undefined : await readStat(this.#pid);
    if (fields === undefined) return { ...this.#usage, memoryBytes: 0 };
    // Counted from the state: utime, stime, cutime, cstime are 11 to 14 in ticks of 10 ms, rss is 21 in pages (proc_pid_stat(5)).
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    this.#usage = { cpuMs: ticks * 10, memoryBytes: Number(fields[21]) * 4096 };
    return this.#usage;
  }

  async kill(): Promise<void> {
    this.#asked = true;
    this.#signal("SIGKILL");
    this.#signal("SIGCONT");
    const late = sleep(signalMsMax, "late" as const, { ref: false });
    if ((await Promise.race([this.ended, late])) === "late") this.#log(`${this.id}: process ${this.#pid} survives SIGKILL`);
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  async #destroy(): Promise<void> {
    await this.kill();
    this.#channels.closeSoon();
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 3 }).catch((error: unknown) => {
      this.#log(`${this.id}: cannot remove ${this.#directory}: ${messageOf(error)}`);
    });
    this.#markGone();
  }

  /** To the whole group; once the first process is reaped its number may be another's, so no more then. */
  #signal(signal: NodeJS.Signals): void {
    if (this.#state === "ended") return;
    try {
      process.kill(-this.#pid, signal);
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") this.#log(`${this.id}: ${signal} failed: ${messageOf(error)}`);
    }
  }
}

type Place = Pick<SandboxMount, "source" | "target">;

/** The host path of a guest path that is, or lies below, a mount's target; any other text as it is. */
function hostPath(text: string, places: readonly Place[]): string {
  let best: Place | undefined;
  for (const place of places) {
    const below = text === place.target || text.startsWith(`${place.target}/`);
    if (below && place.target.length > (best?.target.length ?? 0)) best = place;
  }
  return best === undefined ? text : best.source + text.slice(best.target.length);
}

/** Arguments may carry a path of their own or behind a flag: `--require=/var/runtime/x.js`. */
function hostArgument(text: string, places: readonly Place[]): string {
  const flag = /^-[\w-]*=/.exec(text)?.[0] ?? "";
  return flag + hostPath(text.slice(flag.length), places);
}

/** What a shell would report for a process that a signal ended. */
const exitCodeOf = (signal: NodeJS.Signals | null): number | null => (signal === null ? null : 128 + constants.signals[signal]);

/** The fields of /proc/PID/stat from the state on, undefined when the process is gone or this is not Linux. */
async function readStat(pid: number): Promise<readonly string[] | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}
