/**
 * What the instances of a deployment are told about purges, as a header of each request: they hold data of their own that the
 * same tags name. Invariant: what does not fit is told as "whatever is older", so an instance may make too much anew, but never
 * gives what was purged.
 */
import type { TimestampMs } from "../model.ts";
import { everyProject, type StoredPurge } from "../store/purges.ts";

type TaggedPurge = Pick<StoredPurge, "projectId" | "deploymentId" | "tag" | "mode" | "createdAt">;

/** That are told one by one, the newest. */
const tagsMax = 32;
const scopesMax = 10_000;

interface Telling {
  all: TimestampMs;
  /** `d=tag` → time; least recently purged first. */
  readonly tags: Map<string, TimestampMs>;
  text: string | null;
}

export class PurgeTellings {
  /** Deployment or project → what was purged of it. */
  readonly #tellings = new Map<string, Telling>();
  #all: TimestampMs = 0;

  add({ projectId, deploymentId, tag, mode, createdAt }: TaggedPurge): void {
    // Groups and pages are the edge's own: an instance keeps neither.
    if (tag?.startsWith(" ") === true) return;
    if (projectId === everyProject) {
      this.#all = Math.max(this.#all, createdAt);
      return;
    }
    const telling = this.#tellingOf(deploymentId ?? projectId);
    telling.text = null;
    if (tag === null) {
      telling.all = Math.max(telling.all, createdAt);
      return;
    }
    const name = `${mode === "delete" ? "d" : "i"}=${encodeURIComponent(tag.toWellFormed())}`;
    const until = Math.max(telling.tags.get(name) ?? 0, createdAt);
    telling.tags.delete(name);
    telling.tags.set(name, until);
    for (const [oldest, time] of telling.tags) {
      if (telling.tags.size <= tagsMax) break;
      telling.tags.delete(oldest);
      telling.all = Math.max(telling.all, time);
    }
  }

  /** `0;d1700000000000=tag;i…`; null: there is nothing to tell */
  of(projectId: string, deploymentId: string): string | null {
    const own = this.#tellings.get(deploymentId);
    const shared = this.#tellings.get(projectId);
    if (own === undefined && shared === undefined) return this.#all === 0 ? null : String(this.#all);
    return `${Math.max(this.#all, own?.all ?? 0, shared?.all ?? 0)}${textOf(own)}${textOf(shared)}`;
  }

  #tellingOf(scope: string): Telling {
    const known = this.#tellings.get(scope);
    if (known !== undefined) return known;
    const telling: Telling = { all: 0, tags: new Map(), text: null };
    this.#tellings.set(scope, telling);
    for (const [oldest, { all, tags }] of this.#tellings) {
      if (this.#tellings.size <= scopesMax) break;
      this.#tellings.delete(oldest);
      this.#all = Math.max(this.#all, all, ...tags.values());
    }
    return telling;
  }
}

function textOf(telling: Telling | undefined): string {
  if (telling === undefined) return "";
  telling.text ??= [...telling.tags].map(([name, until]) => `;${name[0]}${until}${name.slice(1)}`).join("");
  return telling.text;
}
