/**
 * A directory's tie to a project: `.vercel/project.json`, the file that the official client reads and writes, so that a
 * directory is linked once for both. Its `orgId` tells whether the project is one of this server.
 */
import { appendFile, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import { isObject, text } from "./json.ts";

/** Below the linked directory. */
export const linkPath = ".vercel/project.json";

export interface ProjectLink {
  readonly projectId: string;
  /** The team it belongs to. */
  readonly orgId: string;
  /** Older clients leave it out. */
  readonly projectName: string | undefined;
}

/** undefined: the directory is not linked. @throws MayflyError config_invalid when the file is not what it should be */
export async function readLinkFile(directory: string): Promise<ProjectLink | undefined> {
  const path = join(directory, linkPath);
  let content: string;
  try {
    content = await readFile(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw new MayflyError("config_invalid", `Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    // said below
  }
  const [projectId, orgId] = isObject(value) ? [text(value["projectId"]), text(value["orgId"])] : [];
  if (projectId === undefined || orgId === undefined) {
    throw new MayflyError("config_invalid", `${path} does not name a project; remove it, or link the directory anew with "mayfly link".`);
  }
  return { projectId, orgId, projectName: isObject(value) ? text(value["projectName"]) : undefined };
}

/**
 * Ties the directory to a project. An earlier link is kept beside it as `project.json.before`.
 * @returns what was changed besides, for people
 */
export async function writeLinkFile(directory: string, link: ProjectLink): Promise<readonly string[]> {
  const path = join(directory, linkPath);
  const content = `${JSON.stringify({ projectId: link.projectId, orgId: link.orgId, projectName: link.projectName })}\n`;
  const notes: string[] = [];
  try {
    await mkdir(join(path, ".."), { recursive: true });
    const before = await readFile(path, "utf8").catch(() => undefined);
    if (before !== undefined && before.trim() !== content.trim()) {
      await writeFile(`${path}.before`, before);
      notes.push(`The earlier link is kept in ${linkPath}.before`);
    }
    // Whole or not at all: the other client may read it now.
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
    if (await ignoreInGit(directory)) notes.push("Added .vercel to .gitignore");
  } catch (error) {
    throw new MayflyError("config_invalid", `Cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
  return notes;
}

/** Where there is a `.gitignore`, the link is in it: it belongs to a machine and its server, not to the source. */
async function ignoreInGit(directory: string): Promise<boolean> {
  const path = join(directory, ".gitignore");
  const ignored = await readFile(path, "utf8").catch(() => undefined);
  if (ignored === undefined || /^\/?\.vercel\/?\s*$/m.test(ignored)) return false;
  await appendFile(path, `${ignored === "" || ignored.endsWith("\n") ? "" : "\n"}.vercel\n`);
  return true;
}
