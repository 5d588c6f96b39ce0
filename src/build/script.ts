/**
 * Runs the project's own build. A build that writes `.vercel/output` is taken as it is; of any other, the framework's (or
 * the settings') output directory becomes the static files.
 */
import { chmod, link, lstat, mkdir, readdir, readFile, symlink, readlink, copyFile } from "node:fs/promises";
import { basename, dirname, extname, join, posix } from "node:path";
import { errnoOf, MayflyError } from "../errors.ts";
import type { Route } from "../model.ts";
import type { BuildStep } from "./builder.ts";
import { runCommand, runShell, type CommandEnd } from "./command.ts";
import type { BuildContext, StepResult } from "./step.ts";

/** The part of a framework's record that a build needs. */
interface Framework {
  readonly name: string;
  readonly settings: { readonly buildCommand?: { readonly value?: string | null }; readonly outputDirectory?: { readonly value?: string } };
  readonly defaultRoutes?: readonly Route[] | ((directory: string) => Promise<readonly Route[]>);
  getOutputDirName(directory: string): Promise<string>;
}

/** @throws MayflyError BUILD_FAILED when the command fails or leaves no output directory */
export async function buildScript(step: BuildStep, context: BuildContext): Promise<StepResult> {
  // One of `builds` may be of a directory below the project's, and answers below it.
  const mount = posix.dirname(posix.join("/", step.entrypoint)).slice(1);
  const work = join(context.work, mount);
  const slug = typeof step.config["framework"] === "string" ? step.config["framework"] : null;
  const framework = slug === null ? undefined : await findFramework(slug);
  if (step.entrypoint.endsWith(".sh")) await runBuildFile(join(context.work, step.entrypoint), context);
  else await runBuildCommand({ ...context, work }, framework?.settings.buildCommand?.value ?? null);
  if (await exists(join(context.output, "config.json"))) return { routes: [], overrides: {}, complete: true };
  const directory = await findOutputDirectory(step, { ...context, work }, framework);
  await linkTree(join(work, directory), join(context.output, "static", mount), context.output);
  const { defaultRoutes } = framework ?? {};
  const routes = typeof defaultRoutes === "function" ? await defaultRoutes(work) : (defaultRoutes ?? []);
  const { normalizeRoutes } = await import("@vercel/routing-utils");
  return {
    routes: (normalizeRoutes([...routes] as never).routes ?? []) as readonly Route[],
    overrides: context.job.cleanUrls ? await cleanUrlOverrides(join(context.output, "static")) : {},
  };
}

/**
 * The command of the settings, else the project's script, else `fallback`; nothing when there is none.
 * @throws MayflyError BUILD_FAILED
 */
export async function runBuildCommand(context: BuildContext, fallback: string | null): Promise<void> {
  const { work, repository, job } = context;
  const command = job.settings.buildCommand ?? (await scriptCommand(work, job.installs[0]?.manager.name ?? "npm")) ?? fallback;
  if (command === null || command.trim() === "") return;
  console.log(`Building: ${command}`);
  const started = performance.now();
  const end = await runShell(command, work, repository);
  if (end.exitCode !== 0)
    throw new MayflyError("BUILD_FAILED", `"${command}" ended with ${end.signal ?? `exit code ${end.exitCode}`}.${hintOf(end)}`);
  console.log(`Built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

/** What a shell says of a program that it does not find: `sh: 1: hugo: not found`. */
const notFound = /^(?:.*: )?([\w@.+-]+): (?:command )?not found\s*$/m;

function hintOf({ exitCode, tail }: CommandEnd): string {
  const program = exitCode === 127 ? notFound.exec(tail)?.[1] : undefined;
  return program === undefined
    ? ""
    : ` Builds have no program "${program}": it must come with the project's packages, or be fetched by the build command itself.`;
}

/** A script that stands for the command. */
async function runBuildFile(path: string, { repository }: BuildContext): Promise<void> {
  console.log(`Building: ${basename(path)}`);
  await chmod(path, 0o755);
  const end = await runCommand([path], dirname(path), repository);
  if (end.exitCode !== 0)
    throw new MayflyError("BUILD_FAILED", `"${basename(path)}" ended with ${end.signal ?? `exit code ${end.exitCode}`}.`);
}

/** Of package.json, the first that there is. */
export const buildScripts = ["vercel-build", "now-build", "build"] as const;

async function scriptCommand(work: string, manager: string): Promise<string | null> {
  let scripts: unknown;
  try {
    scripts = (JSON.parse(await readFile(join(work, "package.json"), "utf8")) as { scripts?: unknown }).scripts;
  } catch {
    return null;
  }
  for (const name of buildScripts) {
    const script: unknown = typeof scripts === "object" && scripts !== null ? (scripts as Record<string, unknown>)[name] : undefined;
    if (typeof script === "string" && script !== "") return `${manager.split("-")[0]} run ${name}`;
  }
  return null;
}

async function findOutputDirectory(step: BuildStep, context: BuildContext, framework: Framework | undefined): Promise<string> {
  const { work, job } = context;
  const asked = job.settings.outputDirectory ?? step.config["outputDirectory"] ?? step.config["distDir"];
  const directory = typeof asked === "string" && asked !== "" ? asked : ((await framework?.getOutputDirName(work)) ?? "public");
  const inside = posix.join("/", directory).slice(1);
  const entry = await lstat(join(work, inside)).catch(() => undefined);
  if (entry?.isDirectory() !== true) {
    throw new MayflyError(
      "BUILD_FAILED",
      `The build left no output directory "${inside}". Set outputDirectory (in vercel.json, say) to the one that it writes.`,
    );
  }
  return inside;
}

async function findFramework(slug: string): Promise<Framework | undefined> {
  const { frameworkList } = await import("@vercel/frameworks");
  return (frameworkList as unknown as readonly (Framework & { slug: string })[]).find((framework) => framework.slug === slug);
}

async function cleanUrlOverrides(directory: string): Promise<StepResult["overrides"]> {
  const names = await readdir(directory, { recursive: true });
  const pages = names.filter((name) => extname(name) === ".html");
  return Object.fromEntries(pages.map((name) => [name, { path: name.slice(0, -".html".length) }]));
}

/** Makes `to` a tree like `from`, by hard links: no bytes are copied. Leaves out `skip`, node_modules and .git. */
export async function linkTree(from: string, to: string, skip: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (source === skip || entry.name === "node_modules" || entry.name === ".git" || entry.name === ".vercel") continue;
    if (entry.isDirectory()) await linkTree(source, target, skip);
    else if (entry.isSymbolicLink()) await symlink(await readlink(source), target);
    else if (entry.isFile()) {
      await link(source, target).catch(async (error: unknown) => {
        if (errnoOf(error) === "EEXIST") return;
        await copyFile(source, target);
      });
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
