/**
 * What of a directory is uploaded: every file's path, size, mode and SHA-1. Hides walking, ignore rules and hashing.
 * Invariants: the list is sorted by path; no file is ever held whole in memory; symlinks are sent as links, never followed.
 */
import { createHash, hash } from "node:crypto";
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, type Stats } from "node:fs";
import { lstat, open, readdir, readFile, readlink, realpath, stat, type FileHandle } from "node:fs/promises";
import { isAbsolute, join, normalize, posix, sep } from "node:path";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import type { Target } from "../model.ts";
import { isObject } from "./json.ts";
import { readIgnoreRules, readVercelIgnore, type IgnoreRules } from "./ignore-rules.ts";
import type { KnownFiles } from "./known-files.ts";

/** Mode of a symlink in a file list; its content is the link's target. */
export const linkMode = 0o120777;
/** Files that are read at the same time; each holds one buffer. */
const parallelMax = 8;
const bufferBytes = 256 * 1024;
/** So many small files are read in one go: a trip through the thread pool takes longer than one of them. */
const atOnceMax = 64;
const outputDirectory = ".vercel/output";

export interface SourceFile {
  /** POSIX path from the source's root. */
  readonly path: string;
  /** Lower-case hexadecimal SHA-1 of the bytes; of the target's, for a link. */
  readonly sha: string;
  /** Bytes. */
  readonly size: number;
  /** 0o100644, 0o100755 or 0o120777. */
  readonly mode: number;
}

export interface Source {
  /** Absolute path of the directory, without symlinks. */
  readonly root: string;
  readonly files: readonly SourceFile[];
  /** Bytes of all files. */
  readonly bytes: number;
  /** What was left out or may surprise, for people. */
  readonly warnings: readonly string[];
}

export interface SourceOptions {
  /** Send `.vercel/output` and the files its `filePathMap`s name, in place of the source. */
  readonly prebuilt?: boolean;
  /** A prebuilt output that was built for another target is refused. */
  readonly target?: Target;
  readonly signal?: AbortSignal | undefined;
  /** Digests of an earlier time; is told of those that are made. */
  readonly known?: KnownFiles | undefined;
  /** Called now and then, with how many files and bytes have been read. */
  readonly onProgress?: ((files: number, bytes: number) => void) | undefined;
}

/**
 * Walks and hashes a directory.
 * @throws MayflyError not_a_directory, empty_directory, unreadable_file, file_changed, canceled; for a prebuilt output
 *   also BUILD_FAILED, BUILD_OUTPUT_INVALID, conflict
 */
