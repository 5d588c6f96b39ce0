/**
 * What a build may find of an earlier one on disk: installed packages, what its package manager has fetched, what its
 * framework keeps (`.next/cache`). One directory for each lane of a project, moved whole into the build and back out of
 * it: nothing is copied, and what one build has taken no other can see. A build that finds nothing is slower, never
 * wrong; so whatever fails here is no failure of the build. Everything in it was written by untrusted code: it is moved,
 * measured and removed, never followed, and goes back into sandboxes of the same lane only (deploy/build-lane.ts).
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { lstat, mkdir, readdir, readFile, realpath, rename, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import type { Digest } from "../model.ts";
import { builderCacheDirectory } from "./builder-cache.ts";
import { guestPaths } from "./builder.ts";
import { bytesOf, isRealDirectory, removeTree } from "./scratch.ts";

export interface BuildCachesOptions {
  /** Made when needed; on the file system of the builds' scratch directories. */
  readonly directory: string;
  /** Of one lane: a larger one is not kept. */
  readonly laneBytesMax: number;
  /** Of all; those that were used longest ago go. */
  readonly bytesMax: number;
}

/** Where a build's files are on the host. */
export interface BuildPlace {
  readonly scratch: string;
  readonly repository: string;
  /** Of the project in the repository. */
  readonly rootDirectory: string;
  /** Slug. */
  readonly framework: string | null;
}

interface Meta {
  /** What was installed, as reuse.ts keys it; null: perhaps not all of it. */
  readonly install: Digest | null;
  /** Directory below `files/` → where it was in the repository. */
  readonly places: Readonly<Record<string, string>>;
  readonly bytes: number;
}

const copyMsMax = 60_000;
const depthMax = 8;
const downloads = guestPaths.downloads.slice(guestPaths.scratch.length + 1);

export class BuildCaches {
  readonly #options: BuildCachesOptions;
  /** Lane's directory → its cache that is on its way there. */
  readonly #keeping = new Map<string, Promise<void>>();

  constructor(options: BuildCachesOptions) {
    this.#options = options;
  }

  /**
   * Puts into a build's place what the first of the lanes that has anything holds. The first lane is the build's own: its
   * cache is moved. Another's is copied.
   * @returns the key of what is installed now; null: nothing, or not known
   */
  async take(projectId: string, lanes: readonly string[], own: string | null, place: BuildPlace): Promise<Digest | null> {
    for (const lane of lanes) {
      const held = `${place.scratch}.cache`;
      try {
        const from = this.#laneDirectory(projectId, lane);
        await this.#keeping.get(from);
        if (lane === own) await rename(from, held);
        else {
          await lstat(from);
          await promisify(execFile)("cp", ["-a", "--reflink=auto", "--", from, held], { timeout: copyMsMax });
        }
        return await restore(held, place);
      } catch {
        // The next one may have something.
      } finally {
        await removeTree(held);
      }
    }
    return null;
  }

