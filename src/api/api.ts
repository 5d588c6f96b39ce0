/**
 * The API: a table of endpoints, one resource a file. Version prefixes (`/v13/`) and `/now/` are taken off before
 * routing, because clients mix them freely. Errors are `{"error":{"code","message",…}}` from the one table.
 */
import Fastify from "fastify";
import { Readable } from "node:stream";
import type { DeployContext } from "../deploy/deploy.ts";
import type { BuildQueue } from "../deploy/queue.ts";
import { MayflyError } from "../errors.ts";
import { authenticate } from "./auth.ts";
import { readJson } from "./body.ts";
import { deploymentEndpoints } from "./deployments.ts";
import type { Endpoint } from "./endpoint.ts";
import { fileEndpoints } from "./files.ts";
import { logEndpoints } from "./logs.ts";
import { projectEndpoints } from "./projects.ts";
import { teamEndpoints } from "./teams.ts";
import { usageEndpoints } from "./usage.ts";

export const endpoints: readonly Endpoint[] = [
  ...teamEndpoints,
  ...projectEndpoints,
  ...fileEndpoints,
  ...deploymentEndpoints,
  ...logEndpoints,
  ...usageEndpoints,
];

export interface ApiOptions {
  readonly context: DeployContext;
  readonly queue: BuildQueue;
  readonly publicUrlOf: (host: string) => string;
  /** Unix socket to listen on. */
  readonly socketPath: string;
  readonly log: (line: string) => void;
}

/** Listens; `close` ends what is in flight. */
export async function openApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const { context, queue, publicUrlOf } = options;
  const closing = new AbortController();
  const app = Fastify({
    rewriteUrl: (request) => (request.url ?? "/").replace(/^\/(?:v\d{1,2}\/)?(?:now\/)?/, "/"),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 300 },
    bodyLimit: Number.MAX_SAFE_INTEGER, // each endpoint bounds what it reads
    requestTimeout: 0, // a 1 GB upload takes as long as the line is slow; the gateway bounds idleness
    forceCloseConnections: true,
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, payload, done) => done(null, payload));

  for (const endpoint of endpoints) {
    app.route({
      method: endpoint.method,
      url: endpoint.path,
      async handler(request, reply) {
        const identity = await authenticate(context.store, request);
        const gone = new AbortController();
        reply.raw.once("close", () => gone.abort());
        const result = await endpoint.handle({
          context,
          queue,
          identity,
          request,
          params: request.params as Record<string, string>,
          query: request.query as Record<string, string | undefined>,
          json: () => readJson(request, context.config.requestJsonBytesMax),
          publicUrlOf,
          signal: AbortSignal.any([gone.signal, closing.signal]),
        });
        if (result === undefined) return reply.code(204).send();
        if (result instanceof Readable) return reply.type("application/x-ndjson").send(result);
        return reply.type("application/json; charset=utf-8").send(JSON.stringify(result));
      },
    });
  }
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

function sendError(reply: { code(status: number): { type(type: string): { send(body: string): unknown } } }, error: MayflyError) {
  const body = { error: { code: error.code, message: error.message, ...error.details } };
  return reply.code(error.status).type("application/json; charset=utf-8").send(JSON.stringify(body));
}

/** Fastify's own refusals (a malformed URL, say) keep their 4xx; anything else is our fault. */
function fastifyError(error: unknown): MayflyError {
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  if (status >= 400 && status < 500) return new MayflyError("bad_request", (error as Error).message);
  return new MayflyError("internal_error", undefined, { cause: error });
}
