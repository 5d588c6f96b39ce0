/** What keeps a server in order, as the client sees it. For owners. */
import type { ApiClient } from "./client.ts";
import { number, text, texts } from "./json.ts";

export interface GarbageFacts {
  /** Ids of deployments that have gone, or would. */
  readonly deployments: readonly string[];
  /** Files in use, unused but too young to go, gone. */
  readonly kept: number;
  readonly waiting: number;
  readonly deleted: number;
  /** Of what has gone. */
  readonly bytes: number;
}

/** Clears away what nothing needs any more; with `dryRun` says what would go. */
export async function collectGarbage(client: ApiClient, dryRun: boolean): Promise<GarbageFacts> {
  const answer = await client.call("POST", "/v1/mayfly/gc", { body: { dryRun }, idempotent: true });
  const [kept, waiting, deleted, bytes] = ["kept", "waiting", "deleted", "bytes"].map((name) => number(answer[name]) ?? 0);
  return { deployments: texts(answer["deployments"]), kept: kept!, waiting: waiting!, deleted: deleted!, bytes: bytes! };
}

export interface BackupFacts {
  /** On the server's machine. */
  readonly directory: string;
  readonly blobs: number;
  readonly bytes: number;
}

/** Writes a backup while the server runs. */
export async function makeBackup(client: ApiClient): Promise<BackupFacts> {
  const answer = await client.call("POST", "/v1/mayfly/backup", { body: {} });
  return { directory: text(answer["directory"]) ?? "", blobs: number(answer["blobs"]) ?? 0, bytes: number(answer["bytes"]) ?? 0 };
}

/** Seals every secret on the server with a new key. */
export async function rotateSecrets(client: ApiClient): Promise<{ readonly keyId: string; readonly resealed: number }> {
  const answer = await client.call("POST", "/v1/mayfly/secrets/rotate", { body: {} });
  return { keyId: text(answer["keyId"]) ?? "", resealed: number(answer["resealed"]) ?? 0 };
}
