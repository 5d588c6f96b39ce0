/**
 * The streams between host and guest. Hides that a stream nobody reads never closes and that
 * an unheard `error` would end the platform: after `closeSoon` every descriptor is given back, read or not.
 */
import { Duplex, Readable } from "node:stream";

/** After the guest's end its last output may still be read for so long. */
const lingerMs = 1000;

export class Channels {
  readonly control: Duplex;
  readonly requests: Duplex;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles when the guest has closed its control channel, which a quick one does before anybody listens. */
  readonly controlClosed: Promise<void>;

  /** The streams as `child.stdio` has them, from descriptor 1 on. */
  constructor([stdout, stderr, control, requests]: readonly unknown[]) {
    if (!(stdout instanceof Readable && stderr instanceof Readable && control instanceof Duplex && requests instanceof Duplex)) {
      throw new TypeError("A guest needs pipes at descriptors 1 to 4.");
    }
    this.stdout = stdout;
    this.stderr = stderr;
    this.control = control;
    this.requests = requests;
    this.controlClosed = new Promise((closed) => control.once("close", () => closed()));
    // A guest that dies resets its sockets. Whoever uses a stream sees its `close`; that is all there is to know.
    for (const stream of this.#all()) stream.on("error", () => {});
  }

  /**
   * To be called when the spawned program has exited. Node then makes streams that nobody reads yet flow, and so loses
   * what they carry; a passing listener keeps them as they are.
   */
  keepUnread(): void {
    for (const stream of this.#all()) {
      if (stream.readableFlowing !== null || stream.destroyed) continue;
      const hold = (): void => {};
      stream.on("readable", hold);
      setImmediate(() => stream.removeListener("readable", hold));
    }
  }

  /** Lets readers have what is left, last messages and last words, then closes what is still open. */
  closeSoon(): void {
    const timer = setTimeout(() => this.closeNow(), lingerMs);
    timer.unref();
  }

  closeNow(): void {
    for (const stream of this.#all()) stream.destroy();
  }

  #all(): readonly (Duplex | Readable)[] {
    return [this.stdout, this.stderr, this.control, this.requests];
  }
}
