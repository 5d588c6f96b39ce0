/**
 * Whether a Function that was never asked is likely to allow that its answers are kept: its code speaks of it. Only a
 * hint, for how long others wait while the first answer is made; what is kept is decided by the answer's own head.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import { readBundle } from "../blobs/bundle.ts";
import type { FunctionSpec } from "../model.ts";
import { Lru } from "./lru.ts";

const readBytesMax = 4 * 1024 * 1024;
const filesMax = 50;
const hintsMax = 10_000;

export class CacheHints {
  readonly #blobs: Pick<BlobStore, "read">;
  readonly #hints = new Lru<string, Promise<boolean>>(hintsMax);

  constructor(blobs: Pick<BlobStore, "read">) {
    this.#blobs = blobs;
  }

  /** Never rejects: a bundle that cannot be read gives no hint. */
  of(spec: FunctionSpec): Promise<boolean> {
    const known = this.#hints.get(spec.id);
    if (known !== undefined) return known;
    const hint = this.#read(spec).catch(() => false);
    this.#hints.set(spec.id, hint);
    return hint;
  }

  async #read({ bundleDigest, handler }: FunctionSpec): Promise<boolean> {
    const tree = await readBundle(bundleDigest, this.#blobs);
    const own = Object.keys(tree).filter((path) => /\.[cm]?js$/.test(path) && !path.includes("node_modules/") && path !== handler);
    let leftBytes = readBytesMax;
    for (const path of [handler, ...own.slice(0, filesMax)]) {
      const file = tree[path];
      if (file === undefined || file.size > leftBytes) continue;
      leftBytes -= file.size;
      if (/s-maxage|cdn-cache-control/i.test((await this.#blobs.read(file.digest)).toString("latin1"))) return true;
    }
    return false;
  }
}
