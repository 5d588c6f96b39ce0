/**
 * The API: a table of endpoints, one resource a file. Version prefixes (`/v13/`) and `/now/` are taken off before
 * routing, because clients mix them freely. Who may call is decided before a body is read; what is in it is checked
 * against the endpoint's schema. Errors are `{"error":{"code","message",…}}` from the one table.
 */
import rateLimit from "@fastify/rate-limit";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { OutgoingHttpHeaders } from "node:http";
import { pipeline, Readable } from "node:stream";
import { json } from "node:stream/consumers";
import type { Cron } from "../deploy/cron.ts";
import type { DeployContext } from "../deploy/deploy.ts";
import type { Maintenance } from "../deploy/maintenance.ts";
import type { BuildQueue } from "../deploy/queue.ts";
import { MayflyError } from "../errors.ts";
import type { Git } from "../git/git.ts";
import type { Identity } from "../store/tokens.ts";
import { aliasEndpoints } from "./aliases.ts";
import { authenticate, authorize } from "./auth.ts";
import { cronEndpoints } from "./crons.ts";
import { deploymentEndpoints } from "./deployments.ts";
import { domainEndpoints } from "./domains.ts";
import { Reply, type Endpoint, type EndpointCall } from "./endpoint.ts";
import { edgeCacheEndpoints } from "./edge-cache.ts";
import { fileEndpoints } from "./files.ts";
import { gitEndpoints } from "./git.ts";
import { logEndpoints } from "./logs.ts";
import { maintenanceEndpoints } from "./maintenance.ts";
import { metricEndpoints } from "./metrics.ts";
import { openApiDocument } from "./openapi.ts";
import { productionEndpoints } from "./production.ts";
import { projectEndpoints } from "./projects.ts";
import type { JsonObject } from "./schema.ts";
import { teamEndpoints } from "./teams.ts";
import { tokenEndpoints } from "./tokens.ts";
import { usageEndpoints } from "./usage.ts";
import { variableEndpoints } from "./variables.ts";

export const endpoints: readonly Endpoint[] = [
  ...teamEndpoints,
  ...tokenEndpoints,
  ...projectEndpoints,
  ...variableEndpoints,
  ...productionEndpoints,
  ...domainEndpoints,
  ...aliasEndpoints,
  ...fileEndpoints,
  ...deploymentEndpoints,
  ...logEndpoints,
  ...cronEndpoints,
  ...edgeCacheEndpoints,
  ...usageEndpoints,
  ...maintenanceEndpoints,
  ...metricEndpoints,
  ...gitEndpoints,
];

/** Addresses and tokens whose rate is remembered; beyond it those heard of longest ago are forgotten. */
const ratesMax = 10_000;
const rateWindowMs = 60_000;

export interface ApiOptions {
  readonly context: DeployContext;
  readonly queue: BuildQueue;
  readonly cron: Cron;
  readonly maintenance: Maintenance;
  readonly git: Git;
  readonly publicUrlOf: (host: string) => string;
  readonly figures: EndpointCall["figures"];
  /** Unix socket to listen on. */
  readonly socketPath: string;
  readonly log: (line: string) => void;
}

/** Listens; `close` ends what is in flight. */
export async function openApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const closing = new AbortController();
  const app = Fastify({
    rewriteUrl: (request) => (request.url ?? "/").replace(/^\/(?:v\d{1,2}\/)?(?:now\/)?/, "/"),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 300 },
    bodyLimit: Number.MAX_SAFE_INTEGER, // JSON is bounded where it is read, uploads by their endpoint
    requestTimeout: 0, // a 1 GB upload takes as long as the line is slow; the gateway bounds idleness
    forceCloseConnections: true,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allowUnionTypes: true } },
    schemaErrorFormatter: (errors, dataVar) => {
      const [{ instancePath = "", message = "is not valid", params = {} } = {}] = errors;
      const field = `${dataVar}${instancePath.replaceAll("/", ".")}`;
      const allowed = Array.isArray(params["allowedValues"]) ? `: ${params["allowedValues"].join(", ")}` : "";
      return new Error(`${dataVar === "querystring" ? field.replace("querystring", "query") : field} ${message}${allowed}.`);
    },
  });
  app.removeAllContentTypeParsers();
  // Whatever content type a client claims: the official one sends JSON as text.
  app.addContentTypeParser("*", async (request: FastifyRequest, payload: Readable) =>
    request.routeOptions.schema?.body === undefined ? payload : readJson(payload, options.context.config.requestJsonBytesMax),
  );
  app.decorateRequest("identity", null);
  await app.register(rateLimit, { global: false, cache: ratesMax });
  const limit = rateLimits(app, options);
  for (const endpoint of endpoints) addRoute(app, endpoint, options, limit, closing.signal);

  const document = JSON.stringify(openApiDocument(endpoints));
  app.get("/openapi.json", (_request, reply) => reply.type("application/json; charset=utf-8").send(document));
  app.setNotFoundHandler((_request, reply) => sendError(reply, new MayflyError("not_found", "There is no such endpoint.")));
  // A refused upload is still being sent: it is read to its end, or the client would see a broken connection, not the reason.
  app.addHook("onError", async (request) => void request.raw.resume());
  app.addHook("onSend", async (_request, reply) => void reply.removeHeader("connection"));
  app.setErrorHandler((error, request, reply) => {
    const known = error instanceof MayflyError ? error : fastifyError(error);
    if (known.status >= 500) options.log(`${request.method} ${request.url}: ${String((error as Error).stack ?? error)}`);
    return sendError(reply, known);
  });

  await app.listen({ path: options.socketPath });
  return {
    async close() {
      closing.abort();
      await app.close();
    },
  };
}

