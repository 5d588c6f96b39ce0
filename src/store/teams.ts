/** Teams, users and who is a member of what. One team to begin with; every resource belongs to one already. */
import type { Team, User } from "../model.ts";
import { randomId } from "../names.ts";
import type { Store } from "./store.ts";

export type Role = "OWNER" | "MEMBER";

export interface Member {
  readonly user: User;
  readonly role: Role;
}

/** The first team and user of a fresh database; on a used one those that are there. */
export async function ensureFirstIdentity(store: Store, username: string): Promise<{ user: User; team: Team }> {
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
    await trx.insertInto("members").values({ team_id: first.team.id, user_id: first.user.id, role: "OWNER" }).execute();
    return first;
  });
}

/** Makes another team with its owner, who may be a user already. */
export async function createTeam(store: Store, slug: string, owner: Omit<User, "id"> | User): Promise<{ user: User; team: Team }> {
  const user: User = "id" in owner ? owner : { ...owner, id: `usr_${randomId(24)}` };
  const team: Team = { id: `team_${randomId(24)}`, slug, name: slug };
  await store.db.transaction().execute(async (trx) => {
    if (!("id" in owner)) await trx.insertInto("users").values(user).execute();
    await trx.insertInto("teams").values(team).execute();
    await trx.insertInto("members").values({ team_id: team.id, user_id: user.id, role: "OWNER" }).execute();
  });
  return { user, team };
}

/** The team's member of that name, made (with the user) when there is none; null when the user name is another team's. */
export async function addMember(store: Store, teamId: string, user: Omit<User, "id">, role: Role): Promise<Member | null> {
  return store.db.transaction().execute(async (trx) => {
    await trx
      .insertInto("users")
      .values({ id: `usr_${randomId(24)}`, ...user })
      .onConflict((conflict) => conflict.column("username").doNothing())
      .execute();
    const known = await trx.selectFrom("users").selectAll().where("username", "=", user.username).executeTakeFirstOrThrow();
    const teams = await trx.selectFrom("members").select("team_id").where("user_id", "=", known.id).execute();
    if (teams.some((team) => team.team_id !== teamId)) return null;
    await trx
      .insertInto("members")
      .values({ team_id: teamId, user_id: known.id, role })
      .onConflict((conflict) => conflict.columns(["team_id", "user_id"]).doUpdateSet({ role }))
      .execute();
    return { user: known, role };
  });
}

export async function listMembers(store: Store, teamId: string): Promise<Member[]> {
  const rows = await store.db
    .selectFrom("members")
    .innerJoin("users", "users.id", "members.user_id")
    .select(["users.id", "users.username", "users.email", "members.role"])
    .where("members.team_id", "=", teamId)
    .orderBy("users.username")
    .execute();
  return rows.map(({ id, username, email, role }) => ({ user: { id, username, email }, role: role as Role }));
}

/** Takes a user and the user's tokens out of a team; false when it was the last owner or no member. */
export async function removeMember(store: Store, teamId: string, userId: string): Promise<boolean> {
  return store.db.transaction().execute(async (trx) => {
    const { numDeletedRows } = await trx
      .deleteFrom("members")
      .where("team_id", "=", teamId)
      .where("user_id", "=", userId)
      .where((where) =>
        where.exists(
          where
            .selectFrom("members as others")
            .select("others.user_id")
            .where("others.team_id", "=", teamId)
            .where("others.user_id", "!=", userId)
            .where("others.role", "=", "OWNER"),
        ),
      )
      .executeTakeFirst();
    if (numDeletedRows === 0n) return false;
    await trx.deleteFrom("tokens").where("team_id", "=", teamId).where("user_id", "=", userId).execute();
    return true;
  });
}
