/** Times in milliseconds, and what is said of them: medians and tails, because machines are noisy. */

export class Sample {
  readonly #ms: number[] = [];

  add(ms: number): void {
    this.#ms.push(ms);
  }

  /** Times one call. */
  async time<T>(call: () => Promise<T>): Promise<T> {
    const begin = performance.now();
    const result = await call();
    this.add(performance.now() - begin);
    return result;
  }

  get count(): number {
    return this.#ms.length;
  }

  /** The value that `share` (0 to 1) of the sample does not exceed. */
  quantile(share: number): number {
    const sorted = this.#ms.toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  }

  get p50(): number {
    return this.quantile(0.5);
  }

  get p99(): number {
    return this.quantile(0.99);
  }
}
