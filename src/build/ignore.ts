/**
 * Asks a project's own command whether a push is to be built at all: Vercel's "ignored build step". It runs in a sandbox
 * like a build's, with the source and the build's environment; exit code 0 says that there is nothing to build.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../errors.ts";
import { randomId } from "../names.ts";
import { buildEnvironment, type BuildRequest } from "./build.ts";
import { buildLimits } from "./build-sandbox.ts";
import { guestPaths } from "./builder.ts";
import { LogLines } from "./log-lines.ts";
import { removeTree, watchDisk, withFileLimit } from "./scratch.ts";
import { writeSource } from "./source.ts";

/** Its last lines may take so long to arrive. */
const lastLinesMs = 2000;

/** @throws MayflyError BUILD_TIMEOUT, BUILD_OUT_OF_DISK, sandbox_unavailable, disk_full; canceled when the signal aborts */
export async function isIgnored(request: BuildRequest, command: string): Promise<boolean> {
  const { plan, tree, blobs, config, deployment, sandboxes, signal, clock } = request;
  const secrets = [...Object.values(request.env), ...Object.values(request.buildEnv)];
  const lines = new LogLines({ log: request.log, lineBytesMax: config.logLineBytesMax, secrets });
  const scratch = join(resolve(request.workRoot), `${deployment.id}-${randomId(6)}`);
  const hostPath = (path: string): string => scratch + path.slice(guestPaths.scratch.length);
  try {
    for (const path of [guestPaths.home, guestPaths.temporary]) await mkdir(hostPath(path), { recursive: true });
    await writeSource(tree, hostPath(guestPaths.repository), blobs);
    await mkdir(join(hostPath(guestPaths.repository), plan.rootDirectory), { recursive: true });
    if (signal.aborted) throw new MayflyError("canceled");
    lines.system(`Running the ignored build step: ${command}`);
    const sandbox = await sandboxes.create({
      purpose: "build",
      argv: withFileLimit(config.buildDiskBytesMax, ["/bin/sh", "-c", command]),
      env: {
        ...buildEnvironment(request),
        PATH: "/var/lang/bin:/usr/local/bin:/usr/bin:/bin",
        HOME: guestPaths.home,
        TMPDIR: guestPaths.temporary,
        LANG: "C.UTF-8",
      },
      cwd: join(guestPaths.repository, plan.rootDirectory),
      mounts: [{ source: scratch, target: guestPaths.scratch, writable: true }],
      ...buildLimits(config),
      network: "internet",
    });
    const output = Promise.all([lines.follow(sandbox.stdout, "stdout"), lines.follow(sandbox.stderr, "stderr")]);
    const { promise: over, reject } = Promise.withResolvers<never>();
    const release = clock.after(config.buildTimeoutMs, () =>
      reject(new MayflyError("BUILD_TIMEOUT", `The ignored build step took longer than ${config.buildTimeoutMs} ms.`)),
    );
    const stopDisk = watchDisk({ directory: scratch, clock, config, onOver: reject });
    const cancel = () => reject(new MayflyError("canceled"));
    signal.addEventListener("abort", cancel, { once: true });
    try {
      const { exitCode } = await Promise.race([sandbox.ended, over]);
      return exitCode === 0;
    } finally {
      release();
      stopDisk();
      signal.removeEventListener("abort", cancel);
      await sandbox.destroy();
      await Promise.race([output, sleep(lastLinesMs, undefined, { ref: false })]);
    }
  } finally {
    await removeTree(scratch);
  }
}
