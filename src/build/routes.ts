/** Routes of a build: those of vercel.json, of detection and of the steps, merged as Vercel does it. Used in the sandbox and out of it. */
import { MayflyError, messageOf } from "../errors.ts";
import type { Route } from "../model.ts";
import type { BuildRoutes, BuildStep } from "./builder.ts";
import { readStaticConfig } from "./static-config.ts";

/** A server answers whatever no file does. */
export const serverRoutes: readonly Route[] = [{ handle: "filesystem" }, { src: "^/(.*)$", dest: "/" }];

/**
 * Runs after vercel.json's redirects and headers and before every file, for the paths that it asks for.
 * @param source of the middleware
 * @throws MayflyError BUILD_FAILED
 */
export async function middlewareRoute(entrypoint: string, output: string, source: string): Promise<Route> {
  const { getRegExpFromMatchers } = await import("@vercel/build-utils");
  const { matcher } = readStaticConfig(source);
  let src: string;
  try {
    if (matcher === null) throw new Error("it must be a path or an array of paths, written as literals.");
    src = getRegExpFromMatchers(matcher);
  } catch (error) {
    throw new MayflyError("BUILD_FAILED", `"${entrypoint}": its config.matcher cannot be understood: ${messageOf(error)}`);
  }
  const middlewareRawSrc = [matcher ?? []].flat();
  return { src, middlewareRawSrc, middlewarePath: output, continue: true, override: true };
}

/** @param results in the order of the job's steps */
export async function mergeStepRoutes(
  { user, detected }: BuildRoutes,
  results: readonly { readonly step: BuildStep; readonly routes: readonly Route[] }[],
): Promise<readonly Route[]> {
  const { mergeRoutes } = await import("@vercel/routing-utils");
  const builds = results.map(({ step, routes }) => ({ use: step.use || step.builder, entrypoint: step.entrypoint, routes }));
  if (detected.length > 0) builds.unshift({ use: "@vercel/zero-config-routes", entrypoint: "/", routes: detected });
  return mergeRoutes({ userRoutes: [...user] as never, builds: builds as never }) as readonly Route[];
}
