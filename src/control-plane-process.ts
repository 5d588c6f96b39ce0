/**
 * Keeps one control plane process alive beside the data plane: starts it, starts it again when it has died, and closes it.
 * What the two say to each other over the channel that `fork` makes is here, too; the rest goes over a socket.
 */
import { fork, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import type { NodeFigures } from "./api/endpoint.ts";
import type { Config } from "./config.ts";
import { MayflyError, messageOf } from "./errors.ts";
import type { Log } from "./platform.ts";

/** Longest wait for the control plane's first sign of life. */
const startMsMax = 30_000;
/** Pauses before a dead control plane is started again; the last one repeats. */
const restartMs = [100, 1000, 5000, 10_000];

/** What the data plane tells its control plane first. */
export interface ControlPlaneOrder {
  readonly config: Config;
  /** The port that people reach the gateway at. */
  readonly port: number;
  /** A token this machine's user has, if any. */
  readonly token: string | null;
}

/** The control plane's first message. */
export type ControlPlaneSign =
  | { readonly type: "ready"; readonly socketPath: string; readonly newToken: string | null }
  | { readonly type: "failed"; readonly code: MayflyError["code"]; readonly message: string };

/** Asked by the control plane while it runs. */
export interface FiguresQuestion {
  readonly type: "figures";
  readonly number: number;
}

export interface FiguresAnswer extends FiguresQuestion {
  readonly figures: NodeFigures;
}

/** Keeps one control plane process alive beside the data plane. */
export class ControlPlaneProcess {
  readonly #order: ControlPlaneOrder;
  readonly #log: Log;
  readonly #figures: () => NodeFigures;
  #child: ChildProcess | null = null;
  #socketPath: string | null = null;
  #restarts = 0;
  #closing = false;

  constructor(order: ControlPlaneOrder, log: Log, figures: () => NodeFigures) {
    this.#order = order;
    this.#log = log;
    this.#figures = figures;
  }

  /** Of the running control plane; null while there is none. */
  get socketPath(): string | null {
    return this.#socketPath;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Starts it and waits until it answers.
   * @returns a new token for this machine's user, if one was made
   * @throws MayflyError with the reason for which it could not start
   */
  async start(): Promise<string | null> {
    const child = fork(join(import.meta.dirname, "control-plane-main.js"), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child = child;
    child.on("message", (message) => {
      const { type, number } = message as Partial<FiguresQuestion>;
      if (type === "figures") child.send({ type, number: number!, figures: this.#figures() } satisfies FiguresAnswer, () => {});
    });
    const ready = await new Promise<ControlPlaneSign>((answer) => {
      const deadline = setTimeout(
        () => answer({ type: "failed", code: "timeout", message: "The control plane did not start in time." }),
        startMsMax,
      );
      const settle = (sign: ControlPlaneSign) => {
        clearTimeout(deadline);
        answer(sign);
      };
      child.once("message", (sign) => settle(sign as ControlPlaneSign));
      child.once("exit", (code) => settle({ type: "failed", code: "internal_error", message: `The control plane ended with ${code}.` }));
      child.send(this.#order);
    });
    if (ready.type === "failed") {
      child.removeAllListeners("exit");
      child.kill("SIGKILL");
      throw new MayflyError(ready.code, ready.message);
    }
    this.#socketPath = ready.socketPath;
    child.once("exit", () => this.#restart());
    return ready.newToken;
  }

  async close(): Promise<void> {
    this.#closing = true;
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((answer) => child.once("exit", answer));
    child.disconnect(); // its sign to close
    const deadline = setTimeout(() => child.kill("SIGKILL"), this.#order.config.drainMs + 5000);
    await ended;
    clearTimeout(deadline);
  }

  #restart(): void {
    this.#socketPath = null;
    if (this.#closing) return;
    const pause = restartMs[Math.min(this.#restarts++, restartMs.length - 1)]!;
    this.#log(`The control plane has ended; it is started again in ${pause} ms. Sites serve on.`);
    setTimeout(() => {
      if (this.#closing) return;
      this.start().then(
        () => (this.#restarts = 0),
        (error: unknown) => {
          this.#log(messageOf(error));
          this.#restart();
        },
      );
    }, pause);
  }
}
