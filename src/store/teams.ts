/** Who may do what: teams, users, tokens. One team to begin with; every resource belongs to one already. */
import { createHash } from "node:crypto";
import type { Team, TimestampMs, User } from "../model.ts";
import { newToken, randomId } from "../names.ts";
import type { Store } from "./store.ts";

/** Whom a token speaks for. */
export interface Identity {
  readonly user: User;
  readonly team: Team;
}

/** The first team and user of a fresh database; on a used one those that are there. */
export async function ensureFirstIdentity(store: Store, username: string): Promise<Identity> {
  return store.db.transaction().execute(async (trx) => {
    const user = await trx.selectFrom("users").selectAll().orderBy("id").executeTakeFirst();
    const team = await trx.selectFrom("teams").selectAll().orderBy("id").executeTakeFirst();
    if (user !== undefined && team !== undefined) return { user, team };
    const first = {
      user: { id: `usr_${randomId(24)}`, username, email: `${username}@localhost` },
      team: { id: `team_${randomId(24)}`, slug: username, name: username },
    };
    await trx.insertInto("users").values(first.user).execute();
    await trx.insertInto("teams").values(first.team).execute();
    return first;
  });
}

/** Makes a token; it is returned this once and kept only as a digest. */
export async function createToken(store: Store, identity: Identity, name: string, now: TimestampMs): Promise<string> {
  const token = newToken();
  await store.db
    .insertInto("tokens")
    .values({ digest: digestOf(token), user_id: identity.user.id, team_id: identity.team.id, name, created_at: now })
    .execute();
  return token;
}

/** Whom `token` speaks for, or null. The look-up is by digest, so its time tells nothing of the token. */
export async function findIdentity(store: Store, token: string): Promise<Identity | null> {
  const row = await store.db
    .selectFrom("tokens")
    .innerJoin("users", "users.id", "tokens.user_id")
    .innerJoin("teams", "teams.id", "tokens.team_id")
    .select(["users.id as userId", "users.username", "users.email", "teams.id as teamId", "teams.slug", "teams.name"])
    .where("tokens.digest", "=", digestOf(token))
    .executeTakeFirst();
  if (row === undefined) return null;
  return {
    user: { id: row.userId, username: row.username, email: row.email },
    team: { id: row.teamId, slug: row.slug, name: row.name },
  };
}

const digestOf = (token: string): string => createHash("sha256").update(token).digest("hex");
