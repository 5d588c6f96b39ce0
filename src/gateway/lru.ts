/** A map that forgets what was used least recently once its entries weigh more than `weightMax`. */
export class Lru<K, V> {
  readonly #entries = new Map<K, { readonly value: V; readonly weight: number }>();
  readonly #weightMax: number;
  readonly #onForget: ((key: K, value: V) => void) | undefined;
  #weight = 0;

  /**
   * @param weightMax in the unit of the weights given to {@link set}; entries count 1 unless told otherwise
   * @param onForget told of each value that goes: forgotten, deleted or replaced by another
   */
  constructor(weightMax: number, onForget?: (key: K, value: V) => void) {
    this.#weightMax = weightMax;
    this.#onForget = onForget;
  }

  get size(): number {
    return this.#entries.size;
  }

  get weight(): number {
    return this.#weight;
  }

  has(key: K): boolean {
    return this.#entries.has(key);
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** An entry heavier than the whole map is not kept. */
  set(key: K, value: V, weight = 1): void {
    const before = this.#entries.get(key);
    if (before !== undefined) this.#remove(key, before.weight);
    if (before !== undefined && before.value !== value) this.#onForget?.(key, before.value);
    if (weight > this.#weightMax) {
      this.#onForget?.(key, value);
      return;
    }
    this.#entries.set(key, { value, weight });
    this.#weight += weight;
    for (const [oldest, entry] of this.#entries) {
      if (this.#weight <= this.#weightMax) break;
      this.#remove(oldest, entry.weight);
      this.#onForget?.(oldest, entry.value);
    }
  }

  delete(key: K): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#remove(key, entry.weight);
    this.#onForget?.(key, entry.value);
  }

  #remove(key: K, weight: number): void {
    this.#entries.delete(key);
    this.#weight -= weight;
  }
}
