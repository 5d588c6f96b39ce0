/**
 * The two files in which the official `vercel` client keeps its server and token: `config.json` and `auth.json` in its
 * global directory. Invariants: what else is in them stays; the files that were there before are kept beside them until
 * they are put back; a file is replaced whole.
 */
import { copyFile, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { isObject, type JsonObject } from "../client/json.ts";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { Env } from "./command.ts";

const names = ["config.json", "auth.json"] as const;
/** What was there before, or that nothing was. */
const keptSuffix = ".before-mayfly";

/** Where the official client looks unless it is told with `--global-config`. */
export function vercelDirectory(env: Env, platform: NodeJS.Platform): string {
  const home = env["HOME"] || homedir();
  if (env["XDG_DATA_HOME"]) return join(env["XDG_DATA_HOME"], "com.vercel.cli");
  if (platform === "darwin") return join(home, "Library", "Application Support", "com.vercel.cli");
  return join(home, ".local", "share", "com.vercel.cli");
}

/**
 * Points the client at `api` with `token`, in the team that this token is of.
 * @returns whether files that were there before are kept
 * @throws MayflyError config_invalid: a file cannot be read, understood or written
 */
export async function pointVercelAt(directory: string, api: string, token: string, teamId: string): Promise<boolean> {
  return guarded(directory, async () => {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const [config, auth] = await Promise.all(names.map((name) => readObject(join(directory, name))));
    let kept = false;
    for (const [name, before] of [["config.json", config] as const, ["auth.json", auth] as const]) {
      const path = join(directory, name);
      // A second call would keep what the first has written.
      if ((await exists(path + keptSuffix)) || (before !== undefined && before["api"] === api)) continue;
      if (before === undefined) await writeFile(path + keptSuffix, "", { mode: 0o600 });
      else {
        await copyFile(path, path + keptSuffix);
        kept = true;
      }
    }
    const others = config ?? {};
    // Without the team older clients take every deployment for another's.
    const telemetry = { ...objectIn(others, "telemetry"), enabled: false };
    await replace(join(directory, "config.json"), { ...others, api, currentTeam: teamId, telemetry });
    await replace(join(directory, "auth.json"), { token });
    return kept;
  });
}

/** Puts the earlier files back. @returns whether there was anything to put back */
export async function putVercelBack(directory: string): Promise<boolean> {
  return guarded(directory, async () => {
    let done = false;
    for (const path of names.map((name) => join(directory, name))) {
      const kept = await readFile(path + keptSuffix, "utf8").catch(() => undefined);
      if (kept === undefined) continue;
      if (kept === "") await rm(path, { force: true });
      else await rename(path + keptSuffix, path);
      await rm(path + keptSuffix, { force: true });
      done = true;
    }
    return done;
  });
}

async function guarded<T>(directory: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    throw new MayflyError("config_invalid", `Cannot change the vercel client's files in ${directory}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function readObject(path: string): Promise<JsonObject | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // said below
  }
  throw new MayflyError("config_invalid", `${path} is not a JSON object; repair or remove it.`);
}

function objectIn(json: JsonObject, key: string): JsonObject {
  const value = json[key];
  return isObject(value) ? value : {};
}

async function replace(path: string, value: JsonObject): Promise<void> {
  await writeFile(`${path}.new`, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function exists(path: string): Promise<boolean> {
  return (await readFile(path).catch(() => undefined)) !== undefined;
}
