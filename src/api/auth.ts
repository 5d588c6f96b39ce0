/**
 * Who calls, and whether they may: a bearer token on every endpoint that is not for anyone, held against the endpoint's
 * rule (endpoint.ts). A `teamId` or `slug` in the query must name the token's own team.
 */
import type { FastifyRequest } from "fastify";
import { MayflyError } from "../errors.ts";
import type { TimestampMs } from "../model.ts";
import type { Store } from "../store/store.ts";
import { findIdentity, type Identity } from "../store/tokens.ts";
import type { Endpoint } from "./endpoint.ts";

/** @throws MayflyError unauthorized, forbidden */
export async function authenticate(store: Store, request: FastifyRequest, now: TimestampMs): Promise<Identity> {
  const token = /^bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (token === undefined) throw new MayflyError("unauthorized", undefined, { details: { missingToken: true } });
  const identity = await findIdentity(store, token, now);
  if (identity === null) throw new MayflyError("forbidden", undefined, { details: { invalidToken: true } });
  const { teamId, slug } = request.query as { teamId?: string; slug?: string };
  const { team } = identity;
  if ((teamId !== undefined && teamId !== team.id && teamId !== team.slug) || (slug !== undefined && slug !== team.slug)) {
    throw new MayflyError("forbidden", "The token does not belong to that team.");
  }
  return identity;
}

/** @throws MayflyError forbidden */
export function authorize({ role, token }: Identity, { access, subject }: Pick<Endpoint, "access" | "subject">): void {
  const refuse = (why: string) => new MayflyError("forbidden", why);
  if (access !== "read" && token.scope === "read-only") throw refuse("This token may only read.");
  if ((subject === "team" || access === "admin") && token.projectId !== null) throw refuse("This token is for one project only.");
  if (access === "admin" && role !== "OWNER") throw refuse("Only an owner of the team may do this.");
}
