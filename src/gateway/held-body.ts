/**
 * A request's body, read ahead for somebody who looks at it before whoever answers does. Invariant: whoever answers gets
 * every byte once, in order, whether the reading ahead came to the end or not.
 */
import type { BodyReader } from "../functions/functions.ts";

/** What the body comes from: as much of the exchange's channel as counts here. */
interface BodyChannel {
  readBody(reader: BodyReader): void;
  pauseBody(): void;
  resumeBody(): void;
}

export class HeldBody {
  readonly #channel: BodyChannel;
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #end: "open" | "ended" | Error = "open";
  /** Whoever answers; null: nobody yet. */
  #sink: BodyReader | null = null;
  readonly #stopped = Promise.withResolvers<void>();

  constructor(channel: BodyChannel, bytesMax: number) {
    this.#channel = channel;
    this.#bytesMax = bytesMax;
    channel.readBody({
      onData: (chunk) => this.#take(chunk),
      onEnd: () => this.#over("ended"),
      onError: (error) => this.#over(error),
    });
  }

  /** Resolves when it is whole, broken, or more than it may have. */
  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  /** null: not all of it has come, or will. */
  get whole(): Buffer | null {
    return this.#end === "ended" && this.#sink === null && !this.isTooLarge ? Buffer.concat(this.#chunks, this.#bytes) : null;
  }

  /** More has come than it may have. */
  get isTooLarge(): boolean {
    return this.#bytes > this.#bytesMax;
  }

  /** Hands on what was held, and what is still to come. */
  release(sink: BodyReader): void {
    const chunks = this.#chunks;
    this.#chunks = [];
    for (const chunk of chunks) sink.onData(chunk);
    this.#sink = sink;
    if (this.#end === "open") this.#channel.resumeBody();
    else if (this.#end === "ended") sink.onEnd();
    else sink.onError(this.#end);
  }

  #take(chunk: Buffer): void {
    if (this.#sink !== null) return this.#sink.onData(chunk);
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (!this.isTooLarge) return;
    this.#channel.pauseBody();
    this.#stopped.resolve();
  }

  #over(end: "ended" | Error): void {
    this.#end = end;
    this.#stopped.resolve();
    if (this.#sink === null) return;
    if (end === "ended") this.#sink.onEnd();
    else this.#sink.onError(end);
  }
}
