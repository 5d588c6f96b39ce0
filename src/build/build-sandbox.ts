/**
 * What a build runs in: a scratch directory, a sandbox that sees it as its one writable place, and the worker in there
 * (worker.ts), which waits for its job. Nothing of a project or of its settings decides how it is made, so it can be made
 * before anybody needs it (standby.ts). Hides mounts and paths. Invariant: it is for one build, and gone with it.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "../config.ts";
import { MayflyError } from "../errors.ts";
import { randomId } from "../names.ts";
import type { Sandbox, SandboxDriver, SandboxMount, SandboxSpec } from "../sandbox/sandbox.ts";
import { guestPaths, packageManagers } from "./builder.ts";
import type { BuildMessage, PackageManager } from "./builder.ts";
import type { BuildMemory } from "./build-memory.ts";
import type { CompileCache } from "./compile-cache.ts";
import { removeTree, withFileLimit } from "./scratch.ts";
import type { Toolchains } from "./toolchain.ts";

/** The package's root: what the worker is run from. */
const mayflyDirectory = resolve(import.meta.dirname, "../..");
/** What every build sandbox sees of Mayfly. */
export const mayflyMounts: readonly SandboxMount[] = ["src", "node_modules", "package.json"].map((name) => ({
  source: join(mayflyDirectory, name),
  target: `${guestPaths.mayfly}/${name}`,
  writable: false,
}));
const messageBytesMax = 65_536;
/** A worker that warms itself up takes a second. */
const warmMsMax = 60_000;

/** All cores when nobody else wants them: a build's weight is low (sandbox/limits.ts). */
export function buildLimits(config: Config): Pick<SandboxSpec, "limits" | "tmpBytes" | "processesMax" | "openFilesMax"> {
  return {
    limits: { memoryMB: config.buildMemoryMB, cpuByMemory: false },
    tmpBytes: config.tmpBytesMax,
    processesMax: config.processesMax,
    openFilesMax: config.buildOpenFilesMax,
  };
}

export interface BuildSandboxOptions {
  readonly sandboxes: SandboxDriver;
  /** Absent: the worker is compiled anew. */
  readonly compileCache?: Pick<CompileCache, "directory"> | undefined;
  readonly config: Config;
  /** Directory for scratch directories, on a disk with room; made when absent. What is in it at start-up is left over. */
  readonly workRoot: string;
  /** Absent: its builds have all of their files on disk. */
  readonly memory?: BuildMemory | undefined;
}

export class BuildSandbox {
  readonly sandbox: Sandbox;
  /** Host directory of what the guest sees as its scratch directory; hostile once the worker has its job. */
  readonly scratch: string;
  /** The same of its place in memory; null: it has none. */
  readonly memory: string | null;
  readonly #directory: string;
  #disposed: Promise<void> | undefined;

  private constructor(directory: string, memory: string | null, sandbox: Sandbox) {
    this.#directory = directory;
    this.scratch = scratchOf(directory);
    this.memory = memory;
    this.sandbox = sandbox;
  }

