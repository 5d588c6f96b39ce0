/** Tokens: whom one speaks for, what it may do, until when. Only digests are kept; a token is shown once, when it is made. */
import { createHash } from "node:crypto";
import type { Team, TimestampMs, User } from "../model.ts";
import { newToken, randomId } from "../names.ts";
import type { Store } from "./store.ts";
import type { Role } from "./teams.ts";

/** Whom a token speaks for, and how far. */
export interface Identity {
  readonly user: User;
  readonly team: Team;
  readonly role: Role;
  readonly token: Token;
}

export interface Token {
  /** `tok_…`: what it is listed and revoked by. */
  readonly id: string;
  readonly name: string;
  readonly userId: string;
  /** `read-only`: it changes nothing. */
  readonly scope: "full" | "read-only";
  /** null: all of the team's projects. */
  readonly projectId: string | null;
  readonly createdAt: TimestampMs;
  /** null: never. */
  readonly expiresAt: TimestampMs | null;
  /** To the hour; null: not yet. */
  readonly usedAt: TimestampMs | null;
}

export type TokenGrant = Pick<Token, "name" | "scope" | "projectId" | "expiresAt">;

export const fullGrant = (name: string): TokenGrant => ({ name, scope: "full", projectId: null, expiresAt: null });

const usedStepMs = 3_600_000;

/** Makes a token; its text is returned this once and kept only as a digest. */
export async function createToken(
  store: Store,
  { user, team }: Pick<Identity, "user" | "team">,
  grant: TokenGrant,
  now: TimestampMs,
): Promise<{ readonly text: string; readonly token: Token }> {
  const text = newToken();
  const token: Token = { id: `tok_${randomId(24)}`, userId: user.id, createdAt: now, usedAt: null, ...grant };
  await store.db
    .insertInto("tokens")
    .values({
      digest: digestOf(text),
      user_id: user.id,
      team_id: team.id,
      name: token.name,
      created_at: now,
      id: token.id,
      scope: token.scope,
      project_id: token.projectId,
      expires_at: token.expiresAt,
      used_at: null,
    })
    .execute();
  return { text, token };
}

/** Whom `text` speaks for at `now`, or null. The look-up is by digest, so its time tells nothing of the token. */
export function findIdentity(store: Store, text: string, now: TimestampMs): Promise<Identity | null> {
  return identityBy(store, "tokens.digest", digestOf(text), now);
}

/** The same by the token's id: whether what it was once shown for is still its holder's to do. */
export function findIdentityOfToken(store: Store, id: string, now: TimestampMs): Promise<Identity | null> {
  return identityBy(store, "tokens.id", id, now);
}

async function identityBy(store: Store, column: "tokens.digest" | "tokens.id", value: string, now: TimestampMs): Promise<Identity | null> {
  const row = await store.db
    .selectFrom("tokens")
    .innerJoin("users", "users.id", "tokens.user_id")
    .innerJoin("teams", "teams.id", "tokens.team_id")
    .innerJoin("members", (join) => join.onRef("members.team_id", "=", "tokens.team_id").onRef("members.user_id", "=", "tokens.user_id"))
    .select(["users.id as userId", "users.username", "users.email", "teams.id as teamId", "teams.slug", "teams.name as teamName"])
    .select(["tokens.id", "tokens.name", "tokens.scope", "tokens.project_id", "tokens.created_at", "tokens.expires_at", "tokens.used_at"])
    .select("members.role")
    .where(column, "=", value)
    .executeTakeFirst();
  if (row === undefined || (row.expires_at !== null && row.expires_at <= now)) return null;
  if (row.used_at === null || row.used_at < now - usedStepMs) {
    await store.db.updateTable("tokens").set({ used_at: now }).where("id", "=", row.id).execute();
  }
  return {
    user: { id: row.userId, username: row.username, email: row.email },
    team: { id: row.teamId, slug: row.slug, name: row.teamName },
    role: row.role as Role,
    token: toToken({ ...row, user_id: row.userId }),
  };
}

/** Of a team, the newest first. */
export async function listTokens(store: Store, teamId: string): Promise<Token[]> {
  const rows = await store.db.selectFrom("tokens").selectAll().where("team_id", "=", teamId).orderBy("created_at", "desc").execute();
  return rows.map(toToken);
}

/** From now on it speaks for nobody; false when the team has none such. */
export async function revokeToken(store: Store, teamId: string, id: string): Promise<boolean> {
  const { numDeletedRows } = await store.db.deleteFrom("tokens").where("team_id", "=", teamId).where("id", "=", id).executeTakeFirst();
  return numDeletedRows === 1n;
}

/** Tokens that ended before are forgotten. */
export async function deleteExpiredTokens(store: Store, beforeMs: TimestampMs): Promise<void> {
  await store.db.deleteFrom("tokens").where("expires_at", "<", beforeMs).execute();
}

function toToken(row: {
  id: string;
  name: string;
  user_id: string;
  scope: string;
  project_id: string | null;
  created_at: number;
  expires_at: number | null;
  used_at: number | null;
}): Token {
  return {
    id: row.id,
    name: row.name,
    userId: row.user_id,
    scope: row.scope as Token["scope"],
    projectId: row.project_id,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    usedAt: row.used_at,
  };
}

const digestOf = (token: string): string => createHash("sha256").update(token).digest("hex");
