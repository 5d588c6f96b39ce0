/**
 * What a Git host sends, up to the moment it is told that it arrived: signature, limits, on disk. Nothing is done here
 * that could take long or fail for reasons of the repository; `deliveries.ts` acts.
 */
import { createHash } from "node:crypto";
import { MayflyError } from "../errors.ts";
import type { GitConnection, Sealed } from "../model.ts";
import { randomId } from "../names.ts";
import { findGitApp, findGitConnection, findGitSecrets, gitSecretPlace, listAppConnections } from "../store/git-connections.ts";
import { receiveDeliveries } from "../store/git-deliveries.ts";
import type { GitContext } from "./context.ts";
import type { GitEvent, Webhook } from "./git-host.ts";

/** `ignored`: it concerns no deployment. `known`: it has been received before. */
export type Reception = "received" | "known" | "ignored";

/** @throws MayflyError not_found, invalid_signature, bad_request, queue_full */
export async function receiveConnectionWebhook(context: GitContext, connectionId: string, webhook: Webhook): Promise<Reception> {
  const { store } = context.deploy;
  const connection = await findGitConnection(store, connectionId);
  const secrets = await findGitSecrets(store, connectionId);
  if (connection === null || secrets?.webhookSecret === null || secrets?.webhookSecret === undefined) throw new MayflyError("not_found");
  const secret = context.deploy.seal.open(secrets.webhookSecret, gitSecretPlace(connectionId, "webhookSecret"));
  return receive(context, connection.provider, webhook, secret, async (repositoryId) =>
    repositoryId === connection.repositoryId ? [connection] : [],
  );
}

/** @throws MayflyError not_found, invalid_signature, bad_request, queue_full */
export async function receiveAppWebhook(context: GitContext, appId: string, webhook: Webhook): Promise<Reception> {
  const app = await findGitApp(context.deploy.store, appId);
  if (app === null) throw new MayflyError("not_found");
  const secret = context.deploy.seal.open(app.webhookSecret as Sealed, gitSecretPlace(appId, "webhookSecret"));
  return receive(context, "github", webhook, secret, (repositoryId) => listAppConnections(context.deploy.store, appId, repositoryId));
}

async function receive(
  context: GitContext,
  provider: GitConnection["provider"],
  webhook: Webhook,
  secret: string,
  connectionsTo: (repositoryId: string) => Promise<GitConnection[]>,
): Promise<Reception> {
  const { store, clock, config } = context.deploy;
  const host = await context.host(provider);
  const now = clock.now();
  const head = host.verify(webhook, secret, now);
  if (head === null) throw new MayflyError("invalid_signature");
  const event = host.parse(head.event, webhook.body);
  if (event.kind === "other") return "ignored";
  const connections = await connectionsTo(event.repositoryId);
  if (connections.length === 0) return "ignored";
  const outcome = await receiveDeliveries(
    store,
    connections.map((connection) => ({
      id: `gitd_${randomId(24)}`,
      connectionId: connection.id,
      hostDeliveryId: head.deliveryId,
      bodyDigest: createHash("sha256").update(webhook.body).digest("hex"),
      event: head.event,
      detail: JSON.stringify(event),
      subject: subjectOf(event, head.deliveryId),
      receivedAt: now,
    })),
    { unique: head.unique, pendingMax: config.gitDeliveriesPendingMax },
  );
  if (outcome === "replayed") throw new MayflyError("invalid_signature", "This webhook was received before, under another id.");
  if (outcome === "full") throw new MayflyError("queue_full", "Too many webhooks wait. Send it again later.");
  return outcome;
}

/** Of deliveries that wait with the same subject, the newest is enough: it leads to the state of now. */
function subjectOf(event: GitEvent, deliveryId: string): string {
  if (event.kind === "push") return branchSubject(event.branch);
  return event.kind === "pull-request" ? pullSubject(event.number) : `comment/${deliveryId}`;
}

export const branchSubject = (branch: string): string => `branch/${branch}`;
export const pullSubject = (number: number): string => `pull/${number}`;
