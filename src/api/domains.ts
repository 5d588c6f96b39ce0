/** Domains of the team and of projects, in the shapes that the official client reads. Nothing is bought or verified here. */
import { productionHost } from "../deploy/alias.ts";
import { MayflyError } from "../errors.ts";
import type { ProjectDomain } from "../model.ts";
import { findAlias } from "../store/aliases.ts";
import { findDeployment, listDeployments } from "../store/deployments.ts";
import {
  addProjectDomain,
  deleteDomain,
  deleteProjectDomain,
  ensureDomain,
  findDomain,
  findProjectDomain,
  listDomains,
  listProjectDomains,
  type Domain,
} from "../store/domains.ts";
import type { Identity } from "../store/tokens.ts";
import { aliasHost, ownHost } from "./aliases.ts";
import { ofProject, ofTeam, type Endpoint, type EndpointCall, type ProjectCall } from "./endpoint.ts";
import { object, optional, pageSize, paging, string, stringOf } from "./schema.ts";

export const domainEndpoints: readonly Endpoint[] = [
  ofTeam({
    method: "GET",
    path: "/domains",
    summary: "List the team's domains",
    access: "read",
    query: paging,
    async handle({ context: { store }, identity, query }) {
      const domains = await listDomains(store, identity.team.id, pageSize(query, 100));
      return {
        domains: domains.map((domain) => domainJson(domain, identity)),
        pagination: { count: domains.length, next: null, prev: null },
      };
    },
  }),
  ofTeam({
    method: "POST",
    path: "/domains",
    summary: "Add a domain to the team",
    access: "write",
    body: object({ name: string }, "name"),
    async handle({ context: { store, config, clock }, identity, body }) {
      const { team } = identity;
      const name = aliasHost(stringOf(body, "name") ?? "", config.domain);
      await ownHost(store, team.id, name, config.domain, clock.now());
      const domain = await ensureDomain(store, team.id, name, clock.now());
      if (domain === null) throw new MayflyError("domain_taken", `The domain ${name} belongs to another team.`);
      return { domain: domainJson(domain, identity) };
    },
  }),
  ofTeam({
    method: "GET",
    path: "/domains/:domain",
    summary: "Get a domain",
    access: "read",
    handle: async (call) => ({ domain: domainJson(await theDomain(call), call.identity) }),
  }),
  ofTeam({
    method: "DELETE",
    path: "/domains/:domain",
    summary: "Take a domain from the team, with the aliases below it",
    access: "write",
    async handle(call) {
      const { name } = await theDomain(call);
      await deleteDomain(call.context.store, call.identity.team.id, name);
      return { uid: name };
    },
  }),
  ofTeam({
    method: "GET",
    path: "/domains/:domain/config",
    summary: "How a domain is set up; its DNS is its owner's to point here",
    access: "read",
    handle: async () => ({ configuredBy: "A", acceptedChallenges: [], misconfigured: false, nameservers: [], cnames: [], aValues: [] }),
  }),
  ofTeam({
    method: "GET",
    path: "/registrar/domains/:domain/availability",
    summary: "Whether a domain can be bought here: none can",
    access: "read",
    handle: async () => ({ available: false }),
  }),
  ofTeam({
    method: "GET",
    path: "/domains/status",
    summary: "The same, as older clients ask it",
    access: "read",
    query: { name: string },
    handle: async () => ({ available: false }),
  }),
  ofProject({
    method: "GET",
    path: "/projects/:project/domains",
    summary: "Hosts of a project",
    access: "read",
    query: paging,
    async handle({ project, context: { store, config } }) {
      const own: ProjectDomain = {
        host: productionHost(project.name, config.domain),
        projectId: project.id,
        branch: null,
        createdAt: project.createdAt,
      };
      const domains = [own, ...(await listProjectDomains(store, project.id))].map(projectDomainJson);
      return { domains, pagination: { count: domains.length, next: null, prev: null } };
    },
  }),
  ofProject({
    method: "POST",
    path: "/projects/:project/domains",
    summary: "Give a host to a project: it follows production, or a Git branch",
    access: "write",
    body: object({ name: string, gitBranch: optional(string) }, "name"),
    handle: async (call) => projectDomainJson(await addDomain(call, stringOf(call.body, "name") ?? "", stringOf(call.body, "gitBranch"))),
  }),
  ofProject({
    method: "POST",
    path: "/projects/:project/alias",
    summary: "Give a host to a project, as `vercel domains add` does",
    access: "write",
    body: object({ domain: string, target: string }, "domain"),
    async handle(call) {
      await addDomain(call, stringOf(call.body, "domain") ?? "", null);
      const domains = await listProjectDomains(call.context.store, call.project.id);
      return domains.map((domain) => ({ domain: domain.host, target: "PRODUCTION", createdAt: domain.createdAt }));
    },
  }),
  ofProject({
    method: "GET",
    path: "/projects/:project/domains/:domain",
    summary: "Get a host of a project",
    access: "read",
    handle: async (call) => projectDomainJson(await theProjectDomain(call)),
  }),
  ofProject({
    method: "DELETE",
    path: "/projects/:project/domains/:domain",
    summary: "Take a host from a project",
    access: "write",
    async handle(call) {
      const { host } = await theProjectDomain(call);
      await deleteProjectDomain(call.context.store, call.project.id, host);
      return {};
    },
  }),
];

