/**
 * A commit's files, from a mirror straight into blobs: nothing is ever checked out, so no path of a repository is a path
 * of the host, and no filter, hook or submodule of it can run. Everything that is read is hostile input.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import ignore from "ignore";
import type { BlobStore } from "../blobs/blob-store.ts";
import { MayflyError } from "../errors.ts";
import type { Digest, FileRef, SourceTree } from "../model.ts";
import { checkFilePath } from "../names.ts";
import { runGit, streamGit } from "./git-command.ts";
import type { Mirror } from "./mirror.ts";

/** Larger files are streamed, not held. */
const heldBytesMax = 1_048_576;
/** Files that are written at the same time: each waits for the disk. */
const writesAtOnce = 32;
/** Of `git ls-tree`, for each file that a deployment may have. */
const listBytesPerFile = 1200;

export interface TreeLimits {
  readonly filesMax: number;
  readonly bytesMax: number;
  readonly fileBytesMax: number;
  readonly pathBytesMax: number;
}

export interface CommitTree {
  readonly tree: SourceTree;
  /** What was left out and why, for the build's log. */
  readonly warnings: readonly string[];
}

interface Entry {
  readonly path: string;
  readonly mode: number;
  /** Git's own id of the file's bytes. */
  readonly object: string;
  readonly size: number;
}

/** @throws MayflyError git_refused, invalid_path, too_many_files, payload_too_large, disk_full */
export async function readCommitTree(mirror: Mirror, sha: string, blobs: BlobStore, limits: TreeLimits): Promise<CommitTree> {
  const { entries, submodules } = await listEntries(mirror, sha, limits);
  const known = await knownObjects(mirror, blobs);
  const objects = await storeObjects(mirror, entries, known, blobs, limits);
  const files = entries.map(({ path, mode, object }): [string, FileRef] => [path, { ...objects.get(object)!, mode }]);
  const warnings = submodules.map((path) => `Submodule ${path} is left out: submodules are not fetched.`);
  await writeFile(knownPath(mirror), JSON.stringify([...objects]));
  return { tree: await withoutIgnored(Object.fromEntries(files), blobs), warnings };
}

/** One file of a commit; null when there is none. At most `bytesMax` of it. */
export async function readCommitFile(mirror: Mirror, sha: string, path: string, bytesMax: number): Promise<Buffer | null> {
  try {
    return await runGit(mirror.call("cat-file", "blob", `${sha}:${path}`), bytesMax);
  } catch (error) {
    if (error instanceof MayflyError && error.code === "git_refused") return null;
    throw error;
  }
}

async function listEntries(mirror: Mirror, sha: string, limits: TreeLimits): Promise<{ entries: Entry[]; submodules: string[] }> {
  const list = await runGit(mirror.call("ls-tree", "-r", "-z", "-l", "--full-tree", sha), limits.filesMax * listBytesPerFile);
  const entries: Entry[] = [];
  const submodules: string[] = [];
  let bytes = 0;
  for (const line of splitZero(list)) {
    const tab = line.indexOf(9);
    const [mode = "", type = "", object = "", size = ""] = line.subarray(0, tab).toString("latin1").split(/ +/);
    const path = decodePath(line.subarray(tab + 1));
    if (type === "commit") {
      submodules.push(path);
      continue;
    }
    checkFilePath(path, limits.pathBytesMax);
    bytes += Number(size);
    entries.push({ path, mode: fileMode(mode), object, size: Number(size) });
    if (entries.length > limits.filesMax) {
      throw new MayflyError("too_many_files", `A deployment may have ${limits.filesMax} files; the commit has more.`);
    }
    if (Number(size) > limits.fileBytesMax) {
      throw new MayflyError("payload_too_large", `A file may have ${limits.fileBytesMax} bytes; ${JSON.stringify(path)} has ${size}.`);
    }
  }
  if (bytes > limits.bytesMax) {
    throw new MayflyError("payload_too_large", `A deployment may have ${limits.bytesMax} bytes; the commit has ${bytes}.`);
  }
  return { entries, submodules };
}

/** Link, executable or neither: a repository can say no more. */
function fileMode(mode: string): number {
  if (mode === "120000") return 0o120777;
  return mode === "100755" ? 0o100755 : 0o100644;
}

function decodePath(bytes: Buffer): string {
  const path = bytes.toString("utf8");
  if (!Buffer.from(path).equals(bytes)) throw new MayflyError("invalid_path", `File path ${JSON.stringify(path)} is not valid Unicode.`);
  return path;
}

