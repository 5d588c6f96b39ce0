/**
 * Rotation of the key that secrets are sealed with: a new key is put before the old ones in the key file, every value is
 * sealed anew, then the old keys are dropped. It may be cut off anywhere: values of both keys open until the last step,
 * and a control plane that finds more than one key when it starts goes on with it.
 */
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Manifest } from "../model.ts";
import { findDeploymentById } from "../store/deployments.ts";
import type { Seal } from "../store/seal.ts";
import { listDeploymentIds, replaceSealed, resealEnv, resealRequest, resealRows, type Reseal } from "../store/sealed-values.ts";
import type { Store } from "../store/store.ts";

interface RotationParts {
  readonly store: Store;
  readonly blobs: BlobStore;
  readonly seal: Seal;
}

/** @returns how many rows were sealed anew */
export async function rotateSecrets(parts: RotationParts): Promise<{ readonly keyId: string; readonly resealed: number }> {
  parts.seal.addKey();
  return finishRotation(parts);
}

/** Seals everything with the newest key and drops the others; nothing to do when there is one key only. */
export async function finishRotation({
  store,
  blobs,
  seal,
}: RotationParts): Promise<{ readonly keyId: string; readonly resealed: number }> {
  let resealed = 0;
  if (seal.keyIds().length === 1) return { keyId: seal.keyIds()[0]!, resealed };
  const reseal: Reseal = (value, place) => (seal.isCurrent(value) ? value : seal.close(seal.open(value, place), place));
  // Until a whole round finds nothing: a build that was under way may have written a manifest with the old key.
  for (;;) {
    let round = await resealRows(store, reseal);
    for (const id of await listDeploymentIds(store)) if (await resealDeployment({ store, blobs }, id, reseal)) round++;
    if (round === 0) break;
    resealed += round;
  }
  seal.dropOldKeys();
  return { keyId: seal.keyIds()[0]!, resealed };
}

async function resealDeployment({ store, blobs }: Omit<RotationParts, "seal">, id: string, reseal: Reseal): Promise<boolean> {
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
