/**
 * Every sealed value in the database and its place, so that a rotation can seal all of them with the new key. One row at
 * a time, each in one conditional write: whoever changed a value meanwhile has sealed it with the new key already.
 * Manifests hold sealed values too, as blobs: see deploy/rotation.ts.
 */
import type { DeploymentRequest, Sealed } from "../model.ts";
import { gitSecretPlace } from "./git-connections.ts";
import { envPlace, variablePlace } from "./seal.ts";
import type { Store } from "./store.ts";

/** Seals a value anew; a value that needs it not comes back as it is. */
export type Reseal = (value: Sealed, place: string) => Sealed;

/** @returns how many rows were written */
export async function resealRows(store: Store, reseal: Reseal): Promise<number> {
  let written = 0;
  for (const row of await store.db.selectFrom("variables").select(["id", "project_id", "name", "value"]).execute()) {
    const value = reseal(row.value, variablePlace(row.project_id, row.name));
    if (value === row.value) continue;
    await store.db.updateTable("variables").set({ value }).where("id", "=", row.id).where("value", "=", row.value).execute();
    written++;
  }
  for (const row of await store.db.selectFrom("git_apps").select(["id", "private_key", "webhook_secret"]).execute()) {
    const privateKey = reseal(row.private_key, gitSecretPlace(row.id, "privateKey"));
    const webhookSecret = reseal(row.webhook_secret, gitSecretPlace(row.id, "webhookSecret"));
    if (privateKey === row.private_key && webhookSecret === row.webhook_secret) continue;
    await store.db
      .updateTable("git_apps")
      .set({ private_key: privateKey, webhook_secret: webhookSecret })
      .where("id", "=", row.id)
      .where("private_key", "=", row.private_key)
      .execute();
    written++;
  }
  for (const row of await store.db.selectFrom("git_connections").select(["id", "token", "webhook_secret"]).execute()) {
    const token = row.token === null ? null : reseal(row.token, gitSecretPlace(row.id, "token"));
    const webhookSecret = row.webhook_secret === null ? null : reseal(row.webhook_secret, gitSecretPlace(row.id, "webhookSecret"));
    if (token === row.token && webhookSecret === row.webhook_secret) continue;
    await store.db.updateTable("git_connections").set({ token, webhook_secret: webhookSecret }).where("id", "=", row.id).execute();
    written++;
  }
  return written;
}

/** Ids of deployments: they are sealed anew one by one, with their manifests. */
export async function listDeploymentIds(store: Store): Promise<string[]> {
  return (await store.db.selectFrom("deployments").select("id").orderBy("id").execute()).map(({ id }) => id);
}

/** A deployment's environment with `reseal` done to each value. */
export function resealRequest(id: string, request: DeploymentRequest, reseal: Reseal): DeploymentRequest {
  return { ...request, env: resealEnv(id, request.env, reseal), buildEnv: resealEnv(id, request.buildEnv, reseal) };
}

export const resealEnv = (id: string, env: Readonly<Record<string, Sealed>>, reseal: Reseal): Record<string, Sealed> =>
  Object.fromEntries(Object.entries(env).map(([name, value]) => [name, reseal(value, envPlace(id, name))]));

/** false when the deployment has another manifest, or is gone, by now. */
export async function replaceSealed(
  store: Store,
  id: string,
  before: { readonly manifestDigest: string | null },
  after: { readonly manifestDigest: string | null; readonly request: DeploymentRequest },
): Promise<boolean> {
  const { numUpdatedRows } = await store.db
    .updateTable("deployments")
    .set({ request: JSON.stringify(after.request), manifest_digest: after.manifestDigest })
    .where("id", "=", id)
    .where("manifest_digest", before.manifestDigest === null ? "is" : "=", before.manifestDigest)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}
