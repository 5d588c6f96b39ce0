/** A person with one version of the client, pointed at a server by `mayfly use-vercel-cli`, in a new project. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { scratchDirectory } from "../scratch.ts";
import { cleanEnv, type Mayfly } from "../server.ts";
import type { Version } from "./clients.ts";
import { World } from "./steps.ts";

export async function openWorld(mayfly: Mayfly, version: Version): Promise<World> {
  const home = scratchDirectory();
  const global = join(home, "vercel");
  const { code, stderr } = await mayfly.run("use-vercel-cli", "--dir", global);
  assert.equal(code, 0, stderr);
  const directory = scratchDirectory();
  return new World(mayfly, version, directory, { cwd: directory, global, env: cleanEnv(home) });
}
