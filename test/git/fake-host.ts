/**
 * What the fakes of both Git hosts share: one origin with the real Git server and a REST API, calls that are recorded, and
 * webhooks that are sent as the host sends them. It can be told to fail for a while.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { request as ask } from "undici";
import { atEnd } from "../at-end.ts";
import { scratchDirectory } from "../scratch.ts";
import { serveGit } from "./git-http.ts";
import { Repository } from "./repository.ts";

export interface Call {
  readonly method: string;
  /** Without the API's prefix. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Record<string, unknown>;
  readonly headers: IncomingMessage["headers"];
}

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Hook {
  readonly url: string;
  readonly secret: string;
}

export abstract class FakeHost {
  readonly calls: Call[] = [];
  /** What was wrong with calls, by the published shapes. A test that ends with any has failed. */
  readonly wrong: string[] = [];
  /** Repository → hooks. */
  readonly hooks = new Map<string, Hook[]>();
  readonly paths: string[] = [];
  /** Path → the path that it had first. */
  readonly origins = new Map<string, string>();
  readonly privates = new Set<string>();
  /** Users that may push, as the API names them. */
  readonly members = new Set<string>();
  /** When set, the API answers so and does nothing. */
  failure: Answer | null = null;
  /** Called for each request of Git's own; true: it has answered. */
  onGit: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  readonly token = "secret-token-of-the-host";
  readonly #root = scratchDirectory();
  readonly #server: Server;
  abstract readonly prefix: string;

  constructor() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  /** Listens until the test file ends. */
  async open(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    atEnd(() => {
      this.#server.closeAllConnections();
      this.#server.close();
    });
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  repository(path: string, options: { private?: boolean } = {}): Repository {
    if (options.private === true) this.privates.add(path);
    this.paths.push(path);
    return new Repository(join(this.#root, `${path}.git`));
  }

  /** The repository gets another path and keeps its number; where it was is nothing any more. */
  rename(from: string, to: string): string {
    const bare = join(this.#root, `${to}.git`);
    mkdirSync(dirname(bare), { recursive: true });
    renameSync(join(this.#root, `${from}.git`), bare);
    this.origins.set(to, this.origins.get(from) ?? from);
    this.paths.splice(this.paths.indexOf(from), 1, to);
    this.hooks.set(to, this.hooks.get(from) ?? []);
    this.hooks.delete(from);
    if (this.privates.delete(from)) this.privates.add(to);
    return bare;
  }

  /** The host's number of a repository. */
  numberOf(path: string): number {
    return [...(this.origins.get(path) ?? path)].reduce((sum, character) => sum * 31 + character.charCodeAt(0), 1) % 1_000_000_007;
  }

  addressOf(path: string): string {
    return `${this.url}/${path}`;
  }

  called(method: string, path: RegExp): Call[] {
    return this.calls.filter((call) => call.method === method && path.test(call.path));
  }

  abstract answer(call: Call): Answer;

  protected async send(hook: Hook, headers: Record<string, string>, body: string): Promise<{ status: number; text: string }> {
    const target = new URL(hook.url);
    const response = await ask(`http://127.0.0.1:${target.port}${target.pathname}`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", host: target.host },
      body,
    });
    return { status: response.statusCode, text: await response.body.text() };
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (/\.git\//.test(request.url ?? "") && this.onGit(request, response)) return;
    const isPassword = (password: string) => this.isToken(password);
    if (serveGit({ root: this.#root, isPassword, isPrivate: (path) => this.privates.has(path) }, request, response)) return;
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const url = new URL(request.url ?? "/", this.url);
    if (!url.pathname.startsWith(this.prefix)) return void response.writeHead(404).end();
    const text = Buffer.concat(chunks).toString();
    const call: Call = {
      method: request.method ?? "",
      path: url.pathname.slice(this.prefix.length),
      query: url.searchParams,
      body: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>),
      headers: request.headers,
    };
    this.calls.push(call);
    const { status, body, headers } = this.failure ?? this.answer(call);
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(body === undefined ? "" : JSON.stringify(body));
  }

  isToken(token: string): boolean {
    return token === this.token;
  }
}
