/**
 * Writes one Function as the Build Output API wants it: `<path>.func/.vc-config.json` and its files. Files of the project
 * are named by `filePathMap` and not copied; only what a builder made is written.
 */
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join, posix, relative, sep } from "node:path";
import type { BuildContext } from "./step.ts";

/** Path in the bundle → a file of the project (absolute), or bytes. */
export type FunctionFiles = ReadonlyMap<string, string | MadeFile>;

export interface MadeFile {
  readonly data: string | Uint8Array;
  readonly executable: boolean;
}

/** @param path output path without leading slash */
export async function writeFunction(
  context: BuildContext,
  path: string,
  files: FunctionFiles,
  config: Readonly<Record<string, unknown>>,
): Promise<void> {
  const directory = functionDirectory(context, path);
  await mkdir(directory, { recursive: true });
  const filePathMap: [string, string][] = [];
  const writes: Promise<void>[] = [];
  for (const [name, file] of files) {
    if (typeof file === "string") filePathMap.push([name, relative(context.repository, file).replaceAll(sep, "/")]);
    else writes.push(writeMade(join(directory, name), file));
  }
  writes.push(writeFile(join(directory, ".vc-config.json"), JSON.stringify({ ...config, filePathMap: Object.fromEntries(filePathMap) })));
  await Promise.all(writes);
}

/** A second path for a Function that is written already. */
export async function linkFunction(context: BuildContext, path: string, existing: string): Promise<void> {
  const link = functionDirectory(context, path);
  await mkdir(dirname(link), { recursive: true });
  await symlink(relative(dirname(link), functionDirectory(context, existing)), link);
}

function functionDirectory(context: BuildContext, path: string): string {
  return join(context.output, "functions", `${posix.join("/", path)}.func`);
}

async function writeMade(path: string, file: MadeFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, file.data, { mode: file.executable ? 0o755 : 0o644 });
}
