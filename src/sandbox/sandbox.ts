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
  /** Absolute host path of a directory (or file). */
  readonly source: string;
  /** Absolute path in the guest. */
  readonly target: string;
  readonly writable: boolean;
}

export interface SandboxSpec {
  /** What it is for; part of its id, `[a-z]+`. */
  readonly purpose: "function" | "build" | "probe";
  /** Program and arguments, with guest paths. A driver without file isolation puts host paths in the place of mount targets. */
  readonly argv: readonly [string, ...string[]];
  /** The whole environment of the guest: nothing is inherited. Guest paths are treated as in `argv`. */
  readonly env: Readonly<Record<string, string>>;
  /** Guest path. */
  readonly cwd: string;
  readonly mounts: readonly SandboxMount[];
  readonly limits: SandboxLimits;
  readonly tmpBytes: number;
  readonly processesMax: number;
  readonly openFilesMax: number;
  /** `internet`: public addresses and DNS only; `none`: loopback only. */
  readonly network: "internet" | "none";
}

/** How a sandbox ended. */
export interface SandboxEnd {
  readonly reason: "exited" | "destroyed" | "out-of-memory";
  /** Exit code where one is known. */
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
  /** Descriptor 3 of the guest: control messages (runtime/protocol.js). */
  readonly control: Duplex;
  /** Descriptor 4 of the guest: HTTP/1.1 requests. */
  readonly requests: Duplex;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when the first process of the guest has ended, whatever the reason; never rejects. */
  readonly ended: Promise<SandboxEnd>;
  /**
   * Makes a host directory visible, read-only, at the guest path `target` of a running or frozen sandbox.
   * @returns the path at which the guest sees it (`target`, or the host path when the driver has no file isolation)
   */
  attach(sourceDirectory: string, target: string): Promise<string>;
  setLimits(limits: SandboxLimits): Promise<void>;
  /** Resolves when no process of the guest runs any more. No effect on an ended one. */
  freeze(): Promise<void>;
  /** No effect on an ended one. */
  thaw(): Promise<void>;
  usage(): Promise<SandboxUsage>;
  /** Kills every process and removes every trace (mounts, cgroups, namespaces, files). Resolves when all is gone. */
  destroy(): Promise<void>;
}

export interface SandboxDriver {
  readonly name: string;
  readonly can: SandboxCapabilities;
  /** @throws MayflyError sandbox_unavailable when it cannot be made */
  create(spec: SandboxSpec): Promise<Sandbox>;
  /** Destroys all that is left and gives back what the driver holds on the machine. */
  close(): Promise<void>;
}
