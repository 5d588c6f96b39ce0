/**
 * Which server, and the token for it. Hides the credentials file: `{"<api origin>": "<token>"}` in
 * `$XDG_CONFIG_HOME/mayfly/credentials.json` (else `~/.config/…`), readable by its owner alone. Invariant: the file is
 * replaced whole, by one writer at a time, so a reader never sees half of it and two writers both keep their tokens.
 */
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { Env } from "./command.ts";

const defaultApi = "http://127.0.0.1:3000";

/** A writer that holds the lock for longer, in ms, has died. */
const lockStaleMs = 5000;

export interface Token {
  readonly value: string;
  /** Where it comes from, for messages: `--token`, `MAYFLY_TOKEN` or a path. */
  readonly from: string;
}

/**
 * The API's origin: the flag, else MAYFLY_API, else {@link defaultApi}.
 * @throws MayflyError usage when it is no http(s) URL
 */
export function resolveApi(flag: string | undefined, env: Env): string {
  const label = flag === undefined ? "MAYFLY_API" : "--api";
  const text = flag ?? (env["MAYFLY_API"] || defaultApi);
  // "127.0.0.1:3000" is what people type.
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    throw new MayflyError("usage", `${label} is "${text}", which is not the URL of a server; it looks like ${defaultApi}.`);
  }
  return url.origin;
}

/**
 * The token to use with `api`; undefined when there is none.
 * @throws MayflyError config_invalid when the credentials file cannot be read
 */
export async function resolveToken(api: string, flag: string | undefined, env: Env): Promise<Token | undefined> {
  if (flag !== undefined) return { value: flag, from: "--token" };
  if (env["MAYFLY_TOKEN"]) return { value: env["MAYFLY_TOKEN"], from: "MAYFLY_TOKEN" };
  const value = await readToken(api, env);
  return value === undefined ? undefined : { value, from: credentialsPath(env) };
}

/** Where tokens are stored. */
export function credentialsPath(env: Env): string {
  const base = env["XDG_CONFIG_HOME"] || join(env["HOME"] || homedir(), ".config");
  return join(base, "mayfly", "credentials.json");
}

/** The stored token of an API; undefined: none is stored. @throws MayflyError config_invalid */
export async function readToken(api: string, env: Env): Promise<string | undefined> {
  return (await readAll(credentialsPath(env)))[originKey(api)];
}

/** Stores the token of an API, or removes it (`undefined`). @throws MayflyError config_invalid */
export async function writeToken(api: string, token: string | undefined, env: Env): Promise<void> {
  const path = credentialsPath(env);
  try {
    await mkdir(join(path, ".."), { recursive: true, mode: 0o700 });
    await using held = new AsyncDisposableStack();
    held.use(await lock(`${path}.lock`));
    const tokens = { ...(await readAll(path)), [originKey(api)]: token };
    const temporary = `${path}.new`;
    await rm(temporary, { force: true });
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(tokens, null, 2)}\n`);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    throw new MayflyError("config_invalid", `Cannot store the token in ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** The names of this machine's loopback are one server. */
function originKey(api: string): string {
  const url = new URL(api);
  if (/^(localhost|\[::1\]|127\.0\.0\.1)$/.test(url.hostname)) url.hostname = "127.0.0.1";
  return url.origin;
}

async function readAll(path: string): Promise<Readonly<Record<string, string>>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return {};
    throw new MayflyError("config_invalid", `Cannot read the tokens in ${path}: ${messageOf(error)}`, { cause: error });
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
    }
  } catch {
    // said below
  }
  throw new MayflyError("config_invalid", `${path} is not a JSON object of tokens; repair or remove it.`);
}

async function lock(path: string): Promise<AsyncDisposable> {
  for (;;) {
    try {
      await (await open(path, "wx", 0o600)).close();
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
    const age = await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > lockStaleMs) await rm(path, { force: true });
    else await sleep(10);
  }
}
