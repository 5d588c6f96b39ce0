/**
 * SEAM: where untrusted code runs. A driver makes sandboxes; a sandbox is one process tree with its own limits that can
 * be frozen, thawed and destroyed as a whole. `sandbox.conformance.ts` tests every driver; callers read what a driver
 * `can`, never its name. Everything that comes out of a sandbox is hostile input.
 */
import type { Duplex, Readable } from "node:stream";

/** What a driver really gives on this machine, found by probing; it never claims more. */
export interface SandboxCapabilities {
  /** The guest sees only its own files. */
  readonly fileIsolation: boolean;
  /** The guest sees only its own processes. */
  readonly processIsolation: boolean;
  /** The guest reaches neither the host, nor private addresses, nor its neighbours. */
  readonly networkIsolation: boolean;
  readonly seccomp: boolean;
  /** What a memory limit covers: all processes together, one heap, or nothing. */
  readonly memoryLimit: "tree" | "heap" | "none";
  readonly cpuLimit: boolean;
  readonly processLimit: boolean;
  readonly tmpLimit: boolean;
  /** `tree`: every process stops, escaped sub-processes included. `process`: stop signals to those that are known. */
  readonly freeze: "tree" | "process";
}

export interface SandboxLimits {
  readonly memoryMB: number;
  /** Share of one CPU in proportion to memory (1769 MB = 1); false while booting, so that a start runs at full speed. */
  readonly cpuByMemory: boolean;
}

export interface SandboxMount {
  /** Absolute host path of a directory or file: another `node`, say, over `/var/lang/bin/node`. */
  readonly source: string;
  /** Absolute path in the guest. */
  readonly target: string;
  /**
   * The guest may write below it. A driver with users of its own gives the tree below `source` to the guest's user on
   * `create` (symlinks themselves, never what they point to) and leaves it so: the caller must own the tree alone, treat
   * it as hostile from then on, and takes it back, if it wants to, after `destroy`. A read-only mount is left as it is and
   * must be readable by everyone.
   */
  readonly writable: boolean;
}

/** A directory to be seen inside of one that is attached. */
export interface InnerDirectory {
  /** Relative to the one that is attached, where an empty directory is. */
  readonly path: string;
  /** Absolute host path. */
  readonly source: string;
}

export interface SandboxSpec {
  /** What it is for; part of its id, `[a-z]+`. */
  readonly purpose: "function" | "build" | "image" | "probe";
  /**
   * Program and arguments, with guest paths. Every guest has `/var/lang/bin/node`, `/bin/sh` and a writable `/tmp` beside
   * its mounts. A driver without file isolation puts host paths in the place of mount targets.
   */
  readonly argv: readonly [string, ...string[]];
  /**
   * The whole environment of the guest: nothing is inherited. Guest paths are treated as in `argv`. A driver without file
   * isolation adds `TMPDIR` when it is not given.
   */
  readonly env: Readonly<Record<string, string>>;
  /** Guest path. */
  readonly cwd: string;
  readonly mounts: readonly SandboxMount[];
  readonly limits: SandboxLimits;
  readonly tmpBytes: number;
  readonly processesMax: number;
  readonly openFilesMax: number;
  /** `internet`: public addresses and DNS only, or loopback only where a driver has no way out that isolates; `none`: loopback only. */
  readonly network: "internet" | "none";
}

/** How a sandbox ended. */
export interface SandboxEnd {
  readonly reason: "exited" | "destroyed" | "out-of-memory";
  /** Exit code where one is known, 128 + n after signal n. Node's own heap limit ends as `exited` with 134 (SIGABRT). */
  readonly exitCode: number | null;
}

export interface SandboxUsage {
  /** CPU time of the whole tree since creation. */
  readonly cpuMs: number;
  readonly memoryBytes: number;
}

/**
 * ```
 * create() ─▶ running ⇄ frozen ─▶ ended        destroy() leads there from anywhere and is idempotent
 * ```
 */
export interface Sandbox {
  /** Unique on this machine, `[a-z0-9-]+`. */
  readonly id: string;
  /** Descriptor 3 of the guest: control messages (runtime/protocol.js). When the guest closes it, the sandbox is ended. */
  readonly control: Duplex;
  /** Descriptor 4 of the guest: HTTP/1.1 requests. */
  readonly requests: Duplex;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when the first process of the guest has ended, whatever the reason; never rejects. */
  readonly ended: Promise<SandboxEnd>;
  /**
   * Makes a host directory visible, read-only, at the guest path `target` of a running or frozen sandbox.
   * @param inner directories that are put over empty ones of it; only for a driver with file isolation
   * @returns the path at which the guest sees it (`target`, or the host path when the driver has no file isolation)
   */
  attach(sourceDirectory: string, target: string, inner?: readonly InnerDirectory[]): Promise<string>;
  /** Gives what has come into the writable mounts since `create` to the guest's user, as `create` gave what was there. */
  give(): Promise<void>;
  setLimits(limits: SandboxLimits): Promise<void>;
  /** Resolves when no process of the guest runs any more, or when it was thawed before that. No effect on an ended one. */
  freeze(): Promise<void>;
  /** At once, also while it is being frozen. No effect on an ended one. */
  thaw(): Promise<void>;
  usage(): Promise<SandboxUsage>;
  /** Kills every process; resolves when none is left. The rest goes with `destroy`. No effect on an ended one. */
  kill(): Promise<void>;
  /** Kills every process and removes every trace (mounts, cgroups, namespaces, files). Resolves when all is gone. */
  destroy(): Promise<void>;
}

/** What every driver is opened with. */
export interface SandboxDriverOptions {
  /** Mayfly's data directory; a driver keeps its files in `rootfs/` and `sandboxes/` below it. */
  readonly dataDirectory: string;
  /** Host path of the `node` that guests run. */
  readonly nodeBinary: string;
  /** Private IPv4 networks (CIDR) that guests with network may reach all the same. */
  readonly networkAllow: readonly string[];
  /** Told about what a person who runs the machine should know. Absent: nobody is told. */
  readonly log?: (line: string) => void;
}

export interface SandboxDriver {
  readonly name: string;
  readonly can: SandboxCapabilities;
  /** @throws MayflyError sandbox_unavailable when it cannot be made */
  create(spec: SandboxSpec): Promise<Sandbox>;
  /** Destroys all that is left and gives back what the driver holds on the machine. */
  close(): Promise<void>;
}
