/** Time as a value that is handed in, so that tests own it. Nothing else in `src/` reads the clock for decisions. */

export interface Clock {
  /** Milliseconds since 1970-01-01 UTC: for what is written down or shown. It jumps when somebody sets it. */
  now(): number;
  /** Milliseconds since some moment: for durations and deadlines. It never jumps. */
  elapsed(): number;
  /** Calls `callback` once after `ms`; the returned function takes it back. Does not keep the process alive. */
  after(ms: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
