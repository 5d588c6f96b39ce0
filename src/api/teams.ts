/** Users, teams and members, in the shapes that the official client reads. The user is a "northstar" one: all belongs to the team. */
import { MayflyError } from "../errors.ts";
import type { Team } from "../model.ts";
import { addMember, listMembers, removeMember, type Member, type Role } from "../store/teams.ts";
import { ofProjects, ofTeam, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { object, oneOf, paging, string, stringOf } from "./schema.ts";

export const teamEndpoints: readonly Endpoint[] = [
  ofProjects({
    method: "GET",
    path: "/user",
    summary: "Whom the token speaks for",
    access: "read",
    handle: async ({ identity: { user, team } }) => ({
      user: {
        id: user.id,
        uid: user.id,
        email: user.email,
        username: user.username,
        name: user.username,
        version: "northstar",
        defaultTeamId: team.id,
      },
    }),
  }),
  ofProjects({
    method: "GET",
    path: "/teams",
    summary: "The token's team",
    access: "read",
    query: paging,
    handle: async ({ identity: { team, role } }) => ({ teams: [teamJson(team, role)], pagination: { count: 1, next: null, prev: null } }),
  }),
  ofProjects({
    method: "GET",
    path: "/teams/:team",
    summary: "Get the token's team by id or slug",
    access: "read",
    handle: async (call) => teamJson(theTeam(call), call.identity.role),
  }),
  ofTeam({
    method: "GET",
    path: "/teams/:team/members",
    summary: "Members of the team",
    access: "read",
    async handle(call) {
      const members = await listMembers(call.context.store, theTeam(call).id);
      return { members: members.map(memberJson), pagination: { count: members.length, next: null, prev: null } };
    },
  }),
  ofTeam({
    method: "POST",
    path: "/teams/:team/members",
    summary: "Add a member, or change a member's role; tokens for them are made with `user` at /user/tokens",
    access: "admin",
    body: object(
      { username: { type: "string", pattern: "^[a-z0-9][a-z0-9-]{0,47}$" }, email: string, role: oneOf("OWNER", "MEMBER") },
      "username",
    ),
    async handle(call) {
      const username = stringOf(call.body, "username")!;
      const email = stringOf(call.body, "email") ?? `${username}@localhost`;
      const role = (stringOf(call.body, "role") ?? "MEMBER") as Role;
      const member = await addMember(call.context.store, theTeam(call).id, { username, email }, role);
      if (member === null) throw new MayflyError("conflict", `The user ${username} belongs to another team.`);
      return memberJson(member);
    },
  }),
  ofTeam({
    method: "DELETE",
    path: "/teams/:team/members/:user",
    summary: "Take a member, and the member's tokens, out of the team",
    access: "admin",
    async handle(call) {
      const team = theTeam(call);
      const member = (await listMembers(call.context.store, team.id)).find(({ user }) => user.id === call.params["user"]);
      if (member === undefined) throw new MayflyError("not_found", "The team has no such member.");
      if (!(await removeMember(call.context.store, team.id, member.user.id))) {
        throw new MayflyError("conflict", "The last owner of a team stays.");
      }
      return { id: team.id };
    },
  }),
];

/** @throws MayflyError not_found: another team than the token's */
function theTeam({ identity: { team }, params }: EndpointCall): Team {
  if (params["team"] !== team.id && params["team"] !== team.slug) throw new MayflyError("not_found", "Team not found.");
  return team;
}

const teamJson = (team: Team, role: Role) => ({
  id: team.id,
  slug: team.slug,
  name: team.name,
  createdAt: 0,
  membership: { role, confirmed: true },
});

const memberJson = ({ user, role }: Member) => ({ uid: user.id, username: user.username, email: user.email, role, confirmed: true });
