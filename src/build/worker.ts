/**
 * The first process of a build sandbox: reads its job from descriptor 3, installs, runs the steps, writes
 * `.vercel/output/config.json`, and says how it went. It then waits to be ended, because its end closes descriptor 3
 * before the host may have read it. Runs hostile code beside itself: nobody outside believes more than its message.
 *
 * With `--warm` it first builds a Function of its own, so that all it will need is loaded, and says `ready`.
 *
 * Usage: node worker.ts SCRATCH MEMORY [--warm]
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { format } from "node:util";
import { MayflyError, messageOf } from "../errors.ts";
import type { Route } from "../model.ts";
import { outputDirectory, placedPaths } from "./builder.ts";
import { countConnections } from "./connections.ts";
import type { BuildJob, BuildMessage, BuildReport, BuildStep, EarlierStep, SiteSettings, StepReport } from "./builder.ts";
import { exampleFiles, exampleJob } from "./example.ts";
import { mergeStepRoutes } from "./routes.ts";
import type { BuildContext, StepResult } from "./step.ts";

/** Authorities that the machine trusts; package managers bring their own list otherwise. */
const authorities = "/etc/ssl/certs/ca-certificates.crt";
const messageCharsMax = 8192;
/** In the message of a build in which several Functions failed; the log has them all. */
const failuresNamed = 20;

/** The step whose lines the console prints: they begin with its entrypoint. */
const stepInProgress = new AsyncLocalStorage<BuildStep>();
for (const method of ["log", "info", "warn", "error"] as const) {
  const print = console[method].bind(console);
  console[method] = (...values: unknown[]) => {
    const step = stepInProgress.getStore();
    if (step?.builder !== "node") print(...values);
    else print(format(...values).replaceAll(/^/gm, `[${step.entrypoint}] `));
  };
}

