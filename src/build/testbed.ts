/** For tests of this room: projects written as records, planned and built with real blobs and real sandboxes. */
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { readBundle } from "../blobs/bundle.ts";
import { openDiskBlobs } from "../blobs/disk.ts";
import type { BlobStore, BlobTarget } from "../blobs/blob-store.ts";
import { systemClock } from "../clock.ts";
import { loadConfig } from "../config.ts";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { randomId } from "../names.ts";
import { noSettings, type FunctionSpec, type ProjectSettings, type SourceTree } from "../model.ts";
import type { SandboxDriver } from "../sandbox/sandbox.ts";
import { openOciSandboxes, whyNoOci } from "../sandbox/oci.ts";
import { openProcessSandboxes } from "../sandbox/process.ts";
import { BuildCaches } from "./build-cache.ts";
import { CompileCache } from "./compile-cache.ts";
import { runBuild } from "./build.ts";
import type { Build, BuildResult } from "./build.ts";
import { planSource } from "./configuration-program.ts";
import { BuildMemory } from "./build-memory.ts";
import { BuildSandbox, buildLimits, mayflyMounts } from "./build-sandbox.ts";
import type { Plan } from "./plan.ts";
import type { BuildRecord } from "./reuse.ts";
import { BuildStandby } from "./standby.ts";
import type { SourceRequest } from "./source-command.ts";
import { createToolchains } from "./toolchain.ts";

/** Path → content; `{ link }` is a symbolic link. */
export type Files = Readonly<Record<string, string | Uint8Array | { readonly link: string }>>;

export interface BuildOptions {
  readonly settings?: Partial<ProjectSettings>;
  readonly prebuilt?: boolean;
  readonly config?: Partial<Config>;
  readonly env?: Readonly<Record<string, string>>;
  readonly buildEnv?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** What an earlier build has left. */
  readonly record?: BuildRecord | null;
  /** Absent: none. */
  readonly caches?: BuildCaches;
  /** Absent: production's. */
  readonly lanesToRead?: readonly string[];
  readonly laneToWrite?: string;
}

export interface Testbed extends AsyncDisposable {
  /** Empty unless a test fills it; then every build takes from it. */
  readonly standby: BuildStandby;
  readonly blobs: BlobStore;
  readonly sandboxes: SandboxDriver;
  plan(files: Files, options?: BuildOptions): Promise<Plan>;
  build(
    files: Files,
    options?: BuildOptions,
  ): Promise<BuildResult & Pick<Build, "entrypoints" | "record"> & { readonly log: readonly string[] }>;
  /** Path in a Function's bundle → its text. */
  bundle(spec: FunctionSpec | undefined): Promise<Readonly<Record<string, string>>>;
  text(result: BuildResult, path: string): Promise<string>;
  /** Files of `examples/<name>` as they are uploaded. */
  example(name: string): Promise<Files>;
  /** Names left in the scratch directory. */
  leftovers(): Promise<readonly string[]>;
}

/** Package managers are fetched once for all test runs. */
const toolchainDirectory = resolve(import.meta.dirname, "../../node_modules/.cache/mayfly-toolchains");

