/**
 * How long an idle instance is kept, learnt from the gaps between a Function's requests (pure). As in "Serverless in the
 * Wild" (Shahrad et al., 2020): a histogram of whole minutes up to four hours; kept until the 99th percentile and a
 * margin. Too few gaps, or too scattered ones, say nothing: then the fixed time holds. Absent on purpose: boots ahead of
 * the request, since a cold start is cheaper here than a wrong guess.
 */

export interface KeepAliveBounds {
  /** Until the rhythm is known; 0: nothing idle is kept at all. */
  readonly fixedMs: number;
  /** Of what was learnt, and of surplus instances. */
  readonly msMin: number;
  readonly msMax: number;
}

const bucketMs = 60_000;
const buckets = 240;
const samplesMin = 20;
/** Beyond so many all counts are halved, so that a rhythm that has changed is forgotten. */
const samplesMax = 10_000;
const percentile = 0.99;
const margin = 1.1;
/** Below this coefficient of variation of the buckets' counts, gaps are scattered: no length stands out. */
const variationMin = 2;

/** The idle gaps of one Function: about 500 bytes. */
export class IdleGaps {
  readonly #counts = new Uint16Array(buckets);
  #within = 0;
  #beyond = 0;

  /** Notes that a Function without work got some after `ms`. */
  record(ms: number): void {
    const bucket = Math.floor(Math.max(0, ms) / bucketMs);
    if (bucket >= buckets) this.#beyond++;
    else {
      this.#counts[bucket]!++;
      this.#within++;
    }
    if (this.#within + this.#beyond > samplesMax) this.#halve();
  }

  /** How long the first of a Function's instances is kept idle. */
  keepMs({ fixedMs, msMin, msMax }: KeepAliveBounds): number {
    if (fixedMs === 0 || this.#within < samplesMin || this.#beyond > this.#within || this.#variation() < variationMin) return fixedMs;
    return Math.min(msMax, Math.max(msMin, Math.round(this.#tailMs() * margin)));
  }

  /** The upper edge of the bucket that the percentile falls into. */
  #tailMs(): number {
    let left = Math.ceil(this.#within * percentile);
    for (let bucket = 0; bucket < buckets; bucket++) {
      left -= this.#counts[bucket]!;
      if (left <= 0) return (bucket + 1) * bucketMs;
    }
    return buckets * bucketMs;
  }

  #variation(): number {
    const mean = this.#within / buckets;
    let squares = 0;
    for (const count of this.#counts) squares += (count - mean) ** 2;
    return Math.sqrt(squares / buckets) / mean;
  }

  #halve(): void {
    this.#within = 0;
    for (let bucket = 0; bucket < buckets; bucket++) {
      this.#counts[bucket]! >>= 1;
      this.#within += this.#counts[bucket]!;
    }
    this.#beyond >>= 1;
  }
}

/**
 * How long the `rank`-th of several idle instances is kept, the last used one being 0: the second half as long, the third
 * a third, so that what a burst left goes soon and the last one last.
 */
export function surplusKeepMs(keepMs: number, rank: number, { msMin }: KeepAliveBounds): number {
  return rank === 0 ? keepMs : Math.min(keepMs, Math.max(msMin, keepMs / (rank + 1)));
}
