/**
 * Which files of a directory are not source: the default list (the official client's, and our data directory), then
 * `.vercelignore`, else the `.gitignore` of every directory. Hides the pattern syntax. Invariant: a `.gitignore` can
 * only leave out more, so that `!.*` in one never uploads `.git` or `.env.local`; `.vercelignore` may take back a default.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import ignore, { type Ignore } from "ignore";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";

/** Never uploaded unless `.vercelignore` takes them back. Patterns in gitignore's syntax. */
const defaultIgnored: readonly string[] = [
  // version control
  ".hg",
  ".git",
  ".gitmodules",
  ".gitignore",
  ".svn",
  "CVS",
  // secrets of this machine
  ".env.local",
  ".env.*.local",
  // what installs and builds make
  "node_modules",
  ".next",
  ".cache",
  ".yarn/cache",
  ".pnp*",
  ".venv",
  "venv",
  "__pycache__",
  "config.gypi",
  // platforms' own
  ".vercel",
  ".now",
  ".mayfly",
  // files of editors and tools
  ".npmignore",
  ".dockerignore",
  ".*.swp",
  ".DS_Store",
  ".wafpicke-*",
  ".lock-wscript",
  "npm-debug.log",
];

interface Layer {
  /** Directory of the patterns with a slash at its end; empty for the root. */
  readonly base: string;
  readonly patterns: Ignore;
}

/** The rules that hold in one directory. */
export interface IgnoreRules {
  /** Whether the entry (POSIX path from the root) is left out. */
  ignores(path: string, isDirectory: boolean): boolean;
  /** The rules in this directory (empty: the root; else without a slash at its end), which has a `.gitignore`. */
  enter(path: string): Promise<IgnoreRules>;
}

/** The rules of a source, before any directory is entered. */
export async function readIgnoreRules(root: string): Promise<IgnoreRules> {
  const own = await readVercelIgnore(root);
  const defaults = ignore().add([...defaultIgnored]);
  if (own !== undefined) return new Rules(root, defaults.add(own), [], false);
  return new Rules(root, defaults, [], true);
}

/** The person's own rules, without the defaults: what even a prebuilt output cannot send; undefined: there are none. */
export async function readVercelIgnore(root: string): Promise<Ignore | undefined> {
  // `ignore` does not understand patterns that begin with "./".
  const text = await readIfPresent(join(root, ".vercelignore"));
  return text === undefined ? undefined : ignore().add(text.replaceAll(/^(!?)\.\//gm, "$1"));
}

class Rules implements IgnoreRules {
  readonly #root: string;
  readonly #fixed: Ignore;
  /** Of the directories from the root to here; the deepest that says anything decides. */
  readonly #layers: readonly Layer[];
  readonly #nested: boolean;

  constructor(root: string, fixed: Ignore, layers: readonly Layer[], nested: boolean) {
    this.#root = root;
    this.#fixed = fixed;
    this.#layers = layers;
    this.#nested = nested;
  }

  ignores(path: string, isDirectory: boolean): boolean {
    const entry = isDirectory ? `${path}/` : path;
    if (this.#fixed.ignores(entry)) return true;
    for (const { base, patterns } of this.#layers) {
      const { ignored, unignored } = patterns.test(entry.slice(base.length));
      if (ignored || unignored) return ignored;
    }
    return false;
  }

  async enter(path: string): Promise<IgnoreRules> {
    if (!this.#nested) return this;
    const text = await readIfPresent(join(this.#root, path, ".gitignore"));
    if (text === undefined) return this;
    const layer = { base: path === "" ? "" : `${path}/`, patterns: ignore().add(text) };
    return new Rules(this.#root, this.#fixed, [layer, ...this.#layers], true);
  }
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "EISDIR") return undefined;
    throw new MayflyError("unreadable_file", `Cannot read ${JSON.stringify(path)}: ${messageOf(error)}`, { cause: error });
  }
}
