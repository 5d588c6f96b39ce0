/**
 * Collection of blobs that nothing refers to: mark, wait, look again, sweep. Everything in use is reached from the
 * documents that rows name; a digest in one of them counts, whatever it means there. A blob goes only when it was found
 * unused twice, `gcGraceMs` apart (longer than any build or upload), no client has announced it in that time, and nobody
 * has stored or asked for it since the second look began. So nothing that is on its way is lost.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import type { Digest } from "../model.ts";
import { forgetGarbage, listFreshUploads, listRoots, recordGarbage, releaseUploads } from "../store/garbage.ts";
import type { Store } from "../store/store.ts";

const digestsAtOnce = 500;

export interface GarbageReport {
  /** Blobs kept, in use or on their way. */
  readonly kept: number;
  /** Unused, but not for long enough. */
  readonly waiting: number;
  /** Deleted; in a dry run: that would be. */
  readonly deleted: number;
  /** Of what was, or would be, deleted. */
  readonly bytes: number;
}

export interface GarbageParts {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly clock: Clock;
  readonly config: Pick<Config, "gcGraceMs">;
}

/**
 * @param options graceMs: instead of the configured one
 * @throws MayflyError internal_error: a document cannot be read; nothing is deleted then
 */
export async function collectGarbage(
  { store, blobs, clock, config }: GarbageParts,
  options: { readonly dryRun: boolean },
): Promise<GarbageReport> {
  const now = clock.now();
  const begun = await blobs.mark();
  const freshSinceMs = now - config.gcGraceMs;
  const used = await reach(store, blobs);
  for (const digest of await listFreshUploads(store, freshSinceMs)) used.add(digest);
  const unused = new Map<Digest, number>();
  let kept = 0;
  for await (const { digest, size } of blobs.list()) {
    if (used.has(digest)) kept++;
    else unused.set(digest, size);
  }
  const due = await recordGarbage(store, unused, now, freshSinceMs);
  const report = { kept, waiting: unused.size - due.size };
  const sizes = (digests: Iterable<Digest>) => [...digests].reduce((sum, digest) => sum + due.get(digest)!, 0);
  if (options.dryRun) return { ...report, deleted: due.size, bytes: sizes(due.keys()) };

  const deleted: Digest[] = [];
  const digests = [...due.keys()];
  for (let start = 0; start < digests.length; start += digestsAtOnce) {
    const released = await releaseUploads(store, digests.slice(start, start + digestsAtOnce), freshSinceMs);
    const gone: Digest[] = [];
    for (const digest of released) if (await blobs.deleteUntouched(digest, begun)) gone.push(digest);
    if (gone.length > 0) await forgetGarbage(store, gone);
    deleted.push(...gone);
  }
  return { ...report, deleted: deleted.length, bytes: sizes(deleted) };
}

/** Every digest that can be reached from the rows. */
export async function reach(store: Store, blobs: Pick<BlobStore, "read">): Promise<Set<Digest>> {
  const used = new Set<Digest>();
  const read = new Set<Digest>();
  let documents = await listRoots(store);
  while (documents.size > 0) {
    const next = new Set<Digest>();
    for (const document of documents) {
      read.add(document);
      used.add(document);
      let text: string;
      try {
        text = (await blobs.read(document)).toString("latin1");
      } catch (error) {
        throw new MayflyError("internal_error", `The document ${document} cannot be read: nothing was deleted.`, { cause: error });
      }
      for (const [digest] of text.matchAll(/(?<=")[0-9a-f]{64}(?=")/g)) used.add(digest);
      // A document names others by keys that end so: the file lists of bundles, for one.
      for (const [, digest] of text.matchAll(/Digest":"([0-9a-f]{64})"/g)) if (!read.has(digest!)) next.add(digest!);
    }
    documents = next;
  }
  return used;
}
