/** Users and teams, in the shapes that the official client reads. The user is a "northstar" one: all belongs to the team. */
import type { Endpoint } from "./endpoint.ts";
import { MayflyError } from "../errors.ts";
import type { Team } from "../model.ts";

export const teamEndpoints: readonly Endpoint[] = [
  {
    method: "GET",
    path: "/user",
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
  },
  {
    method: "GET",
    path: "/teams",
    handle: async ({ identity: { team } }) => ({ teams: [teamJson(team)], pagination: { count: 1, next: null, prev: null } }),
  },
  {
    method: "GET",
    path: "/teams/:idOrSlug",
    async handle({ identity: { team }, params }) {
      if (params["idOrSlug"] !== team.id && params["idOrSlug"] !== team.slug) throw new MayflyError("not_found", "Team not found.");
      return teamJson(team);
    },
  },
];

function teamJson(team: Team) {
  return { id: team.id, slug: team.slug, name: team.name, createdAt: 0, membership: { role: "OWNER", confirmed: true } };
}