type Limits = Readonly<Record<"address" | "token", (request: FastifyRequest) => Promise<void>>>;

/** The window is a minute. An upload is no call: a deployment may have 100,000 of them. */
function rateLimits(app: FastifyInstance, { context: { config } }: ApiOptions): Limits {
  const limiter = (max: number, keyGenerator: (request: FastifyRequest) => string) => {
    const check = app.createRateLimit({ max, timeWindow: rateWindowMs, keyGenerator });
    return async (request: FastifyRequest) => {
      const rate = await check(request);
      if (rate.isAllowed || !rate.isExceeded) return;
      throw new MayflyError("rate_limited", `More than ${max} calls in a minute. Try again in ${rate.ttlInSeconds} s.`, {
        details: { limit: { total: max, remaining: 0, reset: Math.ceil(rate.ttlInSeconds) }, retryAfterS: rate.ttlInSeconds },
      });
    };
  };
  return {
    address: limiter(config.apiAddressRateMax, (request) => String(request.headers["x-forwarded-for"] ?? "")),
    token: limiter(config.apiTokenRateMax, (request) => identityOf(request).token.id),
  };
}

function addRoute(app: FastifyInstance, endpoint: Endpoint, options: ApiOptions, limit: Limits, closing: AbortSignal): void {
  const { context, queue, cron, maintenance, git, publicUrlOf, figures } = options;
  const { access, query, body } = endpoint;
  app.route({
    method: endpoint.method,
    url: endpoint.path,
    schema: {
      ...(query === undefined ? {} : { querystring: { type: "object", properties: query } }),
      ...(body === undefined || body === "stream" ? {} : { body }),
    },
    async onRequest(request) {
      if (access === "anyone") return limit.address(request);
      // Who has no valid token is counted by address, so that guessing is slow; who has one, by token.
      const identity = await authenticate(context.store, request, context.clock.now()).catch(async (error: unknown) => {
        await limit.address(request);
        throw error;
      });
      authorize(identity, endpoint);
      Object.assign(request, { identity });
      if (body !== "stream") await limit.token(request);
    },
    async preValidation(request) {
      request.body ??= body === "stream" ? Readable.from([]) : {};
    },
    async handler(request, reply) {
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      const result = await endpoint.handle({
        context,
        queue,
        cron,
        maintenance,
        git,
        identity: identityOf(request),
        request,
        params: request.params as Record<string, string>,
        query: request.query as Record<string, string | undefined>,
        body: request.body as JsonObject,
        publicUrlOf,
        tell: (kind, id, text) => void reply.header(`x-vercel-${kind}-${id}`, text.replaceAll(/[^\x20-\x7e]/g, "?")),
        figures,
        signal: AbortSignal.any([gone.signal, closing]),
      });
      if (result === undefined) return reply.code(204).send();
      if (result instanceof Reply) return reply.type(result.type).send(result.body);
      if (result instanceof Readable) return sendLines(reply, result);
      return reply
        .code(endpoint.status ?? 200)
        .type("application/json; charset=utf-8")
        .send(JSON.stringify(result));
    },
  });
}

/** The head goes at once: a log that is followed may have its first line in an hour. */
function sendLines(reply: FastifyReply, lines: Readable): void {
  reply.hijack();
  reply.raw.writeHead(200, { ...reply.getHeaders(), "content-type": "application/x-ndjson" } as OutgoingHttpHeaders);
  reply.raw.flushHeaders();
  pipeline(lines, reply.raw, () => {}); // whichever side breaks off ends both
}

/** Of a route for which there is a rule: {@link addRoute} has set it. */
const identityOf = (request: FastifyRequest): Identity => (request as unknown as { identity: Identity }).identity;

/** @throws MayflyError invalid_json, payload_too_large */
async function readJson(payload: Readable, bytesMax: number): Promise<unknown> {
  let size = 0;
  const bounded = payload.iterator({ destroyOnReturn: false });
  async function* chunks(): AsyncGenerator<Buffer> {
    for await (const chunk of bounded) {
      size += (chunk as Buffer).byteLength;
      if (size > bytesMax) throw new MayflyError("payload_too_large", `A request may have ${bytesMax} bytes of JSON.`);
      yield chunk as Buffer;
    }
  }
  try {
    return await json(Readable.from(chunks()));
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    if (size === 0) return {};
    throw new MayflyError("invalid_json", undefined, { cause: error });
  }
}

function sendError(reply: FastifyReply, error: MayflyError) {
  const { retryAfterS, ...details } = error.details;
  if (typeof retryAfterS === "number") reply.header("retry-after", Math.ceil(retryAfterS));
  const body = { error: { code: error.code, message: error.message, ...details } };
  return reply.code(error.status).type("application/json; charset=utf-8").send(JSON.stringify(body));
}

/** Fastify's own refusals (a body of the wrong shape, a malformed URL) keep their 4xx; anything else is our fault. */
function fastifyError(error: unknown): MayflyError {
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  const { validation } = error as { validation?: readonly { instancePath: string; keyword: string }[] };
  // Another type altogether than an object.
  if (validation?.[0]?.instancePath === "" && validation[0].keyword === "type") {
    return new MayflyError("invalid_json", (error as Error).message);
  }
  if (status >= 400 && status < 500) return new MayflyError("bad_request", (error as Error).message);
  return new MayflyError("internal_error", undefined, { cause: error });
}
