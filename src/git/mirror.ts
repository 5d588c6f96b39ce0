/**
 * Mirrors of connected repositories: bare, shallow, one a repository, fetched one branch at a time. Bounded in time, in
 * size each and in size together; the least recently used go first. A mirror is a cache: one that is broken or too large is
 * thrown away and fetched anew.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import { MayflyError } from "../errors.ts";
import { runGit, type GitCall } from "./git-command.ts";
import { cloneUrl } from "./remote.ts";

/** A mirror with more packs than this is packed into one. */
const packsMax = 50;
const sizeCheckMs = 500;

export interface MirrorsOptions {
  /** Made when absent. */
  readonly directory: string;
  readonly clock: Clock;
  /** Longest fetch. */
  readonly fetchMsMax: number;
  /** Largest mirror. */
  readonly repositoryBytesMax: number;
  /** All mirrors together. */
  readonly bytesMax: number;
}

/** What is fetched, and with what. */
export interface FetchRequest {
  readonly baseUrl: string;
  readonly repository: string;
  readonly repositoryId: string;
  /** Full name at the host: `refs/heads/main`, `refs/pull/7/head`. */
  readonly ref: string;
  readonly credentials: { readonly username: string; readonly password: string };
}

/** A mirror while nobody else fetches into it. */
export interface Mirror {
  readonly directory: string;
  /** A call of git in it, for {@link runGit}. */
  call(...parameters: string[]): GitCall;
}

