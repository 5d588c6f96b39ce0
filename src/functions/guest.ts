/**
 * A sandbox in which the runtime runs: the host's side of the guest protocol (runtime/protocol.js). Hides control lines,
 * checks every one of them, and finds out why a guest ended. Invariant: after `over` nothing of it reaches anybody.
 *
 * ```
 * booting ─▶ ready ─▶ loading ─▶ loaded ─▶ leaving     over from anywhere: it ended, closed a channel or broke the protocol
 * ```
 */
import type { Readable } from "node:stream";
import type { Clock } from "../clock.ts";
import type { ErrorCode } from "../errors.ts";
import {
  controlLineBytesMax,
  loadFailureLengthMax,
  type GuestMessage,
  type HostMessage,
  type LoadMessage,
  type PackUse,
} from "../runtime/protocol.js";
import type { Sandbox, SandboxEnd } from "../sandbox/sandbox.ts";
import { Flow } from "./flow.ts";
import { LineCutter } from "./lines.ts";
import { Wire, type WireReader, type WireRequest } from "./wire.ts";

export interface GuestOptions {
  readonly clock: Clock;
  readonly lineBytesMax: number;
  readonly headBytesMax: number;
  /** A guest that writes more has to wait. */
  readonly linesPerSecond: number;
}

/** Why a guest is of no more use. */
export interface GuestEnd {
  readonly code: ErrorCode;
  /** For the log: `exit code 1`. */
  readonly reason: string;
  readonly outOfMemory?: boolean;
}

/** A guest that closed its channels gets so long to be seen exiting, so that the reason is known. */
const exitMsMax = 1000;
/** The rest of what an ended guest answered is read for so long; shorter than {@link exitMsMax}, so that its exit code is told. */
const readOutMsMax = 500;
const packUses: readonly PackUse[] = ["plain", "recorded", "rejected"];

export class Guest {
  readonly sandbox: Sandbox;
  readonly ready: Promise<void>;
  /** Resolves with the reason when it is of no more use; never rejects. Its sandbox is then still to be destroyed. */
  readonly over: Promise<GuestEnd>;
  /** Set by the owner. */
  onLine: (stream: "stdout" | "stderr", text: string) => void = () => {};
  /** Set by the owner: so many lines came too fast and were dropped. */
  onLinesDropped: (lines: number) => void = () => {};
  /** Set by the owner: an upgrade is over and nothing of it is pending. */
  onIdle: () => void = () => {};

  readonly #clock: Clock;
  readonly #wire: Wire;
  readonly #cutters: readonly LineCutter[];
  readonly #flow: Flow;
  readonly #outputClosed: Promise<unknown>;
  readonly #ready = Promise.withResolvers<void>();
  readonly #loaded = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<GuestEnd>();
  #packUse: PackUse | undefined;
  #state: "booting" | "ready" | "loading" | "loaded" | "leaving" | "over" = "booting";
  /** A load that was asked for before it was ready. */
  #load: LoadMessage | undefined;
  #unread: Buffer = Buffer.alloc(0);
  #heapExhausted = false;

