/**
 * What Git hosts have sent, and what it was about. A delivery is on disk before the host is told that it arrived; what a
 * crash leaves PENDING is taken up by the next control plane. See {@link GitDeliveryState} for its life.
 */
import type { Selectable } from "kysely";
import type { GitDelivery, GitDeliveryState, TimestampMs } from "../model.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";

/** A delivery with what is needed to act on it. */
export interface PendingDelivery extends GitDelivery {
  /** JSON of what the host's words mean: a GitEvent. */
  readonly detail: string;
  readonly subject: string;
  readonly forced: boolean;
}

export interface ReceivedDelivery {
  readonly id: string;
  readonly connectionId: string;
  readonly hostDeliveryId: string;
  readonly bodyDigest: string;
  readonly event: string;
  /** JSON of what the host's words mean: a GitEvent. */
  readonly detail: string;
  readonly subject: string;
  readonly receivedAt: TimestampMs;
}

/**
 * Writes deliveries down, one for each connection. `known`: the host has sent this id before. `replayed`: the same body
 * came under another id before, which `unique` says no honest host does. `full`: so many wait that nothing was written.
 */
export async function receiveDeliveries(
  store: Store,
  deliveries: readonly ReceivedDelivery[],
  rules: { readonly unique: boolean; readonly pendingMax: number },
): Promise<"received" | "known" | "replayed" | "full"> {
  return store.db.transaction().execute(async (trx) => {
    let known = 0;
    for (const delivery of deliveries) {
      const before = await trx
        .selectFrom("git_deliveries")
        .select(["host_delivery_id"])
        .where("connection_id", "=", delivery.connectionId)
        .where((where) =>
          where.or([where("host_delivery_id", "=", delivery.hostDeliveryId), where("body_digest", "=", delivery.bodyDigest)]),
        )
        .execute();
      if (before.some((row) => row.host_delivery_id === delivery.hostDeliveryId)) {
        known++;
        continue;
      }
      if (before.length > 0 && rules.unique) return "replayed";
      const { waiting } = await trx
        .selectFrom("git_deliveries")
        .select((select) => select.fn.countAll<number>().as("waiting"))
        .where("state", "=", "PENDING")
        .executeTakeFirstOrThrow();
      if (Number(waiting) >= rules.pendingMax) return "full";
      await trx
        .insertInto("git_deliveries")
        .values({
          id: delivery.id,
          connection_id: delivery.connectionId,
          host_delivery_id: delivery.hostDeliveryId,
          body_digest: delivery.bodyDigest,
          event: delivery.event,
          detail: delivery.detail,
          subject: delivery.subject,
          state: "PENDING",
          result: null,
          deployment_id: null,
          attempts: 0,
          due_at: delivery.receivedAt,
          received_at: delivery.receivedAt,
          finished_at: null,
          forced: 0,
        })
        .execute();
    }
    return known === deliveries.length && known > 0 ? "known" : "received";
  });
}

/** PENDING ones whose time has come, the oldest first. */
export async function listDueDeliveries(store: Store, now: TimestampMs, limit: number): Promise<PendingDelivery[]> {
  const rows = await store.db
    .selectFrom("git_deliveries")
    .selectAll()
    .where("state", "=", "PENDING")
    .where("due_at", "<=", now)
    .orderBy("received_at")
    .orderBy("id")
    .limit(limit)
    .execute();
  return rows.map((row) => ({ ...toDelivery(row), detail: row.detail, subject: row.subject, forced: row.forced === 1 }));
}

/** When the next PENDING one is due; null: none waits. */
export async function nextDeliveryAt(store: Store): Promise<TimestampMs | null> {
  const row = await store.db
    .selectFrom("git_deliveries")
    .select((select) => select.fn.min("due_at").as("at"))
    .where("state", "=", "PENDING")
    .executeTakeFirst();
  return row?.at === null || row === undefined ? null : Number(row.at);
}

/** Of several that wait for the same thing only the newest is needed: the others are DONE. Returns the newest's id. */
export async function coalesceDeliveries(store: Store, delivery: PendingDelivery, now: TimestampMs): Promise<string> {
  return store.db.transaction().execute(async (trx) => {
    const same = await trx
      .selectFrom("git_deliveries")
      .select(["id", "forced"])
      .where("connection_id", "=", delivery.connectionId)
      .where("subject", "=", delivery.subject)
      .where("state", "=", "PENDING")
      .orderBy("received_at", "desc")
      .orderBy("id", "desc")
      .execute();
    const newest = same[0]?.id ?? delivery.id;
    const older = same.slice(1).map((row) => row.id);
    if (older.length > 0) {
      await trx
        .updateTable("git_deliveries")
        .set({ state: "DONE", result: "replaced by a newer delivery for the same branch", finished_at: now })
        .where("id", "in", older)
        .execute();
      if (same.some((row) => row.forced === 1)) {
        await trx.updateTable("git_deliveries").set({ forced: 1 }).where("id", "=", newest).execute();
      }
    }
    return newest;
  });
}

