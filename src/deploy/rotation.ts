/**
 * Rotation of the key that secrets are sealed with: a new key is put before the old ones in the key file, and every value is
 * sealed anew. The old keys are dropped only when nothing that began before can still write a value of theirs, after one more
 * look at all values: by maintenance. It may be cut off anywhere: values of both keys open until the last step.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Manifest } from "../model.ts";
import { findDeploymentById } from "../store/deployments.ts";
import type { Seal } from "../store/seal.ts";
import { listDeploymentIds, replaceSealed, resealEnv, resealRequest, resealRows, type Reseal } from "../store/sealed-values.ts";
import type { Store } from "../store/store.ts";

/** What is done with a value beside building: a call of the API, the end of a build. */
const writtenWithinMs = 600_000;

interface RotationParts {
  readonly clock: Clock;
  readonly config: Pick<Config, "buildTimeoutMs">;
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly seal: Seal;
}

interface RotationReport {
  readonly keyId: string;
  /** Rows that were sealed anew. */
  readonly resealed: number;
}

export async function rotateSecrets(parts: RotationParts): Promise<RotationReport> {
  parts.seal.addKey();
  return finishRotation(parts);
}

/** Seals everything with the newest key, and drops the others when it is old enough; nothing to do when there is one key only. */
export async function finishRotation({ store, blobs, seal, clock, config }: RotationParts): Promise<RotationReport> {
  let resealed = 0;
  if (seal.keyIds().length === 1) return { keyId: seal.keyIds()[0]!, resealed };
  const reseal: Reseal = (value, place) => (seal.isCurrent(value) ? value : seal.close(seal.open(value, place), place));
  // Until a whole round finds nothing: others write meanwhile.
  for (;;) {
    let round = await resealRows(store, reseal);
    for (const id of await listDeploymentIds(store)) if (await resealDeployment({ store, blobs }, id, reseal)) round++;
    if (round === 0) break;
    resealed += round;
  }
  if (clock.now() - seal.newestSince() >= config.buildTimeoutMs + writtenWithinMs) seal.dropOldKeys();
  return { keyId: seal.keyIds()[0]!, resealed };
}

async function resealDeployment({ store, blobs }: Pick<RotationParts, "store" | "blobs">, id: string, reseal: Reseal): Promise<boolean> {
  const deployment = await findDeploymentById(store, id);
  if (deployment === null) return false;
  const request = resealRequest(id, deployment.request, reseal);
  let { manifestDigest } = deployment;
  if (manifestDigest !== null) {
    const manifest = JSON.parse((await blobs.read(manifestDigest)).toString()) as Manifest;
    const env = resealEnv(id, manifest.env, reseal);
    if (JSON.stringify(env) !== JSON.stringify(manifest.env)) {
      manifestDigest = (await blobs.put(JSON.stringify({ ...manifest, env } satisfies Manifest))).digest;
    }
  }
  const changed = manifestDigest !== deployment.manifestDigest || JSON.stringify(request) !== JSON.stringify(deployment.request);
  return changed && replaceSealed(store, id, deployment, { manifestDigest, request });
}
