/**
 * Build sandboxes that wait, booted, their worker warm and frozen, for the next build. Nothing of a project is in them, and
 * each goes to one build and then away. They are spare: while the machine is short of memory there are none, and a build
 * boots its own. Invariant: at most `size`, one boots at a time, and none is left after `close`.
 */
import { freemem } from "node:os";
import type { Clock } from "../clock.ts";
import { messageOf } from "../errors.ts";
import type { BuildSandbox } from "./build-sandbox.ts";

export interface BuildStandbyOptions {
  readonly clock: Clock;
  readonly size: number;
  /** None waits while the machine has less memory to give than this. */
  readonly memoryBytesMin: number;
  readonly boot: () => Promise<BuildSandbox>;
}

/** The end of a build is news that others act on: that comes before the next spare. */
const refillMs = 200;
/** After a boot that failed, or a look at the memory, comes the next so much later. */
const lookMs = 10_000;

export class BuildStandby {
  readonly #options: BuildStandbyOptions;
  readonly #waiting: BuildSandbox[] = [];
  readonly #ending = new Set<Promise<void>>();
  #booting: Promise<void> | undefined;
  #cancelLook: () => void = () => {};
  #closed = false;

  constructor(options: BuildStandbyOptions) {
    this.#options = options;
  }

  /** How many wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /** One that runs, or undefined: none waits. The caller disposes of it, and calls {@link refill} when its own hurry is over. */
  async take(): Promise<BuildSandbox | undefined> {
    // One that is about to be ready is ready sooner than another would be.
    if (this.#waiting.length === 0) await this.#booting;
    const taken = this.#waiting.shift();
    await taken?.sandbox.thaw();
    return taken;
  }

  /** Fills in a moment. */
  refill(): void {
    this.#options.clock.after(refillMs, () => this.fill());
  }

  /** Boots in the background what is missing. */
  fill(): void {
    if (this.#closed || this.#options.size === 0) return;
    this.#cancelLook();
    this.#cancelLook = this.#options.clock.after(lookMs, () => this.fill());
    if (freemem() < this.#options.memoryBytesMin) for (const spare of this.#waiting.splice(0)) this.#dispose(spare);
    else if (this.#waiting.length < this.#options.size) this.#booting ??= this.#boot().finally(() => (this.#booting = undefined));
  }

  async #boot(): Promise<void> {
    while (!this.#closed && this.#waiting.length < this.#options.size) {
      try {
        const spare = await this.#options.boot();
        this.#waiting.push(spare);
        void this.#watch(spare);
      } catch (error) {
        if (!this.#closed) process.emitWarning(`Cannot boot a sandbox for the next build: ${messageOf(error)}`);
        return;
      }
    }
  }

  /** One that ends while it waits is no use. */
  async #watch(spare: BuildSandbox): Promise<void> {
    await spare.sandbox.ended;
    const index = this.#waiting.indexOf(spare);
    if (index !== -1) this.#dispose(this.#waiting.splice(index, 1)[0]!);
  }

  #dispose(spare: BuildSandbox): void {
    const ending: Promise<void> = spare.dispose().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
    ending.catch((error: unknown) => process.emitWarning(`Cannot remove a sandbox: ${messageOf(error)}`));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelLook();
    await this.#booting;
    for (const spare of this.#waiting.splice(0)) this.#dispose(spare);
    await Promise.allSettled(this.#ending);
  }
}