export async function finishDelivery(
  store: Store,
  id: string,
  end: { readonly state: "DONE" | "FAILED"; readonly result: string; readonly deploymentId?: string | null },
  now: TimestampMs,
): Promise<void> {
  await store.db
    .updateTable("git_deliveries")
    .set((set) => ({
      state: end.state,
      result: end.result,
      deployment_id: end.deploymentId ?? null,
      finished_at: now,
      attempts: set("attempts", "+", 1),
    }))
    .where("id", "=", id)
    .execute();
}

/** It stays PENDING and is tried again at `dueAt`. */
export async function postponeDelivery(store: Store, id: string, result: string, dueAt: TimestampMs): Promise<void> {
  await store.db
    .updateTable("git_deliveries")
    .set((set) => ({ result, due_at: dueAt, attempts: set("attempts", "+", 1) }))
    .where("id", "=", id)
    .execute();
}

/** DONE or FAILED → PENDING, as a person asks; false when it waits already or is not there. */
export async function redeliver(store: Store, connectionId: string, id: string, now: TimestampMs): Promise<boolean> {
  const result = await store.db
    .updateTable("git_deliveries")
    .set({ state: "PENDING", result: null, finished_at: null, attempts: 0, due_at: now, forced: 1 })
    .where("id", "=", id)
    .where("connection_id", "=", connectionId)
    .where("state", "!=", "PENDING")
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}

/** The newest first. */
export async function listDeliveries(store: Store, connectionId: string, limit: number): Promise<GitDelivery[]> {
  const rows = await store.db
    .selectFrom("git_deliveries")
    .selectAll()
    .where("connection_id", "=", connectionId)
    .orderBy("received_at", "desc")
    .orderBy("id", "desc")
    .limit(limit)
    .execute();
  return rows.map(toDelivery);
}

/** Forgets what was finished before a time. */
export async function deleteDeliveriesBefore(store: Store, time: TimestampMs): Promise<void> {
  await store.db.deleteFrom("git_deliveries").where("state", "!=", "PENDING").where("received_at", "<", time).execute();
}

/** What is known of a branch or a fork's pull request. */
export interface BranchRecord {
  /** The commit that was last deployed, or decided not to be; null: none, or the branch is gone. */
  readonly sha: string | null;
  readonly pullRequest: number | null;
  /** A fork's commit that a member has approved. */
  readonly approvedSha: string | null;
}

export async function findBranch(store: Store, connectionId: string, subject: string): Promise<BranchRecord> {
  const row = await store.db
    .selectFrom("git_branches")
    .selectAll()
    .where("connection_id", "=", connectionId)
    .where("subject", "=", subject)
    .executeTakeFirst();
  return { sha: row?.sha ?? null, pullRequest: row?.pull_request ?? null, approvedSha: row?.approved_sha ?? null };
}

export async function updateBranch(
  store: Store,
  connectionId: string,
  subject: string,
  change: Partial<BranchRecord>,
  now: TimestampMs,
): Promise<void> {
  const set = {
    ...("sha" in change ? { sha: change.sha } : {}),
    ...("pullRequest" in change ? { pull_request: change.pullRequest } : {}),
    ...("approvedSha" in change ? { approved_sha: change.approvedSha } : {}),
    updated_at: now,
  };
  await store.db
    .insertInto("git_branches")
    .values({ connection_id: connectionId, subject, sha: null, pull_request: null, approved_sha: null, ...set })
    .onConflict((conflict) => conflict.columns(["connection_id", "subject"]).doUpdateSet(set))
    .execute();
}

export async function deleteBranch(store: Store, connectionId: string, subject: string): Promise<void> {
  await store.db.deleteFrom("git_branches").where("connection_id", "=", connectionId).where("subject", "=", subject).execute();
}

function toDelivery(row: Selectable<Tables["git_deliveries"]>): GitDelivery {
  return {
    id: row.id,
    connectionId: row.connection_id,
    hostDeliveryId: row.host_delivery_id,
    event: row.event,
    state: row.state as GitDeliveryState,
    result: row.result,
    deploymentId: row.deployment_id,
    attempts: row.attempts,
    receivedAt: row.received_at,
    finishedAt: row.finished_at,
  };
}
