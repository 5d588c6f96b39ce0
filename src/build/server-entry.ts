/**
 * Which file of a project starts its server. Vercel's detection knows frameworks by their dependency and `server.js` by
 * its name; a plain server under any of the usual names, or named by `start` or `main`, is found here by what it says.
 */
import { posix } from "node:path";
import { MayflyError } from "../errors.ts";
import type { Project } from "./project.ts";

type PackageJson = Readonly<Record<string, unknown>> | null;

const names = ["app", "index", "server", "main", "src/app", "src/index", "src/server", "src/main"];
const extensions = ["js", "mjs", "cjs", "ts", "mts", "cts"];
/** Of a file is looked at so much. */
const sourceBytesMax = 1024 * 1024;
/** A browser's script has no reason to. */
const listens = /\.\s*listen\s*\(/;
/** It hands an application over, or has it listen: a file that only names the framework does neither. */
const serves = /\.\s*listen\s*\(|\bexport\s+default\b|\bmodule\.exports\s*=|\bexport\s*\{[^}]{0,1000}\bdefault\b|\bBun\.serve\b/;
const pages = ["index.html", "public/index.html"];

/** Whether the project is a server although no framework is known in it. */
export async function isPlainServer(project: Project, packageJson: PackageJson): Promise<boolean> {
  if (pages.some((page) => project.has(page))) return false;
  const scripts = scriptsOf(packageJson);
  // A build without a start makes files.
  if (typeof scripts["build"] === "string" && typeof scripts["start"] !== "string") return false;
  return (await findListener(project, packageJson)) !== null;
}

/**
 * @param framework slug of Vercel's builder for it: `express`; `backends` is a plain server
 * @throws MayflyError BUILDER_NOT_FOUND
 */
export async function findServer(project: Project, packageJson: PackageJson, framework: string): Promise<string> {
  const candidates = candidatesOf(project, packageJson);
  const mention = framework === "backends" ? null : framework === "nestjs" ? "@nestjs/core" : framework;
  const mentioning: string[] = [];
  for (const path of mention === null ? [] : candidates) {
    const source = (await project.read(path)).toString("utf8", 0, sourceBytesMax);
    if (!source.includes(mention!)) continue;
    if (serves.test(source)) return path;
    mentioning.push(path);
  }
  const found = (await findListener(project, packageJson)) ?? mentioning[0] ?? (mention === null ? candidates[0] : undefined);
  if (found !== undefined) return found;
  throw new MayflyError("BUILDER_NOT_FOUND", `No file of this ${framework} project starts a server: tried ${names.join(", ")}.`);
}

async function findListener(project: Project, packageJson: PackageJson): Promise<string | null> {
  for (const path of candidatesOf(project, packageJson)) {
    if (listens.test((await project.read(path)).toString("utf8", 0, sourceBytesMax))) return path;
  }
  return null;
}

/** Files that there are: the usual names first, then what package.json starts. */
function candidatesOf(project: Project, packageJson: PackageJson): readonly string[] {
  const { start } = scriptsOf(packageJson);
  const started = typeof start === "string" ? /\b(?:node|tsx|ts-node|bun)(?:\s+--?\S+)*\s+(\S+)/.exec(start)?.[1] : undefined;
  const main = packageJson?.["main"];
  const named = [started, main].flatMap((path) => (typeof path === "string" ? [posix.join("/", path).slice(1)] : []));
  const usual = names.flatMap((name) => extensions.map((extension) => `${name}.${extension}`));
  return [...new Set([...usual, ...named.flatMap((path) => [path, `${path}.js`])])].filter((path) => project.has(path));
}

function scriptsOf(packageJson: PackageJson): Readonly<Record<string, unknown>> {
  const scripts = packageJson?.["scripts"];
  return typeof scripts === "object" && scripts !== null ? (scripts as Readonly<Record<string, unknown>>) : {};
}
