/**
 * The store's revision as of this turn of the event loop. To ask costs system calls, and the requests that are read in one
 * turn can share the answer: none of them can follow a commit that became known to anybody after it was asked.
 */
import type { Store } from "../store/store.ts";

export class StoreRevision {
  readonly #store: Pick<Store, "revision">;
  #now: number | null = null;

  constructor(store: Pick<Store, "revision">) {
    this.#store = store;
  }

  /** @throws what the store does when the database is gone */
  now(): number {
    if (this.#now === null) {
      this.#now = this.#store.revision();
      setImmediate(this.forget);
    }
    return this.#now;
  }

  /** This process has committed something itself. */
  readonly forget = (): void => {
    this.#now = null;
  };
}
