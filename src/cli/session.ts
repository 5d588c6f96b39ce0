/** A command's way to the API: the client for the server and token that its flags and environment name. */
import { homedir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../client/client.ts";
import { MayflyError } from "../errors.ts";
import type { Env, Invocation } from "./command.ts";
import { resolveApi, resolveToken } from "./credentials.ts";

/** @throws MayflyError usage (not a URL), config_invalid (credentials file) */
export async function openSession(invocation: Invocation): Promise<ApiClient> {
  const api = resolveApi(invocation.value("api"), invocation.env);
  const token = await resolveToken(api, invocation.value("token"), invocation.env);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token.value)) {
    throw new MayflyError("forbidden", `The token from ${token.from} has a character that no token has.`);
  }
  return new ApiClient({ api, token: token?.value });
}

/** Where this person's programs keep what they can do without. */
export function cacheHome(env: Env): string {
  return env["XDG_CACHE_HOME"] || join(env["HOME"] || homedir(), ".cache");
}

/** What a person can do about an error of the API; undefined: the message says it all. */
export async function adviceFor({ code }: MayflyError, invocation: Invocation): Promise<string | undefined> {
  if (!["server_unreachable", "unauthorized", "forbidden"].includes(code)) return undefined;
  const api = resolveApi(invocation.value("api"), invocation.env);
  if (code === "server_unreachable") {
    return `Start a server with "npm start" or "mayfly start", or name another with --api or MAYFLY_API.`;
  }
  const token = await resolveToken(api, invocation.value("token"), invocation.env);
  const where = "On the server's machine, the first `mayfly start` stores one; elsewhere pass --token or set MAYFLY_TOKEN.";
  if (token === undefined) return `There is no token for ${api}. ${where}`;
  return `${api} does not accept the token from ${token.from}. ${where}`;
}

/**
 * A deployment's id or host out of what a person has at hand: an id, a host or a URL (scheme, port and path are dropped).
 * @throws MayflyError usage
 */
export function parseDeploymentRef(text: string): string {
  if (/^dpl_\w+$/.test(text)) return text;
  const host = text
    .replace(/^[a-z][a-z\d+.-]*:\/\//i, "")
    .replace(/[/?#].*$/, "")
    .replace(/:\d*$/, "")
    .toLowerCase();
  if (/^[a-z\d_](?:[a-z\d._-]*[a-z\d])?$/.test(host)) return host;
  throw new MayflyError("usage", `"${text}" is not a deployment: give its id (dpl_…), its host or its URL.`);
}
