/**
 * The command line of an OCI runtime, crun or runc, as the driver uses it: it makes a container's processes and remembers
 * their names. Limits, networks and files of the platform are not its concern.
 */
import { closeSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { Block } from "./block.ts";
import type { Hierarchies } from "./cgroup.ts";
import { Cgroup } from "./cgroup.ts";
import { Channels } from "./channels.ts";
import { openSocketPair, startChild } from "./child.ts";
import { hostPath, pathOf, runCommand } from "./command.ts";
import { openPipe } from "./libc.ts";

const createMsMax = 20_000;
/** What a runtime says of its failure comes within this time. */
const lastWordsMs = 500;

export const createRuntime = (program: "crun" | "runc", block: Block, found: Hierarchies): Runtime =>
  program === "crun" ? new Crun(block.directory, found.hybrid) : new Runc(block);

export abstract class Runtime {
  readonly #state: string;
  readonly #command: readonly [string, ...string[]];

  constructor(state: string, command: readonly [string, ...string[]]) {
    this.#state = state;
    this.#command = command;
  }

  /** The part of a bundle's `linux` that names the control group. */
  abstract cgroupsPath(slot: number): object;

  /** Makes the container; its first process waits for `start`. */
  async create(id: string, bundle: string): Promise<{ pid: number; channels: Channels; goodbye: Goodbye }> {
    const pidFile = join(bundle, "pid");
    const [program, ...args] = this.#command;
    const [stdout, stderr] = [openPipe(), openPipe()];
    // From here on the sockets own the ends that are read.
    const [out, err] = [stdout, stderr].map(({ read }) => new Socket({ fd: read, readable: true, writable: false }));
    const pairs = [openSocketPair(), openSocketPair(), openSocketPair()];
    const [control, requests, end] = pairs.map(({ ours }) => new Socket({ fd: ours, readable: true, writable: true }));
    const channels = new Channels([out, err, control, requests]);
    const goodbye = new Goodbye(end!);
    const theirs = [stdout.write, stderr.write, ...pairs.map((pair) => pair.theirs)];
    try {
      const create = [...args, "create", "--preserve-fds=3", "--bundle", bundle, "--pid-file", pidFile, id];
      const starting = pathOf(program).then((path) =>
        startChild({ program: path, args: create, env: { PATH: hostPath }, descriptors: [null, ...theirs], msMax: createMsMax }),
      );
      const child = await starting.finally(() => {
        for (const descriptor of theirs) closeSync(descriptor);
      });
      const { code, signal } = await child.ended;
      if (code !== 0) {
        const said = await Promise.race([text(channels.stderr), sleep(lastWordsMs, "")]);
        throw new Error(`${program} create failed (${signal ?? code}): ${said.slice(0, 500).trim()}`);
      }
      const pid = Number(await readFile(pidFile, "utf8"));
      if (!Number.isInteger(pid) || pid < 2) throw new Error(`${program} create gave no process.`);
      return { pid, channels, goodbye };
    } catch (error) {
      channels.closeNow();
      goodbye.close();
      throw error;
    }
  }

  async start(id: string): Promise<void> {
    const [program, ...args] = this.#command;
    await runCommand(program, [...args, "start", id]);
  }

  /** Removes what the runtime remembers of a container whose processes are gone; it holds nothing else. */
  async forget(id: string): Promise<void> {
    await rm(join(this.#state, id), { recursive: true, force: true });
  }
}

class Crun extends Runtime {
  constructor(directory: string, hybrid: string | null) {
    const state = join(directory, "crun");
    const crun = ["crun", `--root=${state}`, "--cgroup-manager=disabled"] as const;
    // Where control groups are hybrid, crun runs in a mount namespace that does not show the part it refuses.
    const hide = ["unshare", "-m", "--propagation", "slave", "sh", "-c", 'umount "$1" && shift && exec "$@"', "sh"] as const;
    super(state, hybrid === null ? crun : [...hide, hybrid, ...crun]);
  }

  cgroupsPath(): object {
    return {};
  }
}

/** It insists on control groups: it is told ours, and makes groups of that name in the hierarchies that we do not use, too. */
class Runc extends Runtime {
  readonly #block: Block;

  constructor(block: Block) {
    const state = join(block.directory, "runc");
    super(state, ["runc", `--root=${state}`]);
    this.#block = block;
  }

  cgroupsPath(slot: number): object {
    return { cgroupsPath: Cgroup.pathOf(`${this.#block.number}/${slot}`) };
  }
}

/** Descriptor 5: what the first process says at its end. It listens from the start, since a guest may be quick. */
export class Goodbye {
  /** The exit code; null when the first process is gone without a word. */
  readonly said: Promise<number | null>;
  readonly #stream: Duplex;

  constructor(stream: Duplex) {
    this.#stream = stream;
    const { promise, resolve } = Promise.withResolvers<number | null>();
    this.said = promise;
    let heard = "";
    stream.on("error", () => {});
    stream.on("data", (bytes: Buffer) => {
      if (heard.length < 8) heard += bytes.toString("latin1", 0, 8);
      const code = /^(\d{1,3})\n/.exec(heard)?.[1];
      if (code !== undefined) resolve(Number(code));
    });
    stream.once("close", () => resolve(null));
  }

  close(): void {
    this.#stream.destroy();
  }
}