async function addDomain(call: ProjectCall, text: string, branch: string | null): Promise<ProjectDomain> {
  const { project, identity } = call;
  const { store, config, clock } = call.context;
  const host = aliasHost(text, config.domain);
  await ownHost(store, identity.team.id, host, config.domain, clock.now());
  const taken = () => new MayflyError("alias_in_use", `The host ${host} is in use.`);
  const immutable = await store.db.selectFrom("deployments").select("id").where("host", "=", host).executeTakeFirst();
  const alias = await store.db.selectFrom("aliases").select("project_id").where("host", "=", host).executeTakeFirst();
  if (immutable !== undefined || (alias !== undefined && alias.project_id !== project.id)) throw taken();
  const domain: ProjectDomain = { host, projectId: project.id, branch, createdAt: clock.now() };
  if (!(await addProjectDomain(store, domain, await followed(call, branch)))) throw taken();
  return domain;
}

/** The deployment that production, or a branch, is at now. */
async function followed({ project, context: { store, config } }: ProjectCall, branch: string | null) {
  if (branch !== null) {
    const query = { teamId: project.teamId, projectId: project.id, branch, states: ["READY"], limit: 1 } as const;
    return (await listDeployments(store, query))[0] ?? null;
  }
  const alias = await findAlias(store, project.teamId, productionHost(project.name, config.domain));
  return alias === null ? null : findDeployment(store, project.teamId, alias.deploymentId);
}

async function theDomain({ context, identity, params }: EndpointCall): Promise<Domain> {
  const domain = await findDomain(context.store, identity.team.id, params["domain"]!.toLowerCase());
  if (domain === null) throw new MayflyError("not_found", "Domain not found");
  return domain;
}

async function theProjectDomain({ project, context, params }: ProjectCall): Promise<ProjectDomain> {
  const domain = await findProjectDomain(context.store, project.id, params["domain"]!.toLowerCase());
  if (domain === null) throw new MayflyError("not_found", "The project has no such domain.");
  return domain;
}

/** The official client shows who made it; a domain is the team's here, so that is whoever asks. */
const domainJson = ({ name, createdAt }: Domain, { user }: Identity) => ({
  id: name,
  name,
  serviceType: "external",
  verified: true,
  cdnEnabled: true,
  nameservers: [],
  intendedNameservers: [],
  customNameservers: [],
  boughtAt: null,
  expiresAt: null,
  renew: false,
  creator: { id: user.id, username: user.username, email: user.email },
  createdAt,
});

const projectDomainJson = ({ host, projectId, branch, createdAt }: ProjectDomain) => ({
  name: host,
  apexName: host.split(".").slice(-2).join("."),
  projectId,
  redirect: null,
  gitBranch: branch,
  verified: true,
  createdAt,
  updatedAt: createdAt,
});
