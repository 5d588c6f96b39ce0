/** A person's clone of a repository, worked on with the real git and pushed into a bare one. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { scratchDirectory } from "../scratch.ts";
import { writeFiles } from "../server.ts";

const env = {
  PATH: process.env["PATH"],
  HOME: "/nonexistent",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_AUTHOR_NAME: "Ann",
  GIT_AUTHOR_EMAIL: "ann@example.com",
  GIT_COMMITTER_NAME: "Ann",
  GIT_COMMITTER_EMAIL: "ann@example.com",
};

export function git(directory: string, ...parameters: string[]): string {
  return execFileSync("git", ["-C", directory, ...parameters], { env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

export class Repository {
  readonly work: string;

  /** Makes the bare repository at `bare`, and a clone of it. */
  constructor(bare: string) {
    mkdirSync(bare, { recursive: true });
    git(bare, "init", "--bare", "--quiet", "--initial-branch=main");
    this.work = scratchDirectory();
    git(this.work, "init", "--quiet", "--initial-branch=main");
    git(this.work, "remote", "add", "origin", bare);
  }

  /** Commits these files on a branch (made from the present one when new) and returns the commit. null removes a file. */
  commit(branch: string, files: Readonly<Record<string, string | Buffer | null>>, message = "Change"): string {
    try {
      git(this.work, "checkout", "--quiet", branch);
    } catch {
      git(this.work, "checkout", "--quiet", "-B", branch);
    }
    for (const [path, content] of Object.entries(files)) {
      if (content === null) rmSync(join(this.work, path));
      else writeFiles(this.work, { [path]: content });
    }
    git(this.work, "add", "--all");
    git(this.work, "commit", "--quiet", "--allow-empty", "-m", message);
    return git(this.work, "rev-parse", "HEAD");
  }

  /** Pushes a branch as it is now; `ref`: under another name, as hosts keep pull requests. */
  push(branch: string, ref = `refs/heads/${branch}`): string {
    git(this.work, "push", "--quiet", "--force", "origin", `refs/heads/${branch}:${ref}`);
    return git(this.work, "rev-parse", branch);
  }

  /** The bare repository is somewhere else now. */
  moved(bare: string): void {
    git(this.work, "remote", "set-url", "origin", bare);
  }

  remove(branch: string): void {
    git(this.work, "push", "--quiet", "origin", `:refs/heads/${branch}`);
  }
}