export async function readSource(directory: string, options: SourceOptions = {}): Promise<Source> {
  const root = await resolveDirectory(directory);
  const warnings: string[] = [];
  const entries = options.prebuilt === true ? await listPrebuilt(root, options, warnings) : await listSource(root, options, warnings);
  if (entries.length === 0) {
    throw new MayflyError("empty_directory", `There is nothing to deploy in ${root}: it is empty, or all of it is ignored.`);
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  const files = await hashAll(root, entries, options);
  for (const file of files) {
    if (file.mode === linkMode) warnIfOutside(file.path, await readlink(join(root, file.path)).catch(() => ""), warnings);
  }
  return { root, files, bytes: files.reduce((sum, file) => sum + file.size, 0), warnings };
}

/** Opens a regular file of the source; the caller closes it. */
export async function openSourceFile(root: string, path: string): Promise<{ handle: FileHandle; facts: Stats }> {
  try {
    // Non-blocking, because a pipe in the file's place would make open() wait for a writer.
    const handle = await open(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const facts = await handle.stat();
    if (facts.isFile()) return { handle, facts };
    await handle.close();
  } catch (error) {
    // ELOOP: a link has taken the file's place.
    throw errnoOf(error) === "ELOOP" ? fileChanged(path) : unreadable(path, error);
  }
  throw fileChanged(path);
}

/** A symlink's target as it is uploaded. */
export async function readLink(root: string, path: string): Promise<Buffer> {
  try {
    return await readlink(join(root, path), { encoding: "buffer" });
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** The error for a file whose bytes are no longer those that were listed. */
export function fileChanged(path: string): MayflyError {
  return new MayflyError("file_changed", `"${path}" changed while it was uploaded. Deploy again when nothing writes to it.`, {
    details: { file: path },
  });
}

/** The error for a file that cannot be read; a file that is gone has changed. */
export function unreadable(path: string, error: unknown): MayflyError {
  if (error instanceof MayflyError) return error;
  if (errnoOf(error) === "ENOENT" && !path.includes("\uFFFD")) return fileChanged(path);
  const why = path.includes("\uFFFD") ? "its name is not valid UTF-8" : (errnoOf(error) ?? messageOf(error));
  return new MayflyError("unreadable_file", `Cannot read "${path}": ${why}. Make it readable, or name it in .vercelignore.`, {
    cause: error,
    details: { file: path },
  });
}

/** Something in a source directory that is uploaded. */
export interface Entry {
  /** POSIX path from the source's root. */
  readonly path: string;
  readonly isLink: boolean;
}

/** Files and links of a source directory that are not ignored, and the directories they were found in ("" is the root). */
export async function listDirectory(
  root: string,
): Promise<{ readonly entries: readonly Entry[]; readonly directories: readonly string[] }> {
  const entries: Entry[] = [];
  const directories: string[] = [];
  await walk(root, "", await readIgnoreRules(root), entries, {}, [], directories);
  return { entries, directories };
}

async function resolveDirectory(directory: string): Promise<string> {
  try {
    if ((await stat(directory)).isDirectory()) return await realpath(directory);
  } catch (error) {
    const errno = errnoOf(error);
    const why = errno === "ENOENT" ? "does not exist" : `cannot be read (${errno ?? messageOf(error)})`;
    throw new MayflyError("not_a_directory", `The directory "${directory}" ${why}.`, { cause: error });
  }
  throw new MayflyError("not_a_directory", `"${directory}" is a file; name the directory to deploy.`);
}

async function listSource(root: string, options: SourceOptions, warnings: string[]): Promise<Entry[]> {
  const entries: Entry[] = [];
  await walk(root, "", await readIgnoreRules(root), entries, options, warnings);
  return entries;
}

/** Depth first, one directory at a time: hashing is the slow part. Without rules everything is listed. */
async function walk(
  root: string,
  top: string,
  topRules: IgnoreRules | undefined,
  entries: Entry[],
  options: SourceOptions,
  warnings: string[],
  directories: string[] = [],
): Promise<void> {
  const waiting = [{ directory: top, outerRules: topRules }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    throwIfCanceled(options.signal);
    const { directory, outerRules } = next;
    directories.push(directory);
    const children = await readdir(join(root, directory), { withFileTypes: true }).catch((error: unknown) => {
      throw unreadable(directory === "" ? root : `${directory}/`, error);
    });
    const rules = children.some(({ name }) => name === ".gitignore") ? await outerRules?.enter(directory) : outerRules;
    for (const child of children) {
      const path = directory === "" ? child.name : `${directory}/${child.name}`;
      if (rules?.ignores(path, child.isDirectory()) === true) continue;
      if (child.isDirectory()) waiting.push({ directory: path, outerRules: rules });
      else if (child.isFile() || child.isSymbolicLink()) entries.push({ path, isLink: child.isSymbolicLink() });
      else warnings.push(`Skipped "${path}": it is a socket, pipe or device.`);
    }
  }
}

// ── a prebuilt output ─────────────────────────────────────────────────────────────────────────────────────────────────

async function listPrebuilt(root: string, options: SourceOptions, warnings: string[]): Promise<Entry[]> {
  if ((await lstat(join(root, outputDirectory, "config.json")).catch(() => undefined)) === undefined) {
    throw new MayflyError("empty_directory", `There is no prebuilt output: ${join(root, outputDirectory, "config.json")} does not exist.`);
  }
  await checkBuilds(root, options.target ?? "preview");
  const entries: Entry[] = [];
  await walk(root, outputDirectory, undefined, entries, options, warnings);
  const listed = new Set(entries.map(({ path }) => path));
  const own = await readVercelIgnore(root);
  for (const config of entries.filter(({ path, isLink }) => !isLink && path.endsWith("/.vc-config.json"))) {
    for (const path of await readFilePathMap(root, config.path)) {
      if (listed.has(path)) continue;
      if (own?.ignores(path) === true) {
        warnings.push(`Skipped "${path}", named in ${config.path}: .vercelignore leaves it out.`);
        continue;
      }
      listed.add(path);
      entries.push(await mappedEntry(root, config.path, path));
    }
  }
  return entries;
}

/** `builds.json` tells how the build went and for which target. */
async function checkBuilds(root: string, target: Target): Promise<void> {
  const text = await readFile(join(root, outputDirectory, "builds.json"), "utf8").catch(() => "{}");
  const builds = parseObject(text, `${outputDirectory}/builds.json`);
  const list = Array.isArray(builds["builds"]) ? builds["builds"] : [];
  const error = [builds, ...list].map((build) => (isObject(build) ? build["error"] : undefined)).find((value) => value !== undefined);
  if (error !== undefined) {
    const message = isObject(error) && typeof error["message"] === "string" ? error["message"] : JSON.stringify(error);
    throw new MayflyError("BUILD_FAILED", `The build that made ${outputDirectory} failed: ${message}`);
  }
  const builtFor = builds["target"];
  if (typeof builtFor === "string" && builtFor !== target) {
    const how = builtFor === "production" ? "deploy it with --prod" : "deploy it without --prod";
    throw new MayflyError("conflict", `${outputDirectory} was built for ${builtFor}, not ${target}: ${how}, or build again.`);
  }
}

async function readFilePathMap(root: string, configPath: string): Promise<readonly string[]> {
  const text = await readFile(join(root, configPath), "utf8").catch((error: unknown) => {
    throw unreadable(configPath, error);
  });
  const map = parseObject(text, configPath)["filePathMap"];
  if (!isObject(map)) return [];
  return Object.values(map).map((value) => {
    if (typeof value !== "string") throw new MayflyError("BUILD_OUTPUT_INVALID", `A filePathMap value in "${configPath}" is not a string.`);
    return posix.normalize(value.split(sep).join("/"));
  });
}

/** The output may come from a less trusted machine than this one, so its maps must not reach out of the directory. */
async function mappedEntry(root: string, configPath: string, path: string): Promise<Entry> {
  const refuse = (why: string): MayflyError =>
    new MayflyError("BUILD_OUTPUT_INVALID", `"${configPath}" names "${path}" in its filePathMap, which ${why}.`);
  if (isAbsolute(path) || path === ".." || path.startsWith("../")) throw refuse("is outside the directory");
  const parent = await realpath(join(root, posix.dirname(path))).catch(() => undefined);
  if (parent === undefined) throw refuse("does not exist");
  if (parent !== root && !parent.startsWith(root === sep ? sep : root + sep)) throw refuse("leads out of the directory");
  const found = await lstat(join(root, path)).catch(() => undefined);
  if (found === undefined) throw refuse("does not exist");
  if (!found.isFile() && !found.isSymbolicLink()) throw refuse("is not a file");
  return { path, isLink: found.isSymbolicLink() };
}

function parseObject(text: string, path: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // said below
  }
  throw new MayflyError("BUILD_OUTPUT_INVALID", `"${path}" is not a JSON object.`);
}

// ── hashing ───────────────────────────────────────────────────────────────────────────────────────────────────────────

async function hashAll(root: string, entries: readonly Entry[], options: SourceOptions): Promise<readonly SourceFile[]> {
  const files: SourceFile[] = [];
  let next = 0;
  let done = 0;
  let bytes = 0;
  // The first failure ends the other readers.
  const failure = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failure.signal]) : failure.signal;
  const work = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafeSlow(bufferBytes);
    while (next < entries.length) {
      throwIfCanceled(signal);
      const index = next++;
      const entry = entries[index]!;
      if (index % atOnceMax === 0) {
        options.onProgress?.(done, bytes);
        await new Promise(setImmediate);
      }
      const file = entry.isLink
        ? await hashLink(root, entry.path)
        : (knownFile(root, entry.path, options.known) ??
          hashSmallFile(root, entry.path, buffer, options.known) ??
          (await hashFile(root, entry.path, buffer, signal, options.known)));
      files[index] = file;
      done++;
      bytes += file.size;
    }
  };
  const guarded = async (): Promise<void> => {
    try {
      await work();
    } catch (error) {
      failure.abort();
      throw error;
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallelMax, entries.length) }, guarded));
  options.onProgress?.(done, bytes);
  return files;
}