function* splitZero(bytes: Buffer): Generator<Buffer> {
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(0, start);
    yield bytes.subarray(start, end === -1 ? bytes.length : end);
    start = end === -1 ? bytes.length : end + 1;
  }
}

type Stored = { readonly digest: Digest; readonly size: number };

const knownPath = (mirror: Mirror): string => join(mirror.directory, "mayfly-objects.json");

/** Git's id → blob, of the commit that was read last: most of the next commit is the same. */
async function knownObjects(mirror: Mirror, blobs: BlobStore): Promise<Map<string, Stored>> {
  let objects: [string, Stored][];
  try {
    objects = JSON.parse(await readFile(knownPath(mirror), "utf8")) as [string, Stored][];
  } catch {
    return new Map(); // there was none, or it was cut off: it is only a memory
  }
  const kept = await Promise.all(objects.map(async (entry) => ((await blobs.has(entry[1].digest)) ? entry : null)));
  return new Map(kept.filter((entry) => entry !== null));
}

async function storeObjects(
  mirror: Mirror,
  entries: readonly Entry[],
  known: ReadonlyMap<string, Stored>,
  blobs: BlobStore,
  limits: TreeLimits,
): Promise<Map<string, Stored>> {
  const stored = new Map<string, Stored>();
  const wanted = new Map<string, number>();
  for (const { object, size } of entries) {
    const before = known.get(object);
    if (before !== undefined) stored.set(object, before);
    else wanted.set(object, size);
  }
  if (wanted.size === 0) return stored;
  await streamGit(mirror.call("cat-file", "--batch"), async (child) => {
    child.stdin.end([...wanted.keys()].map((object) => `${object}\n`).join(""));
    const source = new ByteSource(child.stdout);
    const writes = new Set<Promise<void>>();
    const failures: unknown[] = [];
    for (const [object, announced] of wanted) {
      const head = /^([0-9a-f]{40}) blob (\d+)$/.exec(await source.line());
      const size = Number(head?.[2]);
      if (head?.[1] !== object || size !== announced) throw new MayflyError("git_refused", `The repository has no file ${object}.`);
      const keep = async (content: Buffer | Readable) => {
        const { digest } = await blobs.put(content, { bytesMax: limits.fileBytesMax });
        stored.set(object, { digest, size });
      };
      if (size > heldBytesMax) {
        await keep(Readable.from(source.chunks(size)));
      } else {
        const write = keep(await source.take(size))
          .catch((error: unknown) => void failures.push(error))
          .finally(() => writes.delete(write));
        writes.add(write);
        if (writes.size >= writesAtOnce) await Promise.race(writes);
        if (failures.length > 0) throw failures[0];
      }
      await source.take(1); // the newline after each object
    }
    await Promise.all(writes);
    if (failures.length > 0) throw failures[0];
  });
  return stored;
}

/** Bytes of a stream, by number and by line. */
class ByteSource {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: Readable) {
    this.#chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  async line(): Promise<string> {
    for (let end = this.#rest.indexOf(10); ; end = this.#rest.indexOf(10)) {
      if (end !== -1) {
        const line = this.#rest.subarray(0, end).toString("latin1");
        this.#rest = this.#rest.subarray(end + 1);
        return line;
      }
      if (this.#rest.length > 1000) throw new MayflyError("git_refused", "git cat-file says what it never should.");
      this.#rest = Buffer.concat([this.#rest, await this.#next()]);
    }
  }

  async take(bytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.chunks(bytes)) parts.push(part);
    return Buffer.concat(parts);
  }

  async *chunks(bytes: number): AsyncGenerator<Buffer> {
    for (let left = bytes; left > 0;) {
      if (this.#rest.length === 0) this.#rest = await this.#next();
      const part = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(part.length);
      left -= part.length;
      yield part;
    }
  }

  async #next(): Promise<Buffer> {
    const { done, value } = await this.#chunks.next();
    if (done === true) throw new MayflyError("git_refused", "git cat-file ended before its answer did.");
    return value;
  }
}

/** What `.vercelignore` names is left out, as the client leaves it out of an upload. */
async function withoutIgnored(tree: SourceTree, blobs: BlobStore): Promise<SourceTree> {
  const file = tree[".vercelignore"];
  if (file === undefined || file.size > heldBytesMax) return tree;
  const rules = ignore().add((await blobs.read(file.digest)).toString("utf8"));
  return Object.fromEntries(Object.entries(tree).filter(([path]) => !rules.ignores(path)));
}
