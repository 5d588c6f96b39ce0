/**
 * The package of a Vercel builder, inside the build sandbox: Mayfly's own dependency, or fetched from the registry into a
 * directory beside the project, where the project's own packages do not reach.
 */
import { existsSync } from "node:fs";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { MayflyError, messageOf } from "../errors.ts";
import type { BuildStep } from "./builder.ts";
import { runCommand } from "./command.ts";
import type { BuildContext } from "./step.ts";

const directory = ".vercel/builders";
const buildUtils = "@vercel/build-utils";

/**
 * What the package exports.
 * @throws MayflyError INSTALL_FAILED when it cannot be fetched, BUILDER_NOT_FOUND when it is no builder
 */
export async function loadBuilder(step: BuildStep, context: BuildContext): Promise<unknown> {
  const require = step.useVersion === "" ? createRequire(import.meta.url) : await fetchBuilder(step, context);
  try {
    return require(step.use) as unknown;
  } catch (error) {
    throw new MayflyError("BUILDER_NOT_FOUND", `The builder "${step.use}" cannot be loaded: ${messageOf(error)}`, { cause: error });
  }
}

/** Those that this build has fetched: entrypoints share them. */
const fetched = new Map<string, Promise<NodeJS.Require>>();

function fetchBuilder({ use, useVersion }: BuildStep, context: BuildContext): Promise<NodeJS.Require> {
  const place = join(context.work, directory, `${use.replace("/", "+")}@${useVersion}`);
  const known = fetched.get(place) ?? fetchInto(place, use, useVersion);
  fetched.set(place, known);
  return known;
}

async function fetchInto(place: string, use: string, useVersion: string): Promise<NodeJS.Require> {
  await mkdir(place, { recursive: true });
  const manifest = join(place, "package.json");
  await writeFile(manifest, JSON.stringify({ private: true, license: "UNLICENSED" }));
  console.log(`Fetching the builder ${use}@${useVersion}`);
  const end = await runCommand(["npm", "install", "--no-package-lock", "--", `${use}@${useVersion}`], place, place);
  if (end.exitCode !== 0) {
    const unknown = /\bETARGET\b|\bE404\b/.test(end.tail) ? " The registry has no such version." : "";
    throw new MayflyError("INSTALL_FAILED", `The builder ${use}@${useVersion} cannot be fetched.${unknown}`);
  }
  await lendBuildUtils(place);
  return createRequire(manifest);
}

/** Builders take for granted that who runs them has this package, and mostly do not name it among what they need. */
async function lendBuildUtils(place: string): Promise<void> {
  const link = join(place, "node_modules", buildUtils);
  if (existsSync(link)) return;
  await mkdir(dirname(link), { recursive: true });
  await symlink(dirname(createRequire(import.meta.url).resolve(`${buildUtils}/package.json`)), link);
}
