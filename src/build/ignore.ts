/**
 * Asks a project's own command whether a push is to be built at all: Vercel's "ignored build step". Exit code 0 says that
 * there is nothing to build.
 */
import type { BuildRequest } from "./build.ts";
import { runSourceCommand, type SourceRequest } from "./source-command.ts";

/** @throws MayflyError BUILD_TIMEOUT, BUILD_OUT_OF_DISK, sandbox_unavailable, disk_full; canceled when the signal aborts */
export async function isIgnored(request: SourceRequest & Pick<BuildRequest, "plan">, command: string): Promise<boolean> {
  return runSourceCommand(request, {
    announcement: `Running the ignored build step: ${command}`,
    title: "The ignored build step",
    argv: ["/bin/sh", "-c", command],
    directory: request.plan.rootDirectory,
    timeoutMs: request.config.buildTimeoutMs,
    onEnd: async ({ exitCode }) => exitCode === 0,
  });
}
