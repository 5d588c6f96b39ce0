/** Routes of a build: those of vercel.json, of detection and of the steps, merged as Vercel does it. Used in the sandbox and out of it. */
import type { Route } from "../model.ts";
import type { BuildRoutes, BuildStep } from "./builder.ts";

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
