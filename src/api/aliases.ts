/** Aliases: hosts that a person points to deployments. In the shapes that the official client reads. */
import { MayflyError } from "../errors.ts";
import type { Alias } from "../model.ts";
import { isHostName } from "../names.ts";
import { deleteAlias, findAlias, listAliases, listTeamAliases, setAlias } from "../store/aliases.ts";
import { ensureDomain } from "../store/domains.ts";
import { maySee, ofDeployment, ofProjects, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { object, pageSize, pagination, paging, string, stringOf } from "./schema.ts";

export const aliasEndpoints: readonly Endpoint[] = [
  ofDeployment({
    method: "POST",
    path: "/deployments/:deployment/aliases",
    summary: "Point a host to a deployment",
    access: "write",
    body: object({ alias: string, redirect: { type: ["string", "null"] } }, "alias"),
    async handle({ deployment, context: { store, config, clock }, identity: { team, token }, body }) {
      if (deployment.state !== "READY") {
        throw new MayflyError("conflict", `The deployment is ${deployment.state}; only one that is READY can have an alias.`);
      }
      const host = aliasHost(stringOf(body, "alias") ?? "", config.domain);
      await ownHost(store, team.id, host, config.domain, clock.now());
      const alias = { host, deploymentId: deployment.id, projectId: deployment.projectId };
      const done = await setAlias(store, { teamId: team.id, projectId: token.projectId }, alias, clock.now());
      if (done === "taken") throw new MayflyError("alias_in_use", `The host ${host} is in use.`);
      return {
        uid: host,
        alias: host,
        created: new Date(clock.now()).toISOString(),
        ...(done.from === null || done.from === deployment.id ? {} : { oldDeploymentId: done.from }),
      };
    },
  }),
  ofDeployment({
    method: "GET",
    path: "/deployments/:deployment/aliases",
    summary: "Hosts that point to a deployment",
    access: "read",
    async handle({ deployment, context }) {
      const aliases = await listAliases(context.store, { deploymentId: deployment.id });
      return { aliases: aliases.map(({ host, createdAt }) => ({ uid: host, alias: host, created: new Date(createdAt).toISOString() })) };
    },
  }),
  ofProjects({
    method: "GET",
    path: "/aliases",
    summary: "List aliases, the last pointed first",
    access: "read",
    query: { ...paging, projectId: string },
    async handle({ context: { store }, identity: { team, token }, query }) {
      const limit = pageSize(query);
      const asked = query["projectId"];
      if (asked !== undefined && token.projectId !== null && asked !== token.projectId)
        throw new MayflyError("not_found", "Project not found");
      const projectId = token.projectId ?? asked;
      const aliases = await listTeamAliases(store, {
        teamId: team.id,
        limit,
        ...(projectId === undefined ? {} : { projectId }),
        ...(Number(query["until"]) > 0 ? { untilMs: Number(query["until"]) } : {}),
      });
      return { aliases: aliases.map(aliasJson), pagination: pagination(aliases, limit, ({ createdAt }) => createdAt) };
    },
  }),
  ofProjects({
    method: "GET",
    path: "/aliases/:alias",
    summary: "Get an alias by its host",
    access: "read",
    handle: async (call) => aliasJson(await theAlias(call)),
  }),
  ofProjects({
    method: "DELETE",
    path: "/aliases/:alias",
    summary: "Take an alias away",
    access: "write",
    async handle(call) {
      await deleteAlias(call.context.store, (await theAlias(call)).host);
      return { status: "SUCCESS" };
    },
  }),
];

/** @throws MayflyError not_found, also for one that the caller may not see */
async function theAlias({ context, identity, params }: EndpointCall): Promise<Alias> {
  const alias = await findAlias(context.store, identity.team.id, params["alias"]!.toLowerCase());
  if (alias === null || !maySee(identity, alias.projectId)) throw new MayflyError("not_found", "Alias not found");
  return alias;
}

/**
 * The host a person means: `https://App.example.com/` is `app.example.com`, and a name without a dot is below the domain.
 * @throws MayflyError invalid_host
 */
export function aliasHost(text: string, domain: string): string {
  const bare = text
    .trim()
    .toLowerCase()
    .replace(/^https?:\/\//, "")
    .replace(/\/$/, "")
    .replace(/\.$/, "");
  const host = bare.includes(".") ? bare : `${bare}.${domain}`;
  if (!isHostName(host)) throw new MayflyError("invalid_host", `${JSON.stringify(text.slice(0, 300))} is not a host name.`);
  if (host === domain) throw new MayflyError("invalid_host", `The API answers at ${domain}.`);
  return host;
}

/**
 * Sees to it that the team may use the host: one below the server's domain, or below a domain that no other team has,
 * which is the team's from then on.
 * @throws MayflyError domain_taken
 */
export async function ownHost(
  store: EndpointCall["context"]["store"],
  teamId: string,
  host: string,
  serverDomain: string,
  now: number,
): Promise<void> {
  if (host.endsWith(`.${serverDomain}`)) return;
  const parts = host.split(".");
  // Whoever has example.com has what is below it.
  for (let length = 2; length <= parts.length; length++) {
    const name = parts.slice(-length).join(".");
    const owner = await store.db.selectFrom("domains").select("team_id").where("name", "=", name).executeTakeFirst();
    if (owner === undefined) continue;
    if (owner.team_id !== teamId) throw new MayflyError("domain_taken", `The domain ${name} belongs to another team.`);
    return;
  }
  if ((await ensureDomain(store, teamId, host, now)) === null) {
    throw new MayflyError("domain_taken", `The domain ${host} belongs to another team.`);
  }
}

const aliasJson = ({ host, deploymentId, projectId, createdAt }: Alias) => ({
  uid: host,
  alias: host,
  deploymentId,
  projectId,
  deployment: { id: deploymentId },
  created: new Date(createdAt).toISOString(),
  createdAt,
});
