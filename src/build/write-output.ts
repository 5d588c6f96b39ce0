/**
 * A build's result as `.vercel/output` (Build Output API v3) on this machine: the reverse of output.ts. The whole of it
 * stands by itself: Functions have their files, none is named elsewhere. An older output is replaced only when the new
 * one is complete.
 */
import { chmod, copyFile, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, posix, relative } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import { readBundle } from "../blobs/bundle.ts";
import { MayflyError, messageOf } from "../errors.ts";
import type { FileRef, FunctionSpec, Prerender, Target } from "../model.ts";
import type { BuildResult } from "./build.ts";

const copiesAtOnce = 16;

/**
 * @param directory `.vercel/output` of the project
 * @param target what it was built for: clients refuse to deploy it to another
 * @throws MayflyError BUILD_OUTPUT_INVALID: it cannot be written
 */
export async function writeOutput(result: BuildResult, target: Target, directory: string, blobs: BlobStore): Promise<void> {
  const temporary = `${directory}.new`;
  try {
    await rm(temporary, { recursive: true, force: true });
    await new OutputWriter(temporary, blobs).write(result);
    await writeFile(join(temporary, "builds.json"), `${JSON.stringify({ target, builds: [] })}\n`);
    await rm(directory, { recursive: true, force: true });
    await rename(temporary, directory);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw new MayflyError("BUILD_OUTPUT_INVALID", `Cannot write ${directory}: ${messageOf(error)}`, { cause: error });
  }
}

class OutputWriter {
  readonly #root: string;
  readonly #blobs: BlobStore;
  readonly #copies: (() => Promise<void>)[] = [];
  /** Function → the first path it was written at. */
  readonly #written = new Map<string, string>();

  constructor(root: string, blobs: BlobStore) {
    this.#root = root;
    this.#blobs = blobs;
  }

  async write(result: BuildResult): Promise<void> {
    const { routes, wildcard, images, crons, framework } = result;
    const overrides: Record<string, { path: string; contentType: string }> = {};
    for (const [path, output] of Object.entries(result.outputs)) {
      if (output.kind === "static") {
        const name = fileName(path, output.contentType);
        if (output.contentType !== undefined) overrides[name] = { path, contentType: output.contentType };
        this.#copy(output.file, join("static", name));
        continue;
      }
      await this.#writeFunction(path, result.functions[output.functionId]!);
      if (output.kind === "prerender") await this.#writePrerender(path, output.prerender);
    }
    const config = {
      version: 3,
      routes,
      overrides,
      ...(wildcard === undefined ? {} : { wildcard }),
      ...(images === undefined ? {} : { images }),
      ...(crons === undefined ? {} : { crons }),
      ...(framework === null ? {} : { framework: { slug: framework } }),
    };
    await mkdir(this.#root, { recursive: true });
    await writeFile(join(this.#root, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
    await this.#copyAll();
  }

  async #writeFunction(path: string, spec: FunctionSpec): Promise<void> {
    const place = functionDirectory(path);
    const first = this.#written.get(spec.id);
    if (first !== undefined) {
      await mkdir(dirname(join(this.#root, place)), { recursive: true });
      await symlink(relative(dirname(place), first), join(this.#root, place));
      return;
    }
    this.#written.set(spec.id, place);
    const bundle = await readBundle(spec.bundleDigest, this.#blobs);
    for (const [name, file] of Object.entries(bundle)) this.#copy(file, join(place, name));
    await mkdir(join(this.#root, place), { recursive: true });
    await writeFile(join(this.#root, place, ".vc-config.json"), `${JSON.stringify(functionConfig(spec), null, 2)}\n`);
  }

  async #writePrerender(path: string, prerender: Prerender): Promise<void> {
    const base = functionDirectory(path).slice(0, -".func".length);
    const { expirationS, staleExpirationS, group, bypassToken, bypassFor, allowQuery, allowHeader, fallback } = prerender;
    const fallbackPath = `${base}.prerender-fallback`;
    const config = {
      expiration: expirationS,
      ...(staleExpirationS === undefined ? {} : { staleExpiration: staleExpirationS }),
      ...(group === undefined ? {} : { group }),
      ...(bypassToken === null ? {} : { bypassToken }),
      ...(bypassFor.length === 0 ? {} : { experimentalBypassFor: bypassFor }),
      ...(allowQuery === null ? {} : { allowQuery }),
      ...(allowHeader === null ? {} : { allowHeader }),
      passQuery: prerender.passQuery,
      initialStatus: prerender.initialStatus,
      initialHeaders: prerender.initialHeaders,
      ...(prerender.chain === undefined ? {} : { chain: prerender.chain }),
      ...(fallback === null ? {} : { fallback: { type: "FileFsRef", mode: fallback.mode, fsPath: posix.basename(fallbackPath) } }),
    };
    if (fallback !== null) this.#copy(fallback, fallbackPath);
    await writeFile(join(this.#root, `${base}.prerender-config.json`), `${JSON.stringify(config, null, 2)}\n`);
  }

  #copy(file: FileRef, path: string): void {
    this.#copies.push(async () => {
      const to = join(this.#root, path);
      await mkdir(dirname(to), { recursive: true });
      if ((file.mode & 0o170000) === 0o120000) {
        await symlink((await this.#blobs.read(file.digest)).toString("utf8"), to);
        return;
      }
      await copyFile(await this.#blobs.localPath(file.digest), to);
      // Blobs may be read-only; a person's output is not.
      await chmod(to, (file.mode & 0o111) === 0 ? 0o644 : 0o755);
    });
  }

  async #copyAll(): Promise<void> {
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < this.#copies.length) await this.#copies[next++]!();
    };
    await Promise.all(Array.from({ length: copiesAtOnce }, work));
  }
}

const functionDirectory = (path: string): string => join("functions", `${path === "" ? "index" : path}.func`);

/** A page without extension may have the name of a directory: it is kept beside it. */
function fileName(path: string, contentType: string | undefined): string {
  return contentType?.startsWith("text/html") === true && posix.extname(path) !== ".html" ? `${path === "" ? "index" : path}.html` : path;
}

function functionConfig(spec: FunctionSpec): Readonly<Record<string, unknown>> {
  const { runtime, handler, regions, environment, memoryMB, maxDurationS, web, assets } = spec;
  const common = { runtime, environment, memory: memoryMB, maxDuration: maxDurationS, ...(regions.length === 0 ? {} : { regions }) };
  if (runtime === "edge") {
    const named = Object.entries(assets ?? {}).map(([name, path]) => ({ name, path }));
    return { ...common, entrypoint: handler, ...(named.length === 0 ? {} : { assets: named }) };
  }
  return {
    ...common,
    handler,
    launcherType: "Nodejs",
    shouldAddHelpers: spec.helpers,
    shouldAddSourcemapSupport: false,
    supportsResponseStreaming: true,
    ...(spec.awsHandler === "" ? {} : { awsLambdaHandler: spec.awsHandler }),
    ...(web === "function" ? { useWebApi: true } : {}),
  };
}