async function hashLink(root: string, path: string): Promise<SourceFile> {
  const target = await readLink(root, path);
  return { path, sha: hash("sha1", target), size: target.byteLength, mode: linkMode };
}

/** A file that has not changed since it was last read; undefined: perhaps it has. */
function knownFile(root: string, path: string, known: KnownFiles | undefined): SourceFile | undefined {
  const facts = known === undefined ? undefined : lstatSync(join(root, path), { throwIfNoEntry: false });
  if (facts?.isFile() !== true) return undefined;
  const sha = known!.find(path, facts);
  return sha === undefined ? undefined : { path, sha, size: facts.size, mode: modeOf(facts) };
}

/** As {@link hashFile}, for a file that the buffer holds; undefined for others, which that reads or says what is wrong with. */
function hashSmallFile(root: string, path: string, buffer: Buffer, known: KnownFiles | undefined): SourceFile | undefined {
  const beganMs = Date.now();
  const small = readSmallFile(root, path, buffer);
  if (small === undefined) return undefined;
  const sha = hash("sha1", small.bytes);
  known?.note(path, small.facts, beganMs, sha);
  return { path, sha, size: small.facts.size, mode: modeOf(small.facts) };
}

/**
 * A regular file that the buffer holds, in one go; undefined: it is none.
 * @returns what it was before it was read, and its bytes, a part of the buffer
 */
