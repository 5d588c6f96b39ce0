/**
 * A map that forgets what was used least recently once its entries weigh more than `weightMax`. Invariant: to use an entry
 * allocates nothing. (A JavaScript `Map` whose keys are deleted and set again makes a new table every few times, and old
 * tables keep younger ones alive until the whole heap is collected.)
 */
export class Lru<K, V> {
  readonly #entries = new Map<K, Entry<K, V>>();
  readonly #weightMax: number;
  readonly #onForget: ((key: K, value: V) => void) | undefined;
  #weight = 0;
  #oldest: Entry<K, V> | null = null;
  #newest: Entry<K, V> | null = null;

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
    this.#use(entry);
    return entry.value;
  }

  /** An entry heavier than the whole map is not kept. */
  set(key: K, value: V, weight = 1): void {
    const before = this.#entries.get(key);
    if (weight > this.#weightMax) {
      if (before !== undefined) this.#remove(before);
      if (before !== undefined && before.value !== value) this.#onForget?.(key, before.value);
      this.#onForget?.(key, value);
      return;
    }
    if (before === undefined) {
      const entry: Entry<K, V> = { key, value, weight, older: null, newer: null };
      this.#entries.set(key, entry);
      this.#append(entry);
      this.#weight += weight;
    } else {
      const replaced = before.value;
      this.#weight += weight - before.weight;
      before.value = value;
      before.weight = weight;
      this.#use(before);
      if (replaced !== value) this.#onForget?.(key, replaced);
    }
    while (this.#weight > this.#weightMax && this.#oldest !== null) {
      const oldest = this.#oldest;
      this.#remove(oldest);
      this.#onForget?.(oldest.key, oldest.value);
    }
  }

  delete(key: K): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#remove(entry);
    this.#onForget?.(key, entry.value);
  }

  #remove(entry: Entry<K, V>): void {
    this.#entries.delete(entry.key);
    this.#weight -= entry.weight;
    this.#unlink(entry);
  }

  #use(entry: Entry<K, V>): void {
    if (entry === this.#newest) return;
    this.#unlink(entry);
    this.#append(entry);
  }

  #append(entry: Entry<K, V>): void {
    entry.older = this.#newest;
    if (this.#newest === null) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
  }

  #unlink(entry: Entry<K, V>): void {
    if (entry.older === null) this.#oldest = entry.newer;
    else entry.older.newer = entry.newer;
    if (entry.newer === null) this.#newest = entry.older;
    else entry.newer.older = entry.older;
    entry.older = entry.newer = null;
  }
}

interface Entry<K, V> {
  readonly key: K;
  value: V;
  weight: number;
  older: Entry<K, V> | null;
  newer: Entry<K, V> | null;
}
