/** Tokens: made with a scope and an end, shown once, listed without their text, revoked. */
import { MayflyError } from "../errors.ts";
import { findProject } from "../store/projects.ts";
import { listMembers } from "../store/teams.ts";
import { createToken, listTokens, revokeToken, type Token } from "../store/tokens.ts";
import { ofTeam, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { object, oneOf, optional, string, stringOf, whole } from "./schema.ts";

export const tokenEndpoints: readonly Endpoint[] = [
  ofTeam({
    method: "GET",
    path: "/user/tokens",
    summary: "List tokens: a member sees their own, an owner those of the team",
    access: "read",
    async handle(call) {
      const tokens = (await visibleTokens(call)).map(tokenJson);
      return { tokens, pagination: { count: tokens.length, next: null, prev: null } };
    },
  }),
  ofTeam({
    method: "POST",
    path: "/user/tokens",
    summary:
      "Make a token: `bearerToken` is shown this once. `project` bounds it to one project, `user` (owners only) makes it for a member",
    access: "write",
    body: object(
      {
        name: { type: "string", minLength: 1, maxLength: 100 },
        expiresAt: optional(whole(0, Number.MAX_SAFE_INTEGER)),
        scope: oneOf("full", "read-only"),
        project: optional(string),
        user: optional(string),
      },
      "name",
    ),
    async handle({ context: { store, clock }, identity, body }) {
      const { team, role, token: shown } = identity;
      const asked = stringOf(body, "project");
      const project = asked === null ? null : await findProject(store, team.id, asked);
      if (asked !== null && project === null) throw new MayflyError("not_found", "Project not found");
      const expiresAt = (body["expiresAt"] as number | null | undefined) ?? null;
      if (expiresAt !== null && expiresAt <= clock.now()) throw new MayflyError("bad_request", "`expiresAt` must lie in the future.");
      if (shown.expiresAt !== null && (expiresAt === null || expiresAt > shown.expiresAt)) {
        throw new MayflyError(
          "forbidden",
          `This token ends at ${shown.expiresAt}: one that it makes needs an \`expiresAt\` that is no later.`,
        );
      }
      const name = stringOf(body, "user");
      let { user } = identity;
      if (name !== null && name !== user.id && name !== user.username) {
        if (role !== "OWNER") throw new MayflyError("forbidden", "Only an owner of the team may do this.");
        const member = (await listMembers(store, team.id)).find((one) => one.user.id === name || one.user.username === name);
        if (member === undefined) throw new MayflyError("not_found", "The team has no such member.");
        user = member.user;
      }
      const grant = {
        name: stringOf(body, "name")!,
        scope: (stringOf(body, "scope") ?? "full") as Token["scope"],
        projectId: project?.id ?? null,
        expiresAt,
      };
      const { text, token } = await createToken(store, { user, team }, grant, clock.now());
      return { token: tokenJson(token), bearerToken: text };
    },
  }),
  ofTeam({
    method: "DELETE",
    path: "/user/tokens/:token",
    summary: "Revoke a token, at once",
    access: "write",
    async handle(call) {
      const id = call.params["token"] === "current" ? call.identity.token.id : call.params["token"]!;
      const visible = (await visibleTokens(call)).some((token) => token.id === id);
      if (!visible || !(await revokeToken(call.context.store, call.identity.team.id, id))) {
        throw new MayflyError("not_found", "Token not found");
      }
      return { tokenId: id };
    },
  }),
];

async function visibleTokens({ context, identity: { user, team, role } }: EndpointCall): Promise<Token[]> {
  return (await listTokens(context.store, team.id)).filter((token) => role === "OWNER" || token.userId === user.id);
}

const tokenJson = ({ id, name, userId, scope, projectId, createdAt, expiresAt, usedAt }: Token) => ({
  id,
  name,
  type: "token",
  userId,
  scope,
  projectId,
  createdAt,
  expiresAt,
  activeAt: usedAt,
});
