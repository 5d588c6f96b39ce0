/**
 * What an endpoint of the API is, who may call it, and what it may use. An endpoint is made by one of the functions
 * below, which say whose resource it is about; they find that resource, or answer 404, before the endpoint's own code
 * runs. So no endpoint can reach another team's project, or another project than its token is for.
 */
import type { FastifyRequest } from "fastify";
import type { Readable } from "node:stream";
import type { Cron } from "../deploy/cron.ts";
import type { DeployContext } from "../deploy/deploy.ts";
import type { Maintenance } from "../deploy/maintenance.ts";
import type { BuildQueue } from "../deploy/queue.ts";
import { MayflyError } from "../errors.ts";
import type { Git } from "../git/git.ts";
import type { Deployment, Project } from "../model.ts";
import { findDeployment } from "../store/deployments.ts";
import { findProject } from "../store/projects.ts";
import type { Identity } from "../store/tokens.ts";
import type { JsonObject, JsonSchema } from "./schema.ts";

/**
 * Who may call:
 * `anyone`: without a token · `read`: every token · `write`: every token but a read-only one · `admin`: an owner's,
 * neither read-only nor for one project.
 */
export type Access = "anyone" | "read" | "write" | "admin";

/**
 * What it is about: `server`: nobody's · `team`: the token's team; a token for one project has no access ·
 * `projects`: those of the token's team, or the one it is for, which the endpoint sees to · `project`, `deployment`: the
 * one that the path names.
 */
export type Subject = "server" | "team" | "projects" | "project" | "deployment";

interface Definition<Call> {
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  /** Without version prefix; parameters as `:name`, `:project` and `:deployment` among them. */
  readonly path: string;
  /** What it does, in a few words: for the OpenAPI document. */
  readonly summary: string;
  readonly access: Access;
  /** Query parameters by name; `teamId` and `slug` every endpoint has. */
  readonly query?: Readonly<Record<string, JsonSchema>>;
  /** Of the JSON body. Absent: the body is not looked at; `"stream"`: the endpoint reads it. */
  readonly body?: JsonSchema | "stream";
  /** Of a success with a result; 200 if absent. */
  readonly status?: number;
  /** Its result is the JSON answer; undefined is a 204; a stream is newline-delimited JSON; a {@link Reply} is itself. */
  readonly handle: (call: Call) => Promise<unknown>;
}

export interface Endpoint extends Definition<EndpointCall> {
  readonly subject: Subject;
}

/** All that an endpoint may use. */
export interface EndpointCall {
  readonly context: DeployContext;
  readonly queue: BuildQueue;
  readonly cron: Cron;
  readonly maintenance: Maintenance;
  readonly git: Git;
  readonly identity: Identity;
  readonly request: FastifyRequest;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string | undefined>>;
  /** The body, checked against the endpoint's schema. */
  readonly body: JsonObject;
  /** Scheme, host and port at which people reach a host that this platform serves. */
  publicUrlOf(host: string): string;
  /** Shown to a person by the official client and ours, whatever else is answered. `id`: kebab-case, unique in an answer. */
  tell(kind: "warning" | "notice" | "tip", id: string, text: string): void;
  /** Of the data plane; null when it does not say in time. */
  figures(): Promise<NodeFigures | null>;
  /** Aborted when the client has gone or the server closes. */
  readonly signal: AbortSignal;
}

/** What the data plane says of itself. Counters grow since its start. */
export interface NodeFigures {
  readonly requests: Readonly<Record<string, number>>;
  readonly starts: Readonly<Record<string, number>>;
  readonly durationMs: number;
  readonly instances: Readonly<Record<"live" | "resting" | "standby", number>>;
  readonly functions: number;
  readonly waiting: number;
  readonly memoryMB: number;
}

/** An answer that is not JSON. */
export class Reply {
  readonly type: string;
  readonly body: string | Buffer | Readable;

  constructor(type: string, body: string | Buffer | Readable) {
    this.type = type;
    this.body = body;
  }
}

export type ProjectCall = EndpointCall & { readonly project: Project };
export type DeploymentCall = EndpointCall & { readonly deployment: Deployment };

export const ofServer = (definition: Definition<Omit<EndpointCall, "identity">>): Endpoint => ({ ...definition, subject: "server" });
export const ofTeam = (definition: Definition<EndpointCall>): Endpoint => ({ ...definition, subject: "team" });
export const ofProjects = (definition: Definition<EndpointCall>): Endpoint => ({ ...definition, subject: "projects" });

/** Its path has `:project`: an id or a name. */
export const ofProject = (definition: Definition<ProjectCall>): Endpoint => ({
  ...definition,
  subject: "project",
  handle: async (call) => definition.handle({ ...call, project: await theProject(call, call.params["project"]!) }),
});

/** Its path has `:deployment`: an id, a host or an alias. */
export const ofDeployment = (definition: Definition<DeploymentCall>): Endpoint => ({
  ...definition,
  subject: "deployment",
  handle: async (call) => definition.handle({ ...call, deployment: await theDeployment(call, call.params["deployment"]!) }),
});

/** @throws MayflyError not_found, also for one that the caller may not see */
export async function theProject({ context, identity }: Pick<EndpointCall, "context" | "identity">, idOrName: string): Promise<Project> {
  const project = await findProject(context.store, identity.team.id, idOrName);
  if (project === null || !maySee(identity, project.id)) throw new MayflyError("not_found", "Project not found");
  return project;
}

/** @throws MayflyError not_found, also for one that the caller may not see */
export async function theDeployment(
  { context, identity }: Pick<EndpointCall, "context" | "identity">,
  idOrHost: string,
): Promise<Deployment> {
  const deployment = await findDeployment(context.store, identity.team.id, idOrHost.toLowerCase());
  if (deployment === null || !maySee(identity, deployment.projectId)) throw new MayflyError("not_found", "Deployment not found");
  return deployment;
}

/** Whether the token reaches this project of its team. */
export const maySee = ({ token }: Identity, projectId: string): boolean => token.projectId === null || token.projectId === projectId;
