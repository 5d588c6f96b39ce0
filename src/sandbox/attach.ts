/**
 * The platform's side of attach-worker.js: makes host directories visible in guests that already run. Hides whether that
 * is a thread or a process, and starts it again after it has failed.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { MayflyError, messageOf } from "../errors.ts";
import { hostPath } from "./command.ts";
import type { InnerDirectory } from "./sandbox.ts";

/** It takes a fifth of a millisecond; a source on a hanging network file system may take for ever. */
const attachMsMax = 10_000;

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** A thread or process that attaches. */
interface Remote {
  /** Of the process; null of a thread. */
  readonly pid: number | null;
  send(message: object): void;
  end(): Promise<void>;
}

type Hear = (message: { serial: number; error?: string }) => void;
export type StartRemote = (hear: Hear, ended: (error: Error) => void) => Remote;

const program = new URL("attach-worker.js", import.meta.url);

export class Attacher {
  readonly #startRemote: StartRemote;
  /** Started when it is needed, and again after it has failed. */
  #remote: Remote | undefined;
  readonly #pending = new Map<number, Pending>();
  #serial = 0;

  constructor(startRemote: StartRemote) {
    this.#startRemote = startRemote;
  }

  /**
   * Starts it, which takes tens of milliseconds, ahead of the first need.
   * @returns the number of the process; null of a thread
   */
  warm(): number | null {
    this.#remote ??= this.#start();
    return this.#remote.pid;
  }

  /**
   * @param guest descriptor of the guest's mount namespace (`/proc/<pid>/ns/mnt`), or what `hold` named it
   * @param target an existing directory of the guest
   * @param inner what comes over directories of the source
   */
  async attach(guest: number | string, source: string, target: string, inner: readonly InnerDirectory[]): Promise<void> {
    const mounts = [{ source, target }, ...inner.map((directory) => ({ source: directory.source, target: `${target}/${directory.path}` }))];
    try {
      await this.order("attach", { guest, mounts });
    } catch (error) {
      throw new MayflyError("INTERNAL_ERROR", `Cannot attach "${source}" at ${target}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Has one of the orders of attach-worker.js done. */
  async order(name: "attach" | "limit" | "hold" | "release", order: object): Promise<void> {
    this.warm();
    const serial = ++this.#serial;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error("It took too long.")), attachMsMax);
    this.#pending.set(serial, { resolve, reject });
    this.#remote?.send({ serial, name, order });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(serial);
    }
  }

  /** The number of the process, once it is in its namespaces. */
  async process(): Promise<number> {
    // It answers whatever it is asked only then.
    await this.order("release", { guest: "" });
    const pid = this.warm();
    if (pid === null) throw new Error("What attaches is not a process.");
    return pid;
  }

  async close(): Promise<void> {
    await this.#remote?.end();
  }

  #start(): Remote {
    const remote = this.#startRemote(
      ({ serial, error }) => {
        const pending = this.#pending.get(serial);
        if (error === undefined) pending?.resolve();
        else pending?.reject(new Error(error));
      },
      (error) => {
        if (this.#remote === remote) this.#remote = undefined;
        for (const pending of this.#pending.values()) pending.reject(error);
      },
    );
    return remote;
  }
}

/** For root. */
export const startThread: StartRemote = (hear, ended) => {
  const worker = new Worker(program, { execArgv: [] });
  worker.unref();
  worker.on("message", hear);
  worker.on("error", (error) => ended(error as Error));
  worker.on("exit", () => ended(new Error("The thread that attaches has ended.")));
  return {
    pid: null,
    send: (message) => worker.postMessage(message, []),
    end: async () => void (await worker.terminate()),
  };
};

/** For ordinary users: in a user namespace of its own, in which it is root, and a mount namespace that follows the host's. */
export function startProcess(nodeBinary: string, user: { readonly uid?: number; readonly gid?: number }): StartRemote {
  return (hear, ended) => {
    const own = ["--user", "--map-root-user", "--mount", "--propagation", "slave", "--"];
    const child = spawn("unshare", [...own, nodeBinary, fileURLToPath(program)], {
      ...user,
      env: { PATH: hostPath },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    const gone = Promise.withResolvers<void>();
    let complaint = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (complaint = (complaint + text).slice(0, 500)));
    child.on("message", hear as (message: unknown) => void);
    child.once("error", (error) => {
      gone.resolve();
      ended(error);
    });
    child.once("exit", () => {
      gone.resolve();
      ended(new Error(`The process that attaches has ended. ${complaint.trim()}`));
    });
    child.unref();
    child.channel?.unref();
    (child.stderr as unknown as { unref(): void }).unref();
    return {
      pid: child.pid ?? null,
      // A channel that is closed tells by `exit`.
      send: (message) => void child.send(message, () => {}),
      end: async () => {
        child.ref();
        child.kill("SIGKILL");
        await gone.promise;
      },
    };
  };
}