  constructor(sandbox: Sandbox, options: GuestOptions) {
    this.sandbox = sandbox;
    this.#clock = options.clock;
    this.ready = this.#ready.promise;
    this.over = this.#over.promise;
    this.ready.catch(() => {});
    this.#loaded.promise.catch(() => {});

    const { stdout, stderr } = sandbox;
    this.#flow = new Flow([stdout, stderr], {
      clock: options.clock,
      linesPerSecond: options.linesPerSecond,
      onDropped: (lines) => this.onLinesDropped(lines),
    });
    const cut = (name: "stdout" | "stderr", stream: Readable): LineCutter => {
      const cutter = new LineCutter(options.lineBytesMax, (text) => {
        if (name === "stderr" && text.includes("JavaScript heap out of memory")) this.#heapExhausted = true;
        if (this.#flow.take()) this.onLine(name, text);
      });
      stream.on("data", (chunk: Buffer) => {
        cutter.push(chunk);
        this.#flow.settle();
      });
      return cutter;
    };
    this.#cutters = [cut("stdout", stdout), cut("stderr", stderr)];
    this.#outputClosed = Promise.all(
      [stdout, stderr].map((stream) => new Promise<void>((resolve) => stream.once("close", () => resolve()))),
    );
    for (const stream of [stdout, stderr]) stream.on("error", () => {});

    this.#wire = new Wire(sandbox.requests, options.headBytesMax, ({ why, message }) => {
      if (why === "closed") void this.#afterClose();
      else this.#breach(message);
    });
    sandbox.control.on("data", (chunk: Buffer) => this.#receive(chunk));
    for (const event of ["end", "close", "error"]) sandbox.control.on(event, () => void this.#afterClose());
    void sandbox.ended.then((end) => this.#whenReadOut(() => this.#ended(end)));
  }

  /**
   * Makes it one Function; to be called once, also before it is ready.
   * @throws LoadError when the Function's code cannot be loaded; never settles when the guest is over
   */
  load(message: LoadMessage): Promise<void> {
    if (this.#state === "ready") this.#sendLoad(message);
    else this.#load = message;
    return this.#loaded.promise;
  }

  /** It may be sent a request. */
  get usable(): boolean {
    return this.#state === "loaded" && !this.#wire.broken;
  }

  /** It can hear a goodbye. */
  get listening(): boolean {
    return this.#state === "loaded";
  }

  /** @throws MayflyError BAD_REQUEST, when nothing was sent */
  send(request: WireRequest, reader: WireReader): void {
    this.#wire.send(request, reader);
  }

  /** The reader takes more of the response. */
  resume(): void {
    this.#wire.resume();
  }

  /** The client of an upgrade has gone. */
  hangUp(): void {
    this.#wire.hangUp();
  }

  /** Nobody wants the rest of what it answers. It is of no further use. */
  drop(): void {
    this.#wire.drop();
  }

  /** How it used its module pack, if it has one. */
  get packUse(): PackUse | undefined {
    return this.#packUse;
  }

  /**
   * What V8 has compiled of its module pack, to be kept for a later instance. Only when it has no work and gets none any more;
   * it is of no further use when it answers too much. Never settles when it is over.
   */
  record(bytesMax: number): Promise<Buffer | null> {
    const { promise, resolve } = Promise.withResolvers<Buffer | null>();
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isRecord = false;
    const request = { method: "GET", url: `/${bytesMax}`, headers: [], body: null, isForRecord: true } as const;
    this.#wire.send(request, {
      head: (status) => (isRecord = status === 200),
      data: (chunk) => {
        bytes += chunk.length;
        if (bytes <= bytesMax) chunks.push(chunk);
        else {
          this.#wire.drop();
          resolve(null);
        }
        return true;
      },
      end: () => {},
      idle: () => {},
      done: () => resolve(isRecord && bytes > 0 ? Buffer.concat(chunks) : null),
      abandoned: () => resolve(null),
    });
    return promise;
  }

  /** Lets the Function hear SIGTERM and the process end by itself; what it says from then on is not heard. Only when loaded. */
  retire(): void {
    if (this.#state !== "loaded") return;
    this.#state = "leaving";
    this.#say({ type: "retire" });
  }

  /** Gives out what was printed without a newline. */
  flushLines(): void {
    for (const cutter of this.#cutters) cutter.flush();
  }

  /** Resolves when the last it printed has been given to `onLine`. Only after the sandbox ended or was destroyed. */
  async drained(): Promise<void> {
    this.#flow.open();
    await this.#outputClosed;
    this.flushLines();
    this.#flow.report();
  }

  #sendLoad(message: LoadMessage): void {
    this.#state = "loading";
    this.#say(message);
  }

  #say(message: HostMessage): void {
    this.sandbox.control.write(`${JSON.stringify(message)}\n`);
  }

  #receive(chunk: Buffer): void {
    let rest = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    for (;;) {
      const end = rest.indexOf(0x0a);
      if ((end === -1 ? rest.length : end) > controlLineBytesMax) return this.#breach("its control line is too long");
      if (end === -1) break;
      this.#hear(rest.toString("utf8", 0, end));
      if (this.#state === "over") return;
      rest = rest.subarray(end + 1);
    }
    this.#unread = rest.length === 0 ? rest : Buffer.from(rest);
  }

  #hear(line: string): void {
    if (this.#state === "leaving") return;
    const message = parseGuestMessage(line);
    if (message?.type === "ready" && this.#state === "booting") {
      this.#state = "ready";
      this.#ready.resolve();
      if (this.#load !== undefined) this.#sendLoad(this.#load);
    } else if (message?.type === "loaded" && this.#state === "loading") {
      this.#state = "loaded";
      this.#packUse = message.pack;
      this.#loaded.resolve();
    } else if (message?.type === "load-failed" && this.#state === "loading") {
      this.#loaded.reject(new LoadError(message.message));
    } else if (message?.type === "idle" && this.#state === "loaded") {
      this.onIdle();
    } else {
      this.#breach(`its control line is not expected: ${line.slice(0, 100)}`);
    }
  }

  #breach(message: string): void {
    this.#end({ code: "FUNCTION_RESPONSE_INVALID", reason: `broke the guest protocol: ${message}` });
  }

  async #afterClose(): Promise<void> {
    const cancel = this.#clock.after(exitMsMax, () =>
      this.#end({ code: "FUNCTION_INVOCATION_FAILED", reason: "closed its connection to the platform" }),
    );
    await this.over;
    cancel();
  }

  /** What it answered before it ended may still be on its way: the end of the process is often seen before that of its connection. */
  #whenReadOut(then: () => void): void {
    const { requests } = this.sandbox;
    if (requests.readableEnded || requests.destroyed) return void setImmediate(then);
    const over = (): void => {
      cancel();
      for (const event of ["end", "close"]) requests.off(event, over);
      setImmediate(then);
    };
    const cancel = this.#clock.after(readOutMsMax, over);
    for (const event of ["end", "close"]) requests.on(event, over);
  }

  #ended(end: SandboxEnd): void {
    // 128 + SIGABRT: how Node ends when its heap is full.
    const heapFull = this.#heapExhausted && (end.exitCode === 134 || end.exitCode === null);
    if (end.reason === "out-of-memory" || heapFull) {
      this.#end({ code: "FUNCTION_INVOCATION_FAILED", reason: "out of memory", outOfMemory: true });
    } else if (end.exitCode === 0) this.#end({ code: "NO_RESPONSE_FROM_FUNCTION", reason: "exit code 0" });
    else this.#end({ code: "FUNCTION_INVOCATION_FAILED", reason: end.exitCode === null ? "it ended" : `exit code ${end.exitCode}` });
  }

  #end(end: GuestEnd): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#over.resolve(end);
    this.#ready.reject(new Error(end.reason));
  }
}

/** A Function's code failed while it was loaded; the stack is on its stderr. */
export class LoadError extends Error {
  override readonly name = "LoadError";
}

/** @returns undefined for anything that is no message of the protocol */
function parseGuestMessage(line: string): GuestMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || !("type" in value)) return undefined;
  switch (value.type) {
    case "ready":
      return { type: "ready" };
    case "loaded":
      return {
        type: "loaded",
        ms: "ms" in value && typeof value.ms === "number" ? value.ms : 0,
        pack: "pack" in value ? packUses.find((use) => use === value.pack) : undefined,
      };
    case "load-failed": {
      const message = "message" in value && typeof value.message === "string" ? value.message : "";
      return { type: "load-failed", message: message.slice(0, loadFailureLengthMax) };
    }
    case "idle":
      return { type: "idle" };
    default:
      return undefined;
  }
}
