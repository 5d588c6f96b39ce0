/** Tokens as the client sees them: their text is given once, when they are made. */
import type { ApiClient } from "./client.ts";
import { number, object, objects, text, type JsonObject } from "./json.ts";

export interface TokenFacts {
  readonly id: string;
  readonly name: string;
  /** `full` or `read-only`. */
  readonly scope: string;
  /** The only project it reaches; null: every one of the team. */
  readonly projectId: string | null;
  readonly createdAtMs: number | null;
  /** null: never. */
  readonly expiresAtMs: number | null;
  /** null: not yet. */
  readonly usedAtMs: number | null;
}

export async function listTokens(client: ApiClient): Promise<readonly TokenFacts[]> {
  return objects((await client.call("GET", "/v5/user/tokens"))["tokens"]).map(parseToken);
}

export interface NewToken {
  readonly name: string;
  readonly readOnly: boolean;
  /** Id or name. */
  readonly project: string | undefined;
  readonly expiresAtMs: number | undefined;
}

/** @returns its text, which the server does not keep */
export async function addToken(client: ApiClient, token: NewToken): Promise<{ readonly token: TokenFacts; readonly value: string }> {
  const { name, readOnly, project, expiresAtMs } = token;
  const body = {
    name,
    scope: readOnly ? "read-only" : "full",
    ...(project !== undefined && { project }),
    ...(expiresAtMs !== undefined && { expiresAt: expiresAtMs }),
  };
  const answer = await client.call("POST", "/v3/user/tokens", { body });
  return { token: parseToken(object(answer["token"])), value: text(answer["bearerToken"]) ?? "" };
}

/** It is refused from now on. @throws MayflyError not_found */
export async function removeToken(client: ApiClient, id: string): Promise<void> {
  await client.call("DELETE", `/v3/user/tokens/${encodeURIComponent(id)}`);
}

function parseToken(json: JsonObject): TokenFacts {
  return {
    id: text(json["id"]) ?? "",
    name: text(json["name"]) ?? "",
    scope: text(json["scope"]) ?? "full",
    projectId: text(json["projectId"]) ?? null,
    createdAtMs: number(json["createdAt"]) ?? null,
    expiresAtMs: number(json["expiresAt"]) ?? null,
    usedAtMs: number(json["activeAt"]) ?? null,
  };
}