export function readSmallFile(root: string, path: string, buffer: Buffer): { readonly facts: Stats; readonly bytes: Buffer } | undefined {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(join(root, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const facts = fstatSync(descriptor);
    if (!facts.isFile() || facts.size >= buffer.byteLength) return undefined;
    if (readSync(descriptor, buffer, 0, buffer.byteLength, null) !== facts.size) return undefined;
    return { facts, bytes: buffer.subarray(0, facts.size) };
  } catch {
    return undefined;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

const modeOf = (facts: Stats): number => ((facts.mode & 0o100) === 0 ? 0o100644 : 0o100755);

/** All facts come from one open descriptor, so they belong to one file even if the path is given to another meanwhile. */
async function hashFile(
  root: string,
  path: string,
  buffer: Buffer,
  signal: AbortSignal | undefined,
  known: KnownFiles | undefined,
): Promise<SourceFile> {
  try {
    const beganMs = Date.now();
    const { handle: opened, facts } = await openSourceFile(root, path);
    await using handle = opened;
    const sha1 = createHash("sha1");
    let size = 0;
    for (;;) {
      throwIfCanceled(signal);
      const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, null);
      if (bytesRead === 0) break;
      size += bytesRead;
      sha1.update(buffer.subarray(0, bytesRead));
      // A file that is appended to all the time would otherwise never end.
      if (size > facts.size) throw fileChanged(path);
    }
    if (size !== facts.size) throw fileChanged(path);
    const sha = sha1.digest("hex");
    known?.note(path, facts, beganMs, sha);
    return { path, sha, size, mode: modeOf(facts) };
  } catch (error) {
    throw unreadable(path, error);
  }
}

function warnIfOutside(path: string, target: string, warnings: string[]): void {
  const inside = !isAbsolute(target) && !normalize(join(posix.dirname(path), target)).startsWith("..");
  if (!inside) warnings.push(`The link "${path}" leads out of the directory (to "${target}"); what is there is not uploaded.`);
}

function throwIfCanceled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new MayflyError("canceled");
}
