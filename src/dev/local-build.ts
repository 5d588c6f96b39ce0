/**
 * `mayfly build`: a directory is built here as a server would build it, planned from the same files, in the same sandbox,
 * and what comes of it is written to `.vercel/output`, for `mayfly deploy --prebuilt` or whoever else reads that format.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseEnv } from "node:util";
import { runBuild } from "../build/build.ts";
import { outputDirectory } from "../build/builder.ts";
import { planSource } from "../build/configuration-program.ts";
import type { SourceRequest } from "../build/source-command.ts";
import { writeOutput } from "../build/write-output.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { noSettings, type Target } from "../model.ts";
import { randomId } from "../names.ts";
import { openBuildPlace } from "./build-place.ts";
import { LiveTree } from "./live-tree.ts";

export interface LocalBuildOptions {
  readonly directory: string;
  readonly target: Target;
  /** Beside those of `.vercel/.env.<target>.local`, which a pull has written; they win. */
  readonly env: Readonly<Record<string, string>>;
  /** Its data directory is a scratch directory that the caller removes. */
  readonly config: Config;
  /** Called once the sandbox is known. */
  readonly onSandbox: (name: string) => void;
  readonly log: (line: string, stream: "stdout" | "stderr" | "system") => void;
  readonly signal: AbortSignal;
}

export interface LocalBuild {
  /** Absolute path of `.vercel/output`. */
  readonly output: string;
  readonly functions: number;
  readonly files: number;
}

/** @throws MayflyError as a deployment of the directory would fail; canceled */
export async function buildLocally(options: LocalBuildOptions): Promise<LocalBuild> {
  const { directory, target, config, signal, log } = options;
  await using place = await openBuildPlace(config, (line) => log(line, "system"));
  options.onSandbox(place.sandboxes.name);
  const { blobs } = place;
  using live = await LiveTree.open(directory, blobs, config.filesMax);
  const { tree } = await live.look();
  if (Object.keys(tree).length === 0) throw new MayflyError("empty_directory", `There is nothing to build in ${live.root}.`);
  const pulled = await readFile(join(live.root, `.vercel/.env.${target}.local`), "utf8").catch(() => "");
  await using batch = blobs.batch();
  const source: SourceRequest = {
    tree,
    deployment: { id: `dpl_${randomId(24)}`, host: "localhost", projectId: "prj_local", target },
    env: {},
    buildEnv: { ...(parseEnv(pulled) as Record<string, string>), ...options.env },
    sandboxes: place.sandboxes,
    blobs,
    output: batch,
    config,
    workRoot: join(config.data, "builds"),
    clock: place.clock,
    signal,
    log,
  };
  const plan = await planSource(source, { settings: noSettings, prebuilt: false });
  await using build = await runBuild({ ...source, plan, toolchains: place.toolchains });
  await batch.commit();
  const { result } = build;
  const output = join(live.root, plan.rootDirectory, outputDirectory);
  await writeOutput(result, target, output, blobs);
  return {
    output,
    functions: Object.keys(result.functions).length,
    files: Object.values(result.outputs).filter(({ kind }) => kind === "static").length,
  };
}
