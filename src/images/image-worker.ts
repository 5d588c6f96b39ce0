/**
 * The host's side of one worker of the optimiser (worker.js in a sandbox). Everything that it says is hostile: what breaks
 * the protocol ends it. Invariant: it sees the pictures of one project only, one at a time.
 *
 * ```
 * booting ─▶ busy ⇄ resting (frozen) ─▶ over      over from anywhere: it ended, broke the protocol or was destroyed
 * ```
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { messageOf } from "../errors.ts";
import type { Sandbox, SandboxDriver, SandboxMount } from "../sandbox/sandbox.ts";
import { encodeFrame, FrameReader, madeTypes, type ImageJob } from "./frames.js";

/** Guest directory that looks like the package's root. */
const root = "/var/mayfly";
const MB = 1024 * 1024;
const sourceDirectory = import.meta.dirname;

/** What a worker made of a picture; null: it is to be given as it is. */
export type Made = { readonly type: string; readonly body: Buffer } | null;

/** The worker says that it is no picture, or one with too many pixels. */
export class PictureRefused extends Error {}
/** The worker ended before it had an answer. */
export class WorkerOver extends Error {}

/**
 * The packages that a worker loads, as its mounts.
 * @throws Error when one of them is not installed: there is none for this platform
 */
export function workerMounts(): readonly SandboxMount[] {
  const require = createRequire(import.meta.url);
  // Loads it from the file system and no further: what it does to this process is to look for its own parts.
  const sharp = dirname(dirname(require.resolve("sharp")));
  const packages = dirname(sharp);
  createRequire(join(sharp, "package.json")).resolve(`@img/sharp-${process.platform}-${process.arch}/sharp.node`);
  return [
    { source: sourceDirectory, target: `${root}/src/images`, writable: false },
    { source: join(dirname(dirname(sourceDirectory)), "package.json"), target: `${root}/package.json`, writable: false },
    ...["sharp", "@img", "detect-libc", "semver"].map((name) => ({
      source: join(packages, name),
      target: `${root}/node_modules/${name}`,
      writable: false,
    })),
  ];
}

export interface WorkerOptions {
  readonly sandboxes: SandboxDriver;
  readonly mounts: readonly SandboxMount[];
  readonly memoryMB: number;
  /** Of a picture that comes back. */
  readonly bytesMax: number;
}

export class ImageWorker {
  readonly #sandbox: Sandbox;
  readonly #over = Promise.withResolvers<never>();
  readonly #ready = Promise.withResolvers<void>();
  #job: PromiseWithResolvers<Made> | null = null;
  #isOver = false;

  /** @throws MayflyError sandbox_unavailable */
  static async boot({ sandboxes, mounts, memoryMB, bytesMax }: WorkerOptions): Promise<ImageWorker> {
    const sandbox = await sandboxes.create({
      purpose: "image",
      argv: ["/var/lang/bin/node", `${root}/src/images/worker.js`],
      // The library must not put on disk what does not fit into memory.
      env: { VIPS_DISC_THRESHOLD: "100g", MALLOC_ARENA_MAX: "2", UV_THREADPOOL_SIZE: "2" },
      cwd: "/tmp",
      mounts,
      limits: { memoryMB, cpuByMemory: false },
      tmpBytes: 4 * MB,
      processesMax: 64,
      openFilesMax: 128,
      network: "none",
    });
    return new ImageWorker(sandbox, bytesMax);
  }

  constructor(sandbox: Sandbox, bytesMax: number) {
    this.#sandbox = sandbox;
    this.#over.promise.catch(() => {});
    let said = "";
    sandbox.stdout.on("error", () => {}).resume();
    sandbox.stderr.on("error", () => {}).on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-300)));
    const frames = new FrameReader(bytesMax, (head, body) => this.#hear(head, body));
    sandbox.control
      .on("error", () => {})
      .on("data", (chunk: Buffer) => {
        try {
          frames.push(chunk);
        } catch (error) {
          this.#end(`broke its protocol: ${messageOf(error)}`);
        }
      });
    void sandbox.ended.then(({ reason, exitCode }) =>
      this.#end(reason === "out-of-memory" ? "out of memory" : `it ended (${exitCode ?? reason}) ${said.trim().split("\n").at(-1) ?? ""}`),
    );
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Makes a picture; one at a time.
   * @throws PictureRefused, WorkerOver
   */
  async make(job: ImageJob, source: Buffer): Promise<Made> {
    await Promise.race([this.#ready.promise, this.#over.promise]);
    this.#job = Promise.withResolvers<Made>();
    const made = this.#job.promise;
    this.#sandbox.control.write(encodeFrame(job, source));
    return Promise.race([made, this.#over.promise]);
  }

  async rest(): Promise<void> {
    await this.#sandbox.freeze();
  }

  async wake(): Promise<void> {
    await this.#sandbox.thaw();
  }

  async destroy(): Promise<void> {
    this.#end("it was ended");
    await this.#sandbox.destroy();
  }

  #hear(head: unknown, body: Buffer): void {
    const said = typeof head === "object" && head !== null ? (head as { kind?: unknown; type?: unknown; message?: unknown }) : {};
    if (said.kind === "ready") return this.#ready.resolve();
    const job = this.#job;
    this.#job = null;
    if (job !== null && said.kind === "made" && typeof said.type === "string" && madeTypes.includes(said.type) && body.length > 0) {
      return job.resolve({ type: said.type, body: Buffer.from(body) });
    }
    if (job !== null && said.kind === "as-is") return job.resolve(null);
    if (job !== null && said.kind === "refused" && typeof said.message === "string") {
      return job.reject(new PictureRefused(said.message.replaceAll(/[^\u0020-\u007e]+/g, " ").slice(0, 200)));
    }
    this.#end("broke its protocol");
  }

  #end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#over.reject(new WorkerOver(reason.trim()));
  }
}
