/**
 * One command over a project's source, before there is a build: in a sandbox like a build's, with the build's environment
 * and a copy of the source that is gone afterwards. Hides scratch directory, limits and end.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../errors.ts";
import { randomId } from "../names.ts";
import type { SandboxMount } from "../sandbox/sandbox.ts";
import { buildEnvironment, type BuildRequest, type EnvironmentFacts } from "./build.ts";
import { buildLimits } from "./build-sandbox.ts";
import { guestPaths } from "./builder.ts";
import { LogLines } from "./log-lines.ts";
import { openDirectory, type FilePlace } from "./output-files.ts";
import { removeTree, watchDisk, withFileLimit } from "./scratch.ts";
import { writeSource } from "./source.ts";

/** Its last lines may take so long to arrive. */
const lastLinesMs = 2000;

/** What of a build is known before its plan. */
export type SourceRequest = Omit<BuildRequest, "plan" | "reuse" | "standby" | "toolchains" | "compileCache"> &
  Pick<EnvironmentFacts, "plan">;

export interface SourceCommand<T> {
  /** Line of the log with which it begins. */
  readonly announcement: string;
  /** For errors: `The ignored build step`. */
  readonly title: string;
  readonly argv: readonly string[];
  /** Where it runs, relative to the tree's root. */
  readonly directory: string;
  readonly mounts?: readonly SandboxMount[];
  /** Milliseconds. */
  readonly timeoutMs: number;
  /** Called when its last process is gone: what it has written is hostile. `place` is the scratch directory. */
  readonly onEnd: (end: {
    readonly exitCode: number | null;
    readonly place: FilePlace;
    readonly mask: (text: string) => string;
  }) => Promise<T>;
}

/** @throws MayflyError BUILD_TIMEOUT, BUILD_OUT_OF_DISK, sandbox_unavailable, disk_full, canceled; whatever `onEnd` throws */
export async function runSourceCommand<T>(request: SourceRequest, command: SourceCommand<T>): Promise<T> {
  const { tree, blobs, output, config, deployment, sandboxes, signal, clock } = request;
  const { title, directory, timeoutMs } = command;
  const secrets = [...Object.values(request.env), ...Object.values(request.buildEnv)];
  const lines = new LogLines({ log: request.log, lineBytesMax: config.logLineBytesMax, secrets });
  const scratch = join(resolve(request.workRoot), `${deployment.id}-${randomId(6)}`);
  const hostPath = (path: string): string => scratch + path.slice(guestPaths.scratch.length);
  try {
    for (const path of [guestPaths.home, guestPaths.temporary]) await mkdir(hostPath(path), { recursive: true });
    await writeSource(tree, hostPath(guestPaths.repository), blobs);
    await mkdir(join(hostPath(guestPaths.repository), directory), { recursive: true });
    if (signal.aborted) throw new MayflyError("canceled");
    lines.system(command.announcement);
    const sandbox = await sandboxes.create({
      purpose: "build",
      argv: withFileLimit(config.buildDiskBytesMax, command.argv),
      env: {
        ...buildEnvironment(request),
        PATH: "/var/lang/bin:/usr/local/bin:/usr/bin:/bin",
        HOME: guestPaths.home,
        TMPDIR: guestPaths.temporary,
        LANG: "C.UTF-8",
      },
      cwd: join(guestPaths.repository, directory),
      mounts: [{ source: scratch, target: guestPaths.scratch, writable: true }, ...(command.mounts ?? [])],
      ...buildLimits(config),
      network: "internet",
    });
    const followed = Promise.all([lines.follow(sandbox.stdout, "stdout"), lines.follow(sandbox.stderr, "stderr")]);
    const { promise: over, reject } = Promise.withResolvers<never>();
    const release = clock.after(timeoutMs, () => reject(new MayflyError("BUILD_TIMEOUT", `${title} took longer than ${timeoutMs} ms.`)));
    const stopDisk = watchDisk({ directory: scratch, clock, config, onOver: reject });
    const cancel = (): void => reject(new MayflyError("canceled"));
    signal.addEventListener("abort", cancel, { once: true });
    let exitCode: number | null;
    try {
      ({ exitCode } = await Promise.race([sandbox.ended, over]));
    } finally {
      release();
      stopDisk();
      signal.removeEventListener("abort", cancel);
      await sandbox.destroy();
      await Promise.race([followed, sleep(lastLinesMs, undefined, { ref: false })]);
    }
    return await command.onEnd({ exitCode, place: openDirectory(scratch, output), mask: (text) => lines.mask(text) });
  } finally {
    await removeTree(scratch);
  }
}
