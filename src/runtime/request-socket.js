/**
 * The guest's end of the request connection. The last piece of an answer is held until it is known whether anything of its
 * invocation is pending: mostly nothing is, and then answer and `idleByte` leave in one write, which the host reads at once.
 * Invariant: what is held leaves before anything else, and within the turn of the event loop in which it was written. A handler
 * that computes for long after `res.end()` would keep its answer back by that: where that is seen, the next ones are not held.
 */
import { Socket } from "node:net";
import process from "node:process";
import { clearImmediate, setImmediate } from "node:timers";
import { performance } from "node:perf_hooks";
import { idleByte } from "./protocol.js";

/** @typedef {(error?: Error | null) => void} Done */
/** @typedef {{ chunk: any, encoding: BufferEncoding }} Piece */

/** Longer pieces are not held (characters or bytes): they may not fit into the kernel's buffer, and would be said to be written too soon. */
const heldLengthMax = 16_384;
/** An answer that was held for longer was held by the Function's own work; a busy machine seldom takes so long. */
const heldMsMax = 5;
/** After one that was, so many are not held. */
const unheldAnswers = 100;
const idleBytes = Buffer.from([idleByte]);
/** How a stream calls bytes, which its types do not know. */
const bytes = /** @type {BufferEncoding} */ ("buffer");
const idleText = idleBytes.toString("latin1");

// A Function may replace what it finds.
const now = performance.now.bind(performance);

export class RequestSocket extends Socket {
  /** @type {Piece[]} */
  #held = [];
  #holds = false;
  /** @type {NodeJS.Immediate | undefined} */
  #releasing;
  #heldAtMs = 0;
  /** Answers that are still to be written at once. */
  #unheld = 0;

  /** @param {import("node:net").SocketConstructorOpts} options */
  constructor(options) {
    super(options);
    // What was written before the end of the process has left it, as without holding.
    process.on("exit", () => this.release());
  }

  /**
   * What `write` writes may be held.
   * @template T
   * @param {() => T} write
   * @returns {T}
   */
  holding(write) {
    if (this.#unheld > 0) {
      this.#unheld--;
      return write();
    }
    this.#holds = true;
    try {
      return write();
    } finally {
      this.#holds = false;
    }
  }

  /** Nothing of the invocation is pending; the answer has been written. */
  idle() {
    if (!this.writable) return;
    const [only] = this.#held;
    if (this.#held.length === 1 && only !== undefined && isPlain(only)) only.chunk += idleText;
    else this.#held.push({ chunk: idleBytes, encoding: bytes });
    this.release();
  }

  /** Lets go of what is held. */
  release() {
    const pieces = this.#held;
    if (this.#releasing !== undefined) {
      clearImmediate(this.#releasing);
      this.#releasing = undefined;
      if (now() - this.#heldAtMs > heldMsMax) this.#unheld = unheldAnswers;
    }
    if (pieces.length === 0) return;
    this.#held = [];
    const [only] = pieces;
    if (pieces.length === 1 && only !== undefined) super._write(only.chunk, only.encoding, failed(this));
    else super._writev?.(pieces, failed(this));
  }

  /** @override @param {any} chunk @param {BufferEncoding} encoding @param {Done} done */
  _write(chunk, encoding, done) {
    if (this.#hold([{ chunk, encoding }])) return done();
    this.release();
    super._write(chunk, encoding, done);
  }

  /** @override @param {Piece[]} pieces @param {Done} done */
  _writev(pieces, done) {
    if (this.#hold(pieces)) return done();
    this.release();
    super._writev?.(pieces, done);
  }

  /** @override @param {Done} done */
  _final(done) {
    this.release();
    super._final(done);
  }

  /** @override @param {Error | null} error @param {Done} done */
  _destroy(error, done) {
    this.release();
    super._destroy(error, done);
  }

  /** @param {Piece[]} pieces @returns {boolean} */
  #hold(pieces) {
    if (!this.#holds || pieces.reduce((length, { chunk }) => length + chunk.length, 0) > heldLengthMax) return false;
    for (const piece of pieces) if (piece.chunk.length > 0) this.#held.push(piece);
    // Should the answer never be said to be closed.
    if (this.#releasing === undefined) {
      this.#heldAtMs = now();
      this.#releasing = setImmediate(() => this.release());
    }
    return true;
  }
}

/** Text to which the byte can be added as it is. @param {Piece} piece */
function isPlain({ chunk, encoding }) {
  return typeof chunk === "string" && (encoding === "latin1" || encoding === "utf8");
}

/** The connection's end is all that the host would know of it. @param {Socket} socket @returns {Done} */
function failed(socket) {
  return (error) => void (error && socket.destroy(error));
}
