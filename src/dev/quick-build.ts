/**
 * Functions of a directory built where they lie, in this process, without a sandbox: nothing of the project is run to
 * build them, so what took a build a second takes milliseconds. What a step yields is kept until something it depends on
 * changes. Hides the scratch directory; the project's own is never written to.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { BuildStep, PlannedJob, StepTrace } from "../build/builder.ts";
import { outputDirectory } from "../build/builder.ts";
import { NodeBuilder } from "../build/node.ts";
import { openDirectory, type FilePlace } from "../build/output-files.ts";
import { readOutput, type OutputParts } from "../build/output.ts";
import { mergeStepRoutes } from "../build/routes.ts";
import type { Config } from "../config.ts";
import type { Route } from "../model.ts";

export interface QuickBuildOptions {
  /** The directory. */
  readonly repository: string;
  /** Below it everything may be written and removed. */
  readonly scratch: string;
  readonly blobs: BlobStore;
  readonly config: Config;
}

export interface QuickParts extends Pick<OutputParts, "outputs" | "functions"> {
  readonly routes: readonly Route[];
  /** Functions that were built now, not kept from before. */
  readonly built: number;
}

interface Kept {
  readonly parts: OutputParts;
  readonly routes: readonly Route[];
  /** What it depends on; undefined: that is not known. */
  readonly trace: StepTrace | undefined;
}

/** With one of these what is installed may change, which no trace tells. */
const packageFile = /(?:^|\/)(?:package\.json|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?)$/;

/** Whether a step would come out the same although these paths have changed. */
function isUntouched({ trace }: Kept, changed: readonly string[]): boolean {
  if (changed.length === 0) return true;
  if (trace === undefined || trace.anyName) return false;
  const matters = new Set([...trace.inputs, ...trace.absent]);
  return !changed.some((path) => matters.has(path) || packageFile.test(path));
}

export class QuickBuild {
  readonly #options: QuickBuildOptions;
  #kept = new Map<string, Kept>();
  #round = 0;

  constructor(options: QuickBuildOptions) {
    this.#options = options;
  }

  /** Whether it can build this: files that become Functions, and nothing that runs the project's own code. */
  static can(job: PlannedJob): boolean {
    return job.steps.every(({ builder, server }) => builder === "node" && !server);
  }

  /**
   * @param changed paths that changed since the last call
   * @throws MayflyError BUILD_FAILED, FUNCTION_TOO_LARGE, …: as a deployment would
   */
  async build(job: PlannedJob, changed: readonly string[]): Promise<QuickParts> {
    const scratch = join(this.#options.scratch, String(this.#round++));
    const work = join(this.#options.repository, job.rootDirectory);
    const results: { step: BuildStep; done: Kept }[] = [];
    let built = 0;
    try {
      await Promise.all(
        job.steps.map(async (step, index) => {
          const key = JSON.stringify([job.rootDirectory, step]);
          let done = this.#kept.get(key);
          if (done === undefined || !isUntouched(done, changed)) {
            done = await this.#buildStep(step, job, work, join(scratch, String(index)));
            built++;
          }
          results[index] = { step, done };
        }),
      );
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
    this.#kept = new Map(results.map(({ step, done }) => [JSON.stringify([job.rootDirectory, step]), done]));
    return {
      routes: await mergeStepRoutes(
        job.routes,
        results.map(({ step, done }) => ({ step, routes: done.routes })),
      ),
      outputs: Object.assign({}, ...results.map(({ done }) => done.parts.outputs)) as OutputParts["outputs"],
      functions: Object.assign({}, ...results.map(({ done }) => done.parts.functions)) as OutputParts["functions"],
      built,
    };
  }

  async #buildStep(step: BuildStep, job: PlannedJob, work: string, output: string): Promise<Kept> {
    const { repository, blobs, config } = this.#options;
    await mkdir(output, { recursive: true });
    const context = { job: { ...job, bundleBytesMax: config.functionBundleBytesMax }, repository, work, output };
    const { routes, trace } = await new NodeBuilder(context, 1).build(step);
    await writeFile(join(output, "config.json"), '{"version":3}');
    const place = overlay(openDirectory(repository, blobs), join(job.rootDirectory, outputDirectory), openDirectory(output, blobs));
    return { parts: await readOutput({ place, rootDirectory: job.rootDirectory, blobs, config }), routes, trace };
  }
}

/** `below` with `above` in the place of its directory `at`. */
function overlay(below: FilePlace, at: string, above: FilePlace): FilePlace {
  const parents = new Set(at.split("/").map((_part, index, parts) => parts.slice(0, index + 1).join("/")));
  const choose = (path: string): readonly [FilePlace, string] =>
    path === at ? [above, ""] : path.startsWith(`${at}/`) ? [above, path.slice(at.length + 1)] : [below, path];
  return {
    async entry(path) {
      if (parents.has(path)) return { kind: "directory" };
      const [place, inner] = choose(path);
      return place.entry(inner);
    },
    list(path) {
      const [place, inner] = choose(path);
      return place.list(inner);
    },
    read(path, bytesMax) {
      const [place, inner] = choose(path);
      return place.read(inner, bytesMax);
    },
    store(path) {
      const [place, inner] = choose(path);
      return place.store(inner);
    },
  };
}
