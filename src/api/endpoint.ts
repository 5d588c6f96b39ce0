/** What an endpoint of the API is, and what it may use. */
import type { FastifyRequest } from "fastify";
import type { DeployContext } from "../deploy/deploy.ts";
import type { BuildQueue } from "../deploy/queue.ts";
import type { Identity } from "../store/teams.ts";
import type { JsonObject } from "./body.ts";

export interface Endpoint {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Without version prefix; parameters as `:name`. */
  readonly path: string;
  /** Its result is the JSON of a 200; undefined is a 204; a stream is newline-delimited JSON. */
  readonly handle: (call: EndpointCall) => Promise<unknown>;
}

/** All that an endpoint may use. */
export interface EndpointCall {
  readonly context: DeployContext;
  readonly queue: BuildQueue;
  readonly identity: Identity;
  readonly request: FastifyRequest;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string | undefined>>;
  /** The body as a JSON object, within the limit. */
  json(): Promise<JsonObject>;
  /** Scheme, host and port at which people reach a host that this platform serves. */
  publicUrlOf(host: string): string;
  /** Aborted when the client has gone or the server closes. */
  readonly signal: AbortSignal;
}
