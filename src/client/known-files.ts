/**
 * What a directory's files were when they were last deployed to a server: digests that need not be made again, and which
 * the server has. A file is taken for the same while its inode, size, mode and both times are. One that was changed just
 * before it was read is read again the next time, as Git does it: a later edit within one tick of the clock would leave
 * no trace. Invariant: without such a memory, or with a broken one, all is the same, only slower.
 */
import type { Stats } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

/** A time that is nearer to the reading than this, in ms, proves nothing: file systems count in steps of up to two seconds. */
const unsureMs = 2500;
/** Directories that are remembered; the one that was deployed longest ago is forgotten. */
const directoriesMax = 256;
const version = 1;

/** Of a file as it was read. `facts` null: it was read too soon after a change. */
interface KnownFile {
  readonly sha: string;
  readonly facts: string | null;
}

export class KnownFiles {
  readonly #path: string;
  readonly #before: ReadonlyMap<string, KnownFile>;
  readonly #sent: ReadonlySet<string>;
  readonly #now = new Map<string, KnownFile>();

  private constructor(path: string, before: ReadonlyMap<string, KnownFile>) {
    this.#path = path;
    this.#before = before;
    this.#sent = new Set([...before.values()].map(({ sha }) => sha));
  }

  /** @param path of the file it is kept in; its directory is made when needed */
  static async open(path: string): Promise<KnownFiles> {
    return new KnownFiles(path, await readKnown(path));
  }

  /** The SHA-1 of the file of which these are the facts; undefined: it must be read. */
  find(path: string, facts: Stats): string | undefined {
    const known = this.#before.get(path);
    if (known === undefined || known.facts !== textOf(facts)) return undefined;
    this.#now.set(path, known);
    return known.sha;
  }

  /**
   * A file was read.
   * @param facts of before the reading
   * @param readAtMs when it began
   */
  note(path: string, facts: Stats, readAtMs: number, sha: string): void {
    const isSure = Math.max(facts.mtimeMs, facts.ctimeMs) < readAtMs - unsureMs;
    this.#now.set(path, { sha, facts: isSure ? textOf(facts) : null });
  }

  /** Whether the server had a file of this SHA-1. */
  isSent(sha: string): boolean {
    return this.#sent.has(sha);
  }

  /** The server has all of the files that were read. Never rejects. */
  async keep(): Promise<void> {
    const isSame = this.#now.size === this.#before.size && [...this.#now].every(([path, known]) => this.#before.get(path) === known);
    if (isSame) return;
    const files = [...this.#now].map(([path, { sha, facts }]) => (facts === null ? [path, sha] : [path, sha, facts]));
    const temporary = `${this.#path}.${process.pid}`;
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      await writeFile(temporary, JSON.stringify({ version, files }), { mode: 0o600 });
      await rename(temporary, this.#path);
      if (this.#before.size === 0) await forgetOldest(dirname(this.#path));
    } catch {
      await rm(temporary, { force: true }).catch(() => {});
    }
  }
}

/** All by which a change shows. */
function textOf({ ino, size, mode, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mode} ${mtimeMs} ${ctimeMs}`;
}

async function readKnown(path: string): Promise<ReadonlyMap<string, KnownFile>> {
  try {
    const value = JSON.parse(await readFile(path, "utf8")) as { version: number; files: readonly (readonly [string, string, string?])[] };
    if (value.version !== version) return new Map();
    return new Map(value.files.map(([name, sha, facts = null]) => [name, { sha, facts }]));
  } catch {
    return new Map();
  }
}

async function forgetOldest(directory: string): Promise<void> {
  const names = await readdir(directory);
  if (names.length <= directoriesMax) return;
  const files = await Promise.all(names.map(async (name) => ({ name, keptAtMs: (await stat(join(directory, name))).mtimeMs })));
  files.sort((a, b) => a.keptAtMs - b.keptAtMs);
  for (const { name } of files.slice(0, files.length - directoriesMax)) await rm(join(directory, name), { force: true });
}
