/**
 * For tests: a real HTTP server that speaks as much of the API as the client needs and records what it is asked. Uploads
 * are hashed, never kept. Invariant: without `intercept` it behaves; what misbehaves is written in the test that wants it.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface RecordedRequest {
  readonly method: string;
  /** Path without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  /** JSON body, once it is read. */
  body: any;
}

export interface RecordingApiOptions {
  /** The only token it accepts. */
  readonly token?: string;
  /** States that a deployment is polled in, one after the other; the last one stays. */
  readonly states?: readonly string[];
  /** More fields of the deployment. */
  readonly deployment?: Readonly<Record<string, unknown>>;
  /** Lines of the events stream. */
  readonly events?: readonly unknown[];
  /** Answers in the API's place when it returns true. */
  readonly intercept?: (request: RecordedRequest, response: ServerResponse, incoming: IncomingMessage) => boolean | Promise<boolean>;
}

export interface RecordingApi extends AsyncDisposable {
  readonly url: string;
  readonly requests: RecordedRequest[];
  /** SHA-1 → size of what was uploaded and had the digest that was announced. */
  readonly files: Map<string, number>;
  /** The requests of a method and a path. */
  to(method: string, path: string | RegExp): RecordedRequest[];
}

export function answer(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): true {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(status === 204 ? undefined : JSON.stringify(body));
  return true;
}

/** The API's way to say no. */
export function refuse(response: ServerResponse, status: number, code: string, message: string, more: Record<string, unknown> = {}): true {
  return answer(response, status, { error: { code, message, ...more } });
}

export async function openRecordingApi(options: RecordingApiOptions = {}): Promise<RecordingApi> {
  const requests: RecordedRequest[] = [];
  const files = new Map<string, number>();
  let polls = 0;
  const deployment = (state: string): Record<string, unknown> => ({
    id: "dpl_1",
    url: "site-abc123def.localhost",
    publicUrl: "http://site-abc123def.localhost:3000",
    name: "site",
    projectId: "prj_1",
    target: null,
    readyState: state,
    createdAt: 1_700_000_000_000,
    buildSummary: null,
    ...options.deployment,
  });
  const handle = async (request: RecordedRequest, incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method, path } = request;
    if (method === "POST" && path === "/v13/deployments") request.body = JSON.parse(await readText(incoming));
    if (await options.intercept?.(request, response, incoming)) return;
    const route = `${method} ${path}`;
    if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`) {
      refuse(response, 403, "forbidden", "The token is not valid.", { invalidToken: true });
    } else if (route === "GET /v2/user") {
      answer(response, 200, { user: { id: "usr_1", username: "alice", email: "alice@example.com" } });
    } else if (route === "POST /v2/files") {
      await receive(incoming, response, files);
    } else if (route === "POST /v13/deployments") {
      const given = request.body.files as readonly { readonly sha?: string; readonly data?: string }[];
      for (const { data } of given) {
        if (data === undefined) continue;
        const bytes = Buffer.from(data, "base64");
        files.set(createHash("sha1").update(bytes).digest("hex"), bytes.byteLength);
      }
      const missing = [...new Set(given.flatMap(({ sha }) => sha ?? []))].filter((sha) => !files.has(sha));
      if (missing.length > 0) refuse(response, 400, "missing_files", "Missing files", { missing });
      else answer(response, 200, deployment("QUEUED"));
    } else if (route === "GET /v13/deployments/dpl_1") {
      const states = options.states ?? ["BUILDING", "READY"];
      answer(response, 200, deployment(states[Math.min(polls++, states.length - 1)]!));
    } else if (route === "GET /v3/now/deployments/dpl_1/events") {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      response.end((options.events ?? []).map((event) => `${JSON.stringify(event)}\n`).join(""));
    } else {
      refuse(response, 404, "not_found", "Not found");
    }
  };
  const server = createServer((incoming, response) => {
    const url = new URL(incoming.url ?? "/", "http://recording");
    const request = {
      method: incoming.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      body: undefined,
    };
    requests.push(request);
    handle(request, incoming, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    files,
    to: (method, path) =>
      requests.filter(
        (request) => request.method === method && (typeof path === "string" ? request.path === path : path.test(request.path)),
      ),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function receive(incoming: IncomingMessage, response: ServerResponse, files: Map<string, number>): Promise<void> {
  const hash = createHash("sha1");
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.byteLength;
  }
  const sha = hash.digest("hex");
  if (sha !== incoming.headers["x-now-digest"]) {
    refuse(response, 400, "digest_mismatch", "The file's bytes do not have the digest that was announced.");
    return;
  }
  files.set(sha, size);
  answer(response, 200, { urls: [] });
}

async function readText(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