const [, , scratch = "", memory = "", flag] = process.argv;
const control = new Socket({ fd: 3, readable: true, writable: true });
control.on("error", () => process.exit(1));
if (flag === "--warm") {
  await warmUp();
  send({ type: "ready" });
}
createInterface({ input: control }).once("line", (line) => {
  const job = JSON.parse(line) as BuildJob;
  const place = job.inMemory ? memory : scratch;
  void work(job, join(place, placedPaths.repository), join(place, placedPaths.report)).then(
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

/** Builds a Function in a directory of its own, which is gone afterwards. */
async function warmUp(): Promise<void> {
  const home = process.cwd();
  // Its service lives on, and should not do so in a directory that is gone.
  await (await import("esbuild")).transform("");
  await import("./install.ts");
  const directory = await mkdtemp(join(tmpdir(), "warm-"));
  try {
    for (const [path, text] of Object.entries(exampleFiles)) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await writeFile(join(directory, path), text);
    }
    await work(exampleJob, directory, join(directory, "report.json"));
  } finally {
    process.chdir(home);
    await rm(directory, { recursive: true, force: true });
  }
}

async function work(job: BuildJob, repository: string, reportPath: string): Promise<void> {
  const { env, programs, reused, earlier, inMemory: _, ...rest } = job;
  Object.assign(process.env, env, { PATH: [...programs, process.env["PATH"] ?? ""].join(delimiter) });
  // npm warns of what only pnpm knows.
  if (!job.installs.some(({ manager }) => manager.name === "pnpm")) delete process.env["npm_config_store_dir"];
  if (existsSync(authorities)) {
    Object.assign(process.env, {
      NODE_EXTRA_CA_CERTS: authorities,
      SSL_CERT_FILE: authorities,
      npm_config_cafile: authorities,
      YARN_HTTPS_CA_FILE_PATH: authorities,
    });
  }
  const directory = join(repository, job.rootDirectory);
  const context: BuildContext = { job: rest, repository, work: directory, output: join(directory, outputDirectory) };
  await mkdir(directory, { recursive: true });
  process.chdir(directory);
  await rm(context.output, { recursive: true, force: true });
  const installScripts: string[] = [];
  if (job.installs.length > 0) {
    const { installAll, findInstallScripts } = await import("./install.ts");
    await installAll(job.installs, repository);
    installScripts.push(...(await findInstallScripts(repository)));
  }
  const before = countConnections();
  const results = await runSteps(context, reused, earlier);
  const connected = before === null || countConnections() !== before;
  await writeConfig(context, results);
  const fingerprints = job.runsCommands ? new (await import("./fingerprint.ts")).Fingerprints(repository) : null;
  const steps = results.map(({ ms, result, isReused }): StepReport => {
    const trace = result.trace ?? null;
    return { ms, trace, fingerprint: trace === null ? null : (fingerprints?.of(trace) ?? null), reused: isReused };
  });
  await writeFile(reportPath, JSON.stringify({ steps, installScripts, connected } satisfies BuildReport));
}

interface DoneStep {
  readonly step: BuildStep;
  readonly result: StepResult;
  readonly ms: number;
  /** What an earlier build of it has met was met again. */
  readonly isReused: boolean;
}

/**
 * The project's own builds first, one after another: Functions may reach what they make. Then all Functions side by side,
 * but those that meet what an earlier build has met.
 * @returns in the order of the job's steps
 */
async function runSteps(context: BuildContext, reused: readonly number[], earlier: readonly EarlierStep[]): Promise<readonly DoneStep[]> {
  const { steps } = context.job;
  const done = new Map<BuildStep, DoneStep>();
  const run = async (step: BuildStep, work: () => Promise<StepResult>): Promise<void> => {
    const began = performance.now();
    const result = await stepInProgress.run(step, work);
    done.set(step, { step, result, ms: Math.round(performance.now() - began), isReused: false });
  };
  for (const index of reused) {
    const step = steps[index]!;
    done.set(step, { step, result: { routes: step.routes, overrides: {} }, ms: 0, isReused: false });
  }
  const remaining = steps.filter((step) => !done.has(step));
  for (const step of remaining) {
    if (step.builder === "script") await run(step, async () => (await import("./script.ts")).buildScript(step, context));
    else if (step.builder === "vercel") await run(step, async () => (await import("./vercel.ts")).buildVercel(step, context));
    else if (step.server) await (await import("./script.ts")).runBuildCommand(context, null);
  }
  if (earlier.length > 0) {
    const fingerprints = new (await import("./fingerprint.ts")).Fingerprints(context.repository);
    for (const { index, trace, fingerprint } of earlier) {
      const step = steps[index]!;
      if (fingerprints.of(trace) === fingerprint)
        done.set(step, { step, result: { routes: step.routes, overrides: {} }, ms: 0, isReused: true });
    }
  }
  const functions = remaining.filter((step) => step.builder === "node" && !done.has(step));
  if (functions.length > 0) {
    const { NodeBuilder } = await import("./node.ts");
    const builder = new NodeBuilder(context, functions.length);
    const ends = await Promise.allSettled(functions.map((step) => run(step, () => builder.build(step))));
    reportFailures(functions, ends);
    builder.leave();
  }
  return steps.map((step) => done.get(step)!);
}

/** One that fails does not hide what is wrong with the others. */
function reportFailures(steps: readonly BuildStep[], ends: readonly PromiseSettledResult<void>[]): void {
  const failures = ends.flatMap((end, index) => (end.status === "rejected" ? [{ step: steps[index]!, error: end.reason as unknown }] : []));
  const [first] = failures;
  if (first === undefined) return;
  for (const { step, error } of failures) stepInProgress.run(step, () => console.error(`Error: ${messageOf(error)}`));
  if (failures.length === 1) throw first.error;
  const code = first.error instanceof MayflyError ? first.error.code : "BUILD_FAILED";
  const lines = failures.slice(0, failuresNamed).map(({ step, error }) => `  ${step.entrypoint}: ${messageOf(error)}`);
  const rest = failures.length > failuresNamed ? [`  and ${failures.length - failuresNamed} more, in the log`] : [];
  throw new MayflyError(code, [`${failures.length} of ${steps.length} Functions failed:`, ...lines, ...rest].join("\n"));
}

async function writeConfig(context: BuildContext, results: readonly DoneStep[]): Promise<void> {
  const path = join(context.output, "config.json");
  const existing = await readConfig(path);
  const sites = [existing as SiteSettings, ...results.map(({ result }) => result.site ?? {}), context.job.site];
  const config = {
    ...existing,
    ...Object.assign({}, ...sites),
    crons: sites.flatMap(({ crons }) => crons ?? []),
    version: existing["version"] ?? 3,
    routes: await mergeStepRoutes(
      context.job.routes,
      results.map(({ step, result }) => ({ step, routes: result.complete === true ? asRoutes(existing["routes"]) : result.routes })),
    ),
    overrides: Object.assign({}, existing["overrides"], ...results.map(({ result }) => result.overrides)) as unknown,
  };
  await mkdir(context.output, { recursive: true });
  await writeFile(path, JSON.stringify(config));
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
