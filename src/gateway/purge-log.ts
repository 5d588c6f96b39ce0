/**
 * What this gateway must no longer give, as the store says it. Read again whenever the store's revision has moved, which a
 * request asks before it is given a kept answer; so a purge that the API has acknowledged counts for every later request.
 * When the database does not answer, what is known counts on. Invariant: what is held is bounded, as it is in the store; a
 * project that purges without end has more of its own purged, and nobody else.
 */
import type { TimestampMs } from "../model.ts";
import { addPurges, everyProject, listPurges, purgesMax, type Purge, type PurgeMode, type StoredPurge } from "../store/purges.ts";
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
  readonly #projects = new Map<string, ProjectPurges>();
  /** Narrower scopes of all projects. */
  #scopes = 0;
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
    this.#tellings.add({ projectId, deploymentId, tag, mode, createdAt });
    let purges = this.#projects.get(projectId);
    if (purges === undefined) this.#projects.set(projectId, (purges = { whole: { delete: -1, invalidate: -1 }, scopes: new Map() }));
    if (deploymentId === null && tag === null) {
      purges.whole[mode] = Math.max(purges.whole[mode], createdAt);
      return;
    }
    const scope = scopeOf(mode, deploymentId ?? projectId, tag);
    const until = Math.max(purges.scopes.get(scope) ?? 0, createdAt);
    this.#scopes -= Number(purges.scopes.delete(scope));
    purges.scopes.set(scope, until);
    if (++this.#scopes > purgesMax) this.#fold();
  }

  told(projectId: string, deploymentId: string): string | null {
    return this.#tellings.of(projectId, deploymentId);
  }

  /** As the store does: the older half of the project that has most purges all of it that is older. */
  #fold(): void {
    const loudest = [...this.#projects.values()].reduce((most, each) => (each.scopes.size > most.scopes.size ? each : most));
    const { whole, scopes } = loudest;
    let left = Math.ceil(scopes.size / 2);
    for (const [scope, until] of scopes) {
      if (left-- === 0) return;
      scopes.delete(scope);
      this.#scopes--;
      whole.delete = Math.max(whole.delete, until);
    }
  }

  verdict({ projectId, deploymentId, tags, madeAt }: PurgeScope): PurgeMode | null {
    const purges = this.#projects.get(projectId);
    for (const mode of ["delete", "invalidate"] as const) {
      if ((this.#projects.get(everyProject)?.whole[mode] ?? -1) >= madeAt) return mode;
      if (purges === undefined) continue;
      if (purges.whole[mode] >= madeAt) return mode;
      const isPurged = (id: string, tag: string | null): boolean => (purges.scopes.get(scopeOf(mode, id, tag)) ?? -1) >= madeAt;
      if (purges.scopes.size === 0) continue;
      if (isPurged(deploymentId, null) || tags.some((tag) => isPurged(projectId, tag) || isPurged(deploymentId, tag))) return mode;
    }
    return null;
  }
}

/** Of one project: the latest times up to which answers are purged; -1: none are. */
interface ProjectPurges {
  readonly whole: Record<PurgeMode, TimestampMs>;
  /** By narrower scope, the one purged longest ago first. */
  readonly scopes: Map<string, TimestampMs>;
}

/** Ids have no spaces, so no tag can be taken for a part of another. */
function scopeOf(mode: PurgeMode, id: string, tag: string | null): string {
  return tag === null ? `${mode} ${id}` : `${mode} ${id} ${tag}`;
}
