/**
 * What this gateway must no longer give, as the store says it. Read again whenever the store's revision has moved, which a
 * request asks before it is given a kept answer; so a purge that the API has acknowledged counts for every later request.
 * When the database does not answer, what is known counts on.
 */
import type { TimestampMs } from "../model.ts";
import { addPurges, everyProject, listPurges, type Purge, type PurgeMode, type StoredPurge } from "../store/purges.ts";
import { PurgeTellings } from "./purge-tellings.ts";
import type { Store } from "../store/store.ts";
import type { StoreRevision } from "./revision.ts";

/** What a purge can name of a kept answer. */
export interface PurgeScope {
  readonly projectId: string;
  readonly deploymentId: string;
  readonly tags: readonly string[];
  readonly madeAt: TimestampMs;
}

/** SEAM: the purges that count. Tests have some in memory. */
export interface PurgeLog {
  /** Reads what is new; null: nothing is, or the database does not answer. */
  refresh(): Promise<void> | null;
  /** Whether an answer was purged after it was made. */
  verdict(scope: PurgeScope): PurgeMode | null;
  /** What instances of the deployment are to know: `0;d1700000000000=tag;i…`, as runtime/purged-tags.js reads it; null: nothing. */
  told(projectId: string, deploymentId: string): string | null;
  /** Purges what was made up to `until`, here and at every other gateway of this store. */
  add(purges: readonly Purge[], until: TimestampMs): Promise<void>;
}

/** Where nothing is ever purged. */
export const noPurges: PurgeLog = { refresh: () => null, verdict: () => null, told: () => null, add: async () => {} };

export function openPurgeLog(store: Store, revision: StoreRevision): PurgeLog {
  return new StoredPurgeLog(store, revision);
}

class StoredPurgeLog implements PurgeLog {
  readonly #store: Store;
  readonly #revision: StoreRevision;
  /** That has been read. */
  #readRevision: number | null = null;
  #serial = 0;
  #refreshing: Promise<void> | null = null;
  /** Scope → the latest time up to which answers are purged. */
  readonly #times: Readonly<Record<PurgeMode, Map<string, TimestampMs>>> = { delete: new Map(), invalidate: new Map() };
  readonly #tellings = new PurgeTellings();

  constructor(store: Store, revision: StoreRevision) {
    this.#store = store;
    this.#revision = revision;
  }

  refresh(): Promise<void> | null {
    let revision: number;
    try {
      revision = this.#revision.now();
    } catch {
      return null;
    }
    if (revision === this.#readRevision) return null;
    // A read that began before this revision may have missed it: wait, then look again.
    this.#refreshing ??= this.#read(revision).finally(() => (this.#refreshing = null));
    return this.#refreshing.then(() => (this.#readRevision === revision ? undefined : (this.refresh() ?? undefined)));
  }

  async #read(revision: number): Promise<void> {
    try {
      for (const purge of await listPurges(this.#store, this.#serial)) this.#add(purge);
    } catch {
      // The database is gone: what is known counts on.
    }
    this.#readRevision = revision;
  }

  async add(purges: readonly Purge[], until: TimestampMs): Promise<void> {
    await addPurges(this.#store, purges, until);
    this.#revision.forget();
    await this.refresh();
  }

  #add({ serial, projectId, deploymentId, tag, mode, createdAt }: StoredPurge): void {
    this.#serial = Math.max(this.#serial, serial);
    const scope = projectId === everyProject ? everyProject : scopeOf(deploymentId ?? projectId, tag);
    const times = this.#times[mode];
    times.set(scope, Math.max(times.get(scope) ?? 0, createdAt));
    this.#tellings.add({ projectId, deploymentId, tag, mode, createdAt });
  }

  told(projectId: string, deploymentId: string): string | null {
    return this.#tellings.of(projectId, deploymentId);
  }

  verdict({ projectId, deploymentId, tags, madeAt }: PurgeScope): PurgeMode | null {
    for (const mode of ["delete", "invalidate"] as const) {
      const times = this.#times[mode];
      if (times.size === 0) continue;
      const isPurged = (scope: string): boolean => (times.get(scope) ?? -1) >= madeAt;
      if (isPurged(everyProject) || isPurged(scopeOf(projectId, null)) || isPurged(scopeOf(deploymentId, null))) return mode;
      if (tags.some((tag) => isPurged(scopeOf(projectId, tag)) || isPurged(scopeOf(deploymentId, tag)))) return mode;
    }
    return null;
  }
}

/** Ids have no spaces, so no tag can be taken for another project's. */
function scopeOf(id: string, tag: string | null): string {
  return tag === null ? id : `${id} ${tag}`;
}