/** The registry that this machine's npm uses. */
export function npmRegistry(): string {
  return execFileSync("npm", ["config", "get", "registry"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
}

/** Whether packages can be installed here; a test of installs is skipped where not. */
export async function hasRegistry(): Promise<boolean> {
  try {
    const response = await fetch(new URL("ms", npmRegistry()), { signal: AbortSignal.timeout(10_000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

/**
 * @param strongest in the strongest sandboxes that work here, and not in those that every machine has
 * @param memoryBytesMin none stands by while the machine has less to give
 * @param inMemory little builds have their files in memory, as far as the machine has any to give
 */
export async function openTestbed({ strongest = false, memoryBytesMin = 0, inMemory = true } = {}): Promise<Testbed> {
  const data = await mkdtemp(join(tmpdir(), "mayfly-build-"));
  const blobs = openDiskBlobs({ directory: join(data, "blobs") });
  const options = { dataDirectory: data, nodeBinary: process.execPath, networkAllow: [] };
  // MAYFLY_SANDBOX=oci runs the same tests in real sandboxes.
  const isOci = loadConfig({}, process.env).sandbox === "oci" || (strongest && (await whyNoOci(options)) === null);
  const sandboxes: SandboxDriver = isOci ? await openOciSandboxes(options) : await openProcessSandboxes(options);
  const workRoot = join(data, "builds");
  const compileCache = new CompileCache({
    directory: join(data, "compiled"),
    sandboxes,
    mounts: mayflyMounts,
    limits: buildLimits(loadConfig({}, {})),
  });
  await compileCache.prepare();
  const registry = npmRegistry();
  const base = { ...loadConfig({}, {}), npmRegistry: registry };
  const memoryRoot = join("/dev/shm", `mayfly-test-${randomId(8)}`, "builds");
  const memory = inMemory ? new BuildMemory(memoryRoot) : undefined;
  const standby = new BuildStandby({
    clock: systemClock,
    size: 1,
    memoryBytesMin,
    boot: () => BuildSandbox.boot({ sandboxes, compileCache, config: base, workRoot, memory }, true),
  });
  const toolchains = createToolchains({ directory: toolchainDirectory, npmRegistry: registry, clock: systemClock });

  const store = async (files: Files): Promise<SourceTree> => {
    const tree: [string, SourceTree[string]][] = [];
    for (const [path, content] of Object.entries(files)) {
      const isLink = typeof content === "object" && "link" in content;
      const { digest, size } = await blobs.put(isLink ? content.link : content);
      tree.push([path, { digest, size, mode: isLink ? 0o120777 : 0o100644 }]);
    }
    return Object.fromEntries(tree);
  };
  const sourceOf = (tree: SourceTree, options: BuildOptions, output: BlobTarget, log: string[]): SourceRequest => ({
    tree,
    deployment: { id: "dpl_test", host: "test-123456789.localhost", projectId: "prj_test", target: "production" },
    env: options.env ?? {},
    buildEnv: options.buildEnv ?? {},
    sandboxes,
    blobs,
    output,
    config: { ...base, ...options.config },
    workRoot,
    log: (line) => log.push(line),
    signal: options.signal ?? new AbortController().signal,
    clock: systemClock,
  });
  const planTree = (source: SourceRequest, options: BuildOptions): Promise<Plan> =>
    planSource(source, { settings: { ...noSettings, ...options.settings }, prebuilt: options.prebuilt ?? false });

  return {
    blobs,
    sandboxes,
    standby,
    plan: async (files, options = {}) => planTree(sourceOf(await store(files), options, blobs, []), options),
    async build(files, options = {}) {
      const tree = await store(files);
      const log: string[] = [];
      await using output = blobs.batch();
      const source = sourceOf(tree, options, output, log);
      const plan = await planTree(source, options);
      await using build = await runBuild({
        ...source,
        plan,
        reuse: {
          record: options.record ?? null,
          sourceDigest: (await blobs.put(JSON.stringify(tree))).digest,
          caches: options.caches ?? new BuildCaches({ directory: join(data, "no-caches"), laneBytesMax: 0, bytesMax: 0 }),
          lanesToRead: options.lanesToRead ?? ["production"],
          laneToWrite: options.caches === undefined ? null : (options.laneToWrite ?? "production"),
          environmentDigest: JSON.stringify(options.buildEnv ?? {}),
        },
        toolchains,
        compileCache,
        standby,
        memory,
      }).catch((error: unknown) => {
        // What a test that fails unexpectedly needs to be understood.
        throw error instanceof MayflyError ? Object.assign(error, { log }) : error;
      });
      await output.commit();
      const { result, entrypoints, record } = build;
      return { ...result, entrypoints, record, log };
    },
    async bundle(spec) {
      const tree = await readBundle(spec!.bundleDigest, blobs);
      const files: [string, string][] = [];
      for (const [path, file] of Object.entries(tree)) files.push([path, (await blobs.read(file.digest)).toString("utf8")]);
      return Object.fromEntries(files);
    },
    async text(result, path) {
      const output = result.outputs[path];
      if (output?.kind !== "static") throw new Error(`"${path}" is not a static output`);
      return (await blobs.read(output.file.digest)).toString("utf8");
    },
    async example(name) {
      const directory = resolve(import.meta.dirname, "../../examples", name);
      const entries = await readdir(directory, { recursive: true, withFileTypes: true });
      const paths = entries
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
      const uploaded = paths.filter((path) => !/(?:^|\/)(?:node_modules|\.next|\.vercel)\//.test(path));
      return Object.fromEntries(await Promise.all(uploaded.map(async (path) => [path, await readFile(join(directory, path))] as const)));
    },
    async leftovers() {
      const places = [workRoot, memoryRoot].map((root) => readdir(root).catch(() => []));
      return (await Promise.all(places)).flat();
    },
    async [Symbol.asyncDispose]() {
      await standby.close();
      await memory?.close();
      await sandboxes.close();
      await blobs.close();
      await rm(data, { recursive: true, force: true });
    },
  };
}