  /** Moves out of a build's place what the next one of the lane may use; that one waits for it. */
  async keep(projectId: string, lane: string, place: BuildPlace, install: Digest | null): Promise<void> {
    const target = this.#laneDirectory(projectId, lane);
    const keeping = this.#keep(target, place, install);
    this.#keeping.set(target, keeping);
    await keeping;
    if (this.#keeping.get(target) === keeping) this.#keeping.delete(target);
  }

  async #keep(target: string, place: BuildPlace, install: Digest | null): Promise<void> {
    const held = `${place.scratch}.kept`;
    try {
      await mkdir(join(held, "files"), { recursive: true, mode: 0o700 });
      const places: Record<string, string> = {};
      for (const path of await findKept(place)) {
        const name = String(Object.keys(places).length);
        await rename(join(place.repository, path), join(held, "files", name));
        places[name] = path;
      }
      const fetched = join(place.scratch, downloads);
      if (await isRealDirectory(fetched)) await rename(fetched, join(held, "downloads"));
      let bytes = await bytesOf(held);
      if (bytes > this.#options.laneBytesMax) {
        // What is fetched again most easily.
        await removeTree(join(held, "downloads"));
        bytes = await bytesOf(held);
      }
      await removeTree(target);
      if (bytes > this.#options.laneBytesMax) return;
      await writeFile(join(held, "meta.json"), JSON.stringify({ install, places, bytes } satisfies Meta));
      await mkdir(dirname(target), { recursive: true, mode: 0o700 });
      await rename(held, target);
      await this.#evict();
    } catch {
      // The next build begins from nothing.
    } finally {
      await removeTree(held).catch(() => {});
    }
  }

  #laneDirectory(projectId: string, lane: string): string {
    // A branch may be called anything.
    return join(resolve(this.#options.directory), basename(projectId), createHash("sha256").update(lane).digest("hex").slice(0, 32));
  }

  async #evict(): Promise<void> {
    const root = resolve(this.#options.directory);
    const found: { readonly path: string; readonly bytes: number; readonly usedAt: number }[] = [];
    for (const project of await readdir(root)) {
      for (const lane of await readdir(join(root, project))) {
        const path = join(root, project, lane);
        const meta = await readMeta(path);
        found.push({ path, bytes: meta?.bytes ?? 0, usedAt: (await lstat(path)).mtimeMs });
      }
    }
    let bytes = found.reduce((sum, lane) => sum + lane.bytes, 0);
    for (const lane of found.sort((a, b) => a.usedAt - b.usedAt)) {
      if (bytes <= this.#options.bytesMax) return;
      await removeTree(lane.path);
      bytes -= lane.bytes;
    }
  }
}

async function restore(held: string, place: BuildPlace): Promise<Digest | null> {
  const meta = await readMeta(held);
  if (meta === null) return null;
  let isWhole = true;
  for (const [name, path] of Object.entries(meta.places)) {
    const target = join(place.repository, path);
    const parent = dirname(target);
    try {
      await mkdir(parent, { recursive: true });
      // The uploaded tree may have a link there, or files of its own.
      if ((await realpath(parent)) !== join(await realpath(place.repository), dirname(path))) throw new Error("a link is in the way");
      if (await exists(target)) throw new Error("something is in the way");
      await rename(join(held, "files", basename(name)), target);
    } catch {
      isWhole = false;
    }
  }
  await rename(join(held, "downloads"), join(place.scratch, downloads)).catch(() => {});
  return isWhole ? meta.install : null;
}

async function readMeta(directory: string): Promise<Meta | null> {
  try {
    return JSON.parse(await readFile(join(directory, "meta.json"), "utf8")) as Meta;
  } catch {
    return null;
  }
}

/** Directories of the repository worth keeping: installed packages, and what the framework says. */
async function findKept({ repository, rootDirectory, framework }: BuildPlace): Promise<readonly string[]> {
  const found: string[] = [];
  const walk = async (path: string, depth: number): Promise<void> => {
    for (const entry of await readdir(join(repository, path), { withFileTypes: true }).catch(() => [])) {
      if (!entry.isDirectory() || entry.name === ".git" || entry.name === ".vercel") continue;
      const inner = path === "" ? entry.name : `${path}/${entry.name}`;
      if (entry.name === "node_modules") found.push(inner);
      else if (depth < depthMax) await walk(inner, depth + 1);
    }
  };
  await walk("", 0);
  for (const directory of [".vercel/cache", builderCacheDirectory, ...(await cacheDirectoriesOf(framework))]) {
    const path = rootDirectory === "" ? directory : `${rootDirectory}/${directory}`;
    const target = join(repository, path);
    const isReal = (await realpath(target).catch(() => "")) === join(await realpath(repository), path);
    if (isReal && (await lstat(target)).isDirectory()) found.push(path);
  }
  return found;
}

/** `{.cache,public}/**` → `.cache`, `public`: what Vercel's record of the framework declares. */
async function cacheDirectoriesOf(slug: string | null): Promise<readonly string[]> {
  if (slug === null) return [];
  const { frameworkList } = await import("@vercel/frameworks");
  const pattern = frameworkList.find((framework) => framework.slug === slug)?.cachePattern?.replace(/\/\*\*$/, "") ?? "";
  const alternatives = /^\{([^{}]+)\}$/.exec(pattern)?.[1]?.split(",") ?? [pattern];
  return alternatives.filter((path) => /^[\w.-]+(?:\/[\w.-]+)*$/.test(path) && !path.split("/").includes(".."));
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
