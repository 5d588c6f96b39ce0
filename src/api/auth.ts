/** Who calls: a bearer token on every endpoint; a `teamId` or `slug` in the query must name the token's own team. */
import type { FastifyRequest } from "fastify";
import { MayflyError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { findIdentity, type Identity } from "../store/teams.ts";

/** @throws MayflyError unauthorized, forbidden */
export async function authenticate(store: Store, request: FastifyRequest): Promise<Identity> {
  const token = /^bearer (\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (token === undefined) throw new MayflyError("unauthorized", undefined, { details: { missingToken: true } });
  const identity = await findIdentity(store, token);
  if (identity === null) throw new MayflyError("forbidden", undefined, { details: { invalidToken: true } });
  const { teamId, slug } = request.query as { teamId?: string; slug?: string };
  const { team } = identity;
  if ((teamId !== undefined && teamId !== team.id && teamId !== team.slug) || (slug !== undefined && slug !== team.slug)) {
    throw new MayflyError("forbidden", "The token does not belong to that team.");
  }
  return identity;
}
