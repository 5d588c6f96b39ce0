/**
 * A plan for a project, also one that is configured by a program (vercel.ts): that runs in a sandbox first, where
 * configuration-worker.ts takes it up.
 */
import { posix } from "node:path";
import { MayflyError } from "../errors.ts";
import { mayflyMounts } from "./build-sandbox.ts";
import { guestPaths } from "./builder.ts";
import { findConfiguration, isProgram } from "./configuration.ts";
import type { ConfigurationReport } from "./configuration-worker.ts";
import type { Plan, PlanRequest } from "./plan.ts";
import { makePlan } from "./planner.ts";
import { parseRootDirectory } from "./project.ts";
import { isObject, isString } from "./shape.ts";
import { runSourceCommand, type SourceRequest } from "./source-command.ts";
import { vercelJsonBytesMax } from "./vercel-json.ts";

/**
 * @throws MayflyError as {@link makePlan} does; INVALID_VERCEL_JSON also with the program's own error; BUILD_TIMEOUT,
 * BUILD_OUT_OF_DISK, sandbox_unavailable, disk_full, canceled
 */
export async function planSource(source: SourceRequest, asked: Pick<PlanRequest, "settings" | "prebuilt">): Promise<Plan> {
  const { tree, blobs, deployment } = source;
  const request = { ...asked, tree, readFile: (path: string) => blobs.read(tree[path]!.digest), target: deployment.target };
  const program = programOf(request);
  return makePlan(program === null ? request : { ...request, configuration: await run(source, program) }, source);
}

/** Path in the tree of the program by which the project is configured; null when it has none. */
function programOf({ tree, settings, prebuilt }: PlanRequest): string | null {
  if (prebuilt) return null;
  const root = parseRootDirectory(settings.rootDirectory);
  const name = findConfiguration({ has: (path) => Object.hasOwn(tree, posix.join(root, path)) });
  return name === null || !isProgram(name) ? null : posix.join(root, name);
}

/** What the program at a path of the tree says: any JSON value, not checked. */
async function run(request: SourceRequest, path: string): Promise<unknown> {
  const name = posix.basename(path);
  return runSourceCommand(request, {
    announcement: `Running ${name}, which configures the project.`,
    title: name,
    argv: ["/var/lang/bin/node", `${guestPaths.mayfly}/src/build/configuration-worker.ts`, name, guestPaths.report],
    directory: posix.dirname(path),
    mounts: mayflyMounts,
    timeoutMs: request.config.configurationTimeoutMs,
    onEnd: async ({ exitCode, place, mask }) => {
      const report = await readReport(place.read(guestPaths.report.slice(guestPaths.scratch.length + 1), vercelJsonBytesMax));
      if (report !== null && "value" in report) return report.value;
      const why = report === null ? `it ended with exit code ${exitCode ?? "unknown"} and without a configuration` : mask(report.error);
      throw new MayflyError("INVALID_VERCEL_JSON", `${name} could not be run: ${why}.`.replace(/\.\.$/, "."));
    },
  });
}

/** null: there is none that can be understood. */
async function readReport(bytes: Promise<Buffer>): Promise<ConfigurationReport | null> {
  try {
    const report: unknown = JSON.parse((await bytes).toString("utf8"));
    if (!isObject(report)) return null;
    if (isString(report["error"])) return { error: report["error"] };
    return "value" in report ? { value: report["value"] } : null;
  } catch {
    return null;
  }
}