  /**
   * @param warm the worker loads what it will need, builds a Function of its own, and is frozen
   * @throws MayflyError sandbox_unavailable
   */
  static async boot({ sandboxes, compileCache, config, workRoot, memory }: BuildSandboxOptions, warm: boolean): Promise<BuildSandbox> {
    const directory = join(resolve(workRoot), randomId(12));
    const inMemory = (await memory?.make()) ?? null;
    const compiled = compileCache?.directory ?? null;
    await mkdir(resolve(workRoot), { recursive: true, mode: 0o700 });
    try {
      for (const path of [guestPaths.home, guestPaths.temporary]) await mkdir(hostPath(directory, path), { recursive: true });
      // One can be attached only where a directory is.
      for (const name of packageManagers) await mkdir(join(directory, "toolchains", name), { recursive: true });
      const sandbox = await sandboxes.create({
        purpose: "build",
        argv: withFileLimit(config.buildDiskBytesMax, [
          "/var/lang/bin/node",
          `${guestPaths.mayfly}/src/build/worker-start.js`,
          compiled === null ? "" : guestPaths.compiled,
          guestPaths.scratch,
          guestPaths.memory,
          ...(warm ? ["--warm"] : []),
        ]),
        env: {
          PATH: "/var/lang/bin:/usr/local/bin:/usr/bin:/bin",
          HOME: guestPaths.home,
          TMPDIR: guestPaths.temporary,
          npm_config_cache: `${guestPaths.downloads}/npm`,
          npm_config_store_dir: `${guestPaths.downloads}/pnpm`,
          YARN_CACHE_FOLDER: `${guestPaths.downloads}/yarn`,
          YARN_ENABLE_GLOBAL_CACHE: "0",
          BUN_INSTALL_CACHE_DIR: `${guestPaths.downloads}/bun`,
          LANG: "C.UTF-8",
        },
        cwd: guestPaths.scratch,
        mounts: [
          { source: scratchOf(directory), target: guestPaths.scratch, writable: true },
          ...(inMemory === null ? [] : [{ source: inMemory, target: guestPaths.memory, writable: true }]),
          ...mayflyMounts,
          ...(compiled === null ? [] : [{ source: compiled, target: guestPaths.compiled, writable: false }]),
          { source: join(directory, "toolchains"), target: guestPaths.toolchains, writable: false },
        ],
        ...buildLimits(config),
        network: "internet",
      });
      const made = new BuildSandbox(directory, inMemory, sandbox);
      if (warm) await made.#becomeWarm();
      return made;
    } catch (error) {
      await removeAll([directory, inMemory]);
      throw error;
    }
  }

  /** Where a guest path of the scratch directory is on the host. */
  hostPath(path: string): string {
    return hostPath(this.#directory, path);
  }

  /** Makes package managers visible. @returns guest directories of their programs */
  async addToolchains(managers: readonly PackageManager[], toolchains: Toolchains): Promise<readonly string[]> {
    const directories: string[] = [];
    for (const manager of managers) {
      const place = `${guestPaths.toolchains}/${manager.name}`;
      directories.push(join(await this.sandbox.attach(await toolchains.directory(manager), place), "bin"));
    }
    return directories;
  }

  /** The worker's next message, which never comes when it ends before. It is hostile: at most 64 KiB are read. @throws MayflyError BUILD_FAILED */
  async message(): Promise<BuildMessage> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const { control } = this.sandbox;
    let text = "";
    const take = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      const end = text.indexOf("\n");
      if (end === -1 && text.length <= messageBytesMax) return;
      control.off("data", take);
      resolve(Buffer.from(text.slice(0, end), "latin1").toString("utf8"));
    };
    control.on("error", () => {});
    control.on("data", take);
    const line = await promise;
    try {
      return parseMessage(line);
    } catch {
      throw new MayflyError("BUILD_FAILED", "The build's process sent a message that cannot be understood.");
    }
  }

  /** Ends all that runs in it, and removes it with its scratch directory. */
  dispose(): Promise<void> {
    this.#disposed ??= this.sandbox.destroy().finally(() => removeAll([this.#directory, this.memory]));
    return this.#disposed;
  }

  async #becomeWarm(): Promise<void> {
    const late = new AbortController();
    try {
      const heard = await Promise.race([
        this.message(),
        this.sandbox.ended.then(() => null),
        sleep(warmMsMax, null, { ref: false, signal: late.signal }),
      ]);
      if (heard?.type !== "ready") throw new MayflyError("sandbox_unavailable", "The worker of a build does not get ready.");
      await this.sandbox.freeze();
    } catch (error) {
      await this.sandbox.destroy();
      throw error;
    } finally {
      late.abort();
    }
  }
}

async function removeAll(directories: readonly (string | null)[]): Promise<void> {
  for (const directory of directories) if (directory !== null) await removeTree(directory);
}

const scratchOf = (directory: string): string => join(directory, "scratch");

function hostPath(directory: string, path: string): string {
  return scratchOf(directory) + path.slice(guestPaths.scratch.length);
}

function parseMessage(line: string): BuildMessage {
  const value: unknown = JSON.parse(line);
  const { type, code, message } = value as Readonly<Record<string, unknown>>;
  if (type === "ready" || type === "done") return { type };
  if (type === "failed" && typeof code === "string" && typeof message === "string") return { type, code, message };
  throw new Error("unknown message");
}
