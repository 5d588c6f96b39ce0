/** A commit's head: who wrote it and what for. */
import { runGit } from "./git-command.ts";
import type { Mirror } from "./mirror.ts";

export interface Commit {
  readonly sha: string;
  readonly author: string;
  readonly message: string;
}

const messageBytesMax = 65_536;

export async function readCommit(mirror: Mirror, sha: string): Promise<Commit> {
  const format = "--format=%an%x00%B";
  const text = await runGit(
    mirror.call("log", "-1", "--no-show-signature", "--no-color", "--encoding=UTF-8", format, sha),
    messageBytesMax * 2,
  );
  const [author = "", message = ""] = text.toString("utf8").split("\0");
  return { sha, author, message: message.trim().slice(0, messageBytesMax) };
}

/** The words in a commit's message that ask for no deployment; null: there are none. */
export function skipMark(message: string): string | null {
  return /\[(?:skip ci|ci skip|no ci|skip deploy|deploy skip|skip vercel|vercel skip)\]/i.exec(message)?.[0] ?? null;
}
