/**
 * The first process of a build sandbox: reads its job from descriptor 3, installs, runs the steps, writes
 * `.vercel/output/config.json`, and says how it went. It then waits to be ended, because its end closes descriptor 3
 * before the host may have read it. Runs hostile code beside itself: nobody outside believes more than its message.
 *
 * Usage: node worker.ts REPOSITORY
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { MayflyError, messageOf } from "../errors.ts";
import type { Route } from "../model.ts";
import { outputDirectory } from "./builder.ts";
import type { BuildJob, BuildMessage, BuildStep, SiteSettings } from "./builder.ts";
import type { BuildContext, StepResult } from "./step.ts";

/** Authorities that the machine trusts; package managers bring their own list otherwise. */
const authorities = "/etc/ssl/certs/ca-certificates.crt";
const messageCharsMax = 8192;

const control = new Socket({ fd: 3, readable: true, writable: true });
control.on("error", () => process.exit(1));
createInterface({ input: control }).once("line", (line) => {
  void work(JSON.parse(line) as BuildJob).then(
    () => send({ type: "done" }),
    (error: unknown) => send(failure(error)),
  );
});

function send(message: BuildMessage): void {
  control.write(`${JSON.stringify(message)}\n`);
}

function failure(error: unknown): BuildMessage {
  if (!(error instanceof MayflyError)) console.error(error);
  const code = error instanceof MayflyError ? error.code : "BUILD_FAILED";
  return { type: "failed", code, message: messageOf(error).slice(0, messageCharsMax) };
}

async function work(job: BuildJob): Promise<void> {
  const { env, ...rest } = job;
  Object.assign(process.env, env);
  if (existsSync(authorities)) {
    Object.assign(process.env, {
      NODE_EXTRA_CA_CERTS: authorities,
      SSL_CERT_FILE: authorities,
      npm_config_cafile: authorities,
      YARN_HTTPS_CA_FILE_PATH: authorities,
    });
  }
  const repository = process.argv[2]!;
  const directory = join(repository, job.rootDirectory);
  const context: BuildContext = { job: rest, repository, work: directory, output: join(directory, outputDirectory) };
  await mkdir(directory, { recursive: true });
  process.chdir(directory);
  await rm(context.output, { recursive: true, force: true });
  if (job.installs.length > 0) {
    const { installDependencies } = await import("./install.ts");
    for (const install of job.installs) await installDependencies(install, repository);
  }
  await writeConfig(context, await runSteps(context));
}

/** The project's own builds first, one after another: Functions may reach what they make. Then all Functions at once. */
async function runSteps(context: BuildContext): Promise<readonly (readonly [BuildStep, StepResult])[]> {
  const { steps } = context.job;
  const results: (readonly [BuildStep, StepResult])[] = [];
  for (const step of steps) {
    if (step.builder === "script") results.push([step, await (await import("./script.ts")).buildScript(step, context)]);
    else if (step.builder === "vercel") results.push([step, await (await import("./vercel.ts")).buildVercel(step, context)]);
    else if (step.server) await (await import("./script.ts")).runBuildCommand(context, null);
  }
  const functions = steps.filter((step) => step.builder === "node");
  if (functions.length > 0) {
    const { NodeBuilder } = await import("./node.ts");
    const builder = new NodeBuilder(context);
    results.push(...(await Promise.all(functions.map(async (step) => [step, await builder.build(step)] as const))));
  }
  return results;
}

async function writeConfig(context: BuildContext, results: readonly (readonly [BuildStep, StepResult])[]): Promise<void> {
  const path = join(context.output, "config.json");
  const existing = await readConfig(path);
  const { routes } = context.job;
  const builds: { use: string; entrypoint: string; routes: readonly Route[] }[] = [];
  if (routes.detected.length > 0) builds.push({ use: "@vercel/zero-config-routes", entrypoint: "/", routes: routes.detected });
  for (const [step, result] of results) {
    const own = result.complete === true ? asRoutes(existing["routes"]) : result.routes;
    builds.push({ use: step.use || step.builder, entrypoint: step.entrypoint, routes: own });
  }
  const sites = [existing as SiteSettings, ...results.map(([, { site }]) => site ?? {}), context.job.site];
  const config = {
    ...existing,
    ...Object.assign({}, ...sites),
    crons: sites.flatMap(({ crons }) => crons ?? []),
    version: existing["version"] ?? 3,
    routes: await merge(routes.user, builds),
    overrides: Object.assign({}, existing["overrides"], ...results.map(([, result]) => result.overrides)) as unknown,
  };
  await mkdir(context.output, { recursive: true });
  await writeFile(path, JSON.stringify(config));
}

async function merge(
  user: readonly Route[],
  builds: readonly { use: string; entrypoint: string; routes: readonly Route[] }[],
): Promise<unknown> {
  const { mergeRoutes } = await import("@vercel/routing-utils");
  return mergeRoutes({ userRoutes: [...user] as never, builds: builds as never });
}

async function readConfig(path: string): Promise<Readonly<Record<string, unknown>>> {
  if (!existsSync(path)) return {};
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof value !== "object" || value === null) throw new Error("it must hold an object");
    return value as Readonly<Record<string, unknown>>;
  } catch (error) {
    throw new MayflyError(
      "BUILD_OUTPUT_INVALID",
      `The build wrote a ${outputDirectory}/config.json that is not valid: ${messageOf(error)}`,
    );
  }
}

function asRoutes(value: unknown): readonly Route[] {
  return Array.isArray(value) ? (value as readonly Route[]) : [];
}