export class Mirrors {
  readonly #options: MirrorsOptions;
  readonly #repositories: string;
  readonly #home: string;
  /** Mirror → the end of what uses it now. */
  readonly #locks = new Map<string, Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(options: MirrorsOptions) {
    this.#options = options;
    this.#repositories = join(options.directory, "mirrors");
    this.#home = join(options.directory, "home");
    mkdirSync(this.#repositories, { recursive: true, mode: 0o700 });
    mkdirSync(this.#home, { recursive: true, mode: 0o700 });
  }

  /**
   * Fetches a ref and hands out the mirror with the commit it points to; null: the host has no such ref (any more).
   * @throws MayflyError git_refused; git_host_unavailable when the host does not answer in time
   */
  async fetch<T>(request: FetchRequest, use: (mirror: Mirror, sha: string | null) => Promise<T>): Promise<T> {
    const name = createHash("sha256").update(`${request.baseUrl} ${request.repositoryId}`).digest("hex").slice(0, 32);
    return this.#exclusively(name, async () => {
      const directory = join(this.#repositories, name);
      let sha: string | null;
      try {
        sha = await this.#fetch(directory, request);
      } catch (error) {
        if (!(error instanceof MayflyError) || !isBroken(error)) throw error;
        await rm(directory, { recursive: true, force: true });
        sha = await this.#fetch(directory, request);
      }
      const now = new Date(this.#options.clock.now());
      await utimes(directory, now, now);
      await this.#evict(name);
      return use({ directory, call: (...parameters) => this.#call(directory, parameters) }, sha);
    });
  }

  /** Ends every fetch, and waits for what uses a mirror. */
  async close(): Promise<void> {
    this.#closing.abort(new MayflyError("server_closing"));
    await Promise.allSettled(this.#locks.values());
  }

  async #fetch(directory: string, request: FetchRequest): Promise<string | null> {
    const { baseUrl, repository, ref, credentials } = request;
    if (!existsSync(join(directory, "HEAD"))) {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      await runGit(this.#call(directory, ["init", "--bare", "--quiet", "--template=", "--initial-branch=none", "--", directory]));
    }
    const { origin, protocol } = new URL(baseUrl);
    const basic = Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64");
    const parameters = ["fetch", "--depth=1", "--no-tags", "--no-write-fetch-head", "--force", "--quiet", "--no-auto-gc"];
    const bound = new AbortController();
    const call: GitCall = {
      ...this.#call(directory, [...parameters, "--", cloneUrl(baseUrl, repository), `+${ref}:${ref}`]),
      // Public repositories of a host are read with a token too: its limits are wider.
      settings: credentials.password === "" ? {} : { [`http.${origin}/.extraHeader`]: `Authorization: Basic ${basic}` },
      protocols: [protocol.slice(0, -1)],
      signal: AbortSignal.any([bound.signal, this.#closing.signal]),
    };
    const release = this.#watch(directory, bound);
    try {
      await runGit(call);
      await this.#tidy(directory);
    } catch (error) {
      const said = error instanceof MayflyError ? String(error.details["stderr"] ?? "") : "";
      if (/couldn't find remote ref/.test(said)) {
        await runGit(this.#call(directory, ["update-ref", "-d", ref]));
        return null;
      }
      if (bound.signal.aborted || isBroken(error as MayflyError)) {
        // A half mirror is of no use, and may be what is too large.
        await rm(directory, { recursive: true, force: true });
      }
      if (
        /could not resolve host|connection (refused|timed out|reset)|failed to connect|HTTP 5\d\d|returned error: (5\d\d|429)|early EOF|hung up/i.test(
          said,
        )
      ) {
        throw new MayflyError("git_host_unavailable", `The repository does not answer: ${(error as Error).message}`, { cause: error });
      }
      throw error;
    } finally {
      release();
    }
    return (await runGit(this.#call(directory, ["rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`])))
      .toString()
      .trim();
  }

  /** Ends a fetch that takes too long or has become too large. */
  #watch(directory: string, bound: AbortController): () => void {
    const { clock, fetchMsMax, repositoryBytesMax } = this.#options;
    const end = clock.after(fetchMsMax, () =>
      bound.abort(new MayflyError("git_host_unavailable", `The repository was not fetched within ${fetchMsMax} ms.`)),
    );
    let cancel = () => {};
    let over = false;
    const check = async () => {
      const bytes = await bytesOf(directory);
      if (over) return;
      if (bytes > repositoryBytesMax) {
        bound.abort(new MayflyError("git_refused", `The repository has more than ${repositoryBytesMax} bytes.`));
      } else {
        cancel = clock.after(sizeCheckMs, () => void check());
      }
    };
    cancel = clock.after(sizeCheckMs, () => void check());
    return () => {
      over = true;
      end();
      cancel();
    };
  }

  async #tidy(directory: string): Promise<void> {
    const packs = (await readdir(join(directory, "objects", "pack")).catch(() => [])).filter((name) => name.endsWith(".pack"));
    if (packs.length > packsMax) {
      await runGit(this.#call(directory, ["repack", "-a", "-d", "-q"]));
      await runGit(this.#call(directory, ["prune", "--expire=now"]));
    }
    if ((await bytesOf(directory)) > this.#options.repositoryBytesMax) {
      await rm(directory, { recursive: true, force: true });
      throw new MayflyError("git_refused", `The repository has more than ${this.#options.repositoryBytesMax} bytes.`);
    }
  }

  /** Removes mirrors, the least recently used first, until the rest is within the limit. */
  async #evict(inUse: string): Promise<void> {
    const mirrors = [];
    for (const name of await readdir(this.#repositories)) {
      const directory = join(this.#repositories, name);
      const facts = await stat(directory).catch(() => null);
      if (facts !== null) mirrors.push({ name, directory, usedAt: facts.mtimeMs, bytes: await bytesOf(directory) });
    }
    let bytes = mirrors.reduce((sum, mirror) => sum + mirror.bytes, 0);
    for (const mirror of mirrors.toSorted((a, b) => a.usedAt - b.usedAt)) {
      if (bytes <= this.#options.bytesMax) break;
      if (mirror.name === inUse || this.#locks.has(mirror.name)) continue;
      await rm(mirror.directory, { recursive: true, force: true });
      bytes -= mirror.bytes;
    }
  }

  #call(directory: string, parameters: readonly string[]): GitCall {
    return { directory, home: this.#home, parameters, signal: this.#closing.signal };
  }

  async #exclusively<T>(name: string, act: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve();
    const mine = before.then(act, act);
    const settled = Promise.allSettled([mine]);
    this.#locks.set(name, settled);
    try {
      return await mine;
    } finally {
      if (this.#locks.get(name) === settled) this.#locks.delete(name);
    }
  }
}

/** A mirror that a crash has left unusable, as git puts it. */
function isBroken(error: MayflyError): boolean {
  return /\.lock'|not a git repository|corrupt|bad object|unable to read|invalid sha1 pointer|does not point to a valid object/i.test(
    String(error.details?.["stderr"] ?? ""),
  );
}

async function bytesOf(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    bytes += await stat(join(entry.parentPath, entry.name)).then(
      (facts) => facts.size,
      () => 0, // gone meanwhile
    );
  }
  return bytes;
}
