/**
 * When a build that runs the project's own commands need not be run again. What a command makes depends on more than its
 * files: so its output is taken again only when all that it may have looked at is the same (the tree, settings, platform,
 * environment, commit), it opened no connection, and nothing of its output names the deployment that it was made for.
 * Invariant: in doubt it is built. What is left to differ is the clock, and chance.
 */
import { createHash } from "node:crypto";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Digest, EntrypointReport } from "../model.ts";
import type { OutputParts } from "./output.ts";

/** What such a build leaves. */
export interface WholeBuild {
  /** {@link keyOfWhole} of what it was made from. */
  readonly key: Digest;
  readonly parts: OutputParts;
  readonly entrypoints: readonly EntrypointReport[];
}

/**
 * @param everything digest of the tree and of all that every build depends on
 * @param systemEnv the platform's own variables: commands may have read all of them
 */
export function keyOfWhole(everything: Digest, systemEnv: Readonly<Record<string, string>>): Digest {
  // This one always differs; see mentions.ts.
  const variables = Object.entries(systemEnv).filter(([name]) => name !== "VERCEL_DEPLOYMENT_ID");
  return createHash("sha256")
    .update(JSON.stringify([everything, variables.toSorted(([a], [b]) => (a < b ? -1 : 1))]))
    .digest("hex");
}

/** Whether all that it made is still there. A look also keeps it there. */
export async function isStored({ parts }: WholeBuild, blobs: Pick<BlobStore, "has">): Promise<boolean> {
  const digests = new Set(Object.values(parts.functions).map((spec) => spec.bundleDigest));
  for (const output of Object.values(parts.outputs)) {
    if (output.kind === "static") digests.add(output.file.digest);
    else if (output.kind === "prerender" && output.prerender.fallback !== null) digests.add(output.prerender.fallback.digest);
  }
  for (const digest of digests) if (!(await blobs.has(digest))) return false;
  return true;
}
