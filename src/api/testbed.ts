/** A control plane in this process, with real store, blobs and builds, and ways to call its API as different people. */
import { join } from "node:path";
import { Pool, type Dispatcher } from "undici";
import { atEnd } from "../../test/at-end.ts";
import { scratchDirectory } from "../../test/scratch.ts";
import { loadConfig } from "../config.ts";
import { openControlPlane } from "../control-plane.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Store } from "../store/store.ts";
import { ensureFirstIdentity } from "../store/teams.ts";
import { createToken, fullGrant, type Identity, type TokenGrant } from "../store/tokens.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The body as JSON; null when it is none. */
  readonly json: any;
}

export interface TestApi {
  readonly data: string;
  readonly store: Store;
  /** Of the first team's owner. */
  readonly token: string;
  readonly identity: Pick<Identity, "user" | "team">;
  newToken(identity: Pick<Identity, "user" | "team">, grant?: Partial<TokenGrant>): Promise<string>;
  /** `token`: the owner's when absent, none when null. A stream's body is not waited for. */
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** Deploys files by their text and waits until the deployment is READY. */
  deploy(name: string, files: Readonly<Record<string, string>>, more?: object): Promise<{ id: string; url: string; projectId: string }>;
}

export interface CallOptions {
  readonly token?: string | null;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Gone when the test file has ended. */
export async function openTestApi(env: Readonly<Record<string, string>> = {}, data = scratchDirectory()): Promise<TestApi> {
  const config = loadConfig({ data, sandbox: "process", port: "3000" }, env);
  const plane = await openControlPlane(
    { config, port: 3000, token: null },
    () => {},
    async () => null,
  );
  atEnd(() => plane.close());
  const store = await openSqliteStore({ path: join(data, "mayfly.db") });
  atEnd(() => store.close());
  const pool = new Pool("http://localhost", { socketPath: plane.socketPath, connections: 50 });
  atEnd(() => pool.destroy());
  const token = plane.newToken!;
  const identity = await ensureFirstIdentity(store, "nobody");

  const call = async (method: string, path: string, options: CallOptions = {}): Promise<Answer> => {
    const bearer = options.token === undefined ? token : options.token;
    const { body } = options;
    const response = await pool.request({
      method: method as Dispatcher.HttpMethod,
      path,
      headers: { ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }), ...options.headers },
      ...(body === undefined ? {} : { body: typeof body === "string" || body instanceof Buffer ? body : JSON.stringify(body) }),
    });
    const endless = String(response.headers["content-type"]).includes("ndjson") && path.includes("runtime-logs");
    if (endless) {
      response.body.on("error", () => {});
      response.body.destroy();
    }
    const text = endless ? "" : await response.body.text();
    let json: unknown = null;
    try {
      json = JSON.parse(text);
    } catch {
      // Not every answer is JSON.
    }
    return { status: response.statusCode, headers: response.headers, text, json };
  };

  return {
    data,
    store,
    token,
    identity,
    call,
    newToken: async (who, grant = {}) => (await createToken(store, who, { ...fullGrant("test"), ...grant }, Date.now())).text,
    async deploy(name, files, more = {}) {
      const list = Object.entries(files).map(([file, data]) => ({ file, data, encoding: "utf-8" }));
      const made = await call("POST", "/v13/deployments", { body: { name, files: list, ...more } });
      if (made.status !== 200) throw new Error(made.text);
      const events = await call("GET", `/v3/deployments/${made.json.id}/events?follow=1`);
      const { json } = await call("GET", `/v13/deployments/${made.json.id}`);
      if (json.readyState !== "READY") throw new Error(`${made.json.id} is ${json.readyState}: ${events.text}`);
      return json;
    },
  };
}
