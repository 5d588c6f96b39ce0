/**
 * Which Functions of a build need not be built, because an earlier build of the project made them from the same things.
 * Decided outside the sandbox from trees of digests alone: a hit costs no process.
 *
 * A record is of one tree. A Function of it is still good when of the paths by which the new tree differs none is among
 * its inputs, none has come where its build looked and found nothing, and settings, platform, environment and installed
 * packages are the same. Where commands of the project run first, the worker asks the disk instead, when they have run
 * (fingerprint.ts). Invariant: in doubt it is built. A hit that is not true would be a bug, a miss costs a second.
 */
import { createHash } from "node:crypto";
import type { BlobStore } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import type { Digest, FunctionSpec, Output, SourceTree } from "../model.ts";
import { builderDigest } from "./builder-digest.ts";
import type { BuildReport, BuildStep, EarlierStep, PlannedJob, StepReport, StepTrace } from "./builder.ts";
import type { WholeBuild } from "./whole-build.ts";

/** What a build leaves for the next one. A blob, as JSON. */
export interface BuildRecord {
  readonly version: 1;
  /** Of everything that all Functions depend on: {@link BuildKeys}. */
  readonly keys: BuildKeys;
  /** Installing read files of the project, or may have: then whatever changed may have changed what is installed. */
  readonly installReadsProject: boolean;
  /** The tree that every entry is of, a blob. */
  readonly sourceDigest: Digest;
  /** By {@link keyOfStep}. */
  readonly entries: Readonly<Record<Digest, RecordEntry>>;
  /** Of a build that ran commands of the project. */
  readonly whole?: WholeBuild;
}

export interface RecordEntry extends StepTrace {
  /** Of what its build has met, when its job ran commands; else null. */
  readonly fingerprint: Digest | null;
  /** Path → what answers there. */
  readonly outputs: Readonly<Record<string, Output>>;
  readonly functions: readonly FunctionSpec[];
}

export interface BuildKeys {
  /** Platform, builders, settings and environment of the build. */
  readonly base: Digest;
  /** What decides an install that reads nothing but manifests and lock files. */
  readonly install: Digest;
  /** The whole tree, and what else a script may see. */
  readonly everything: Digest;
}

/** The parts of a build that its keys are made of. */
export interface KeyFacts {
  readonly tree: SourceTree;
  readonly sourceDigest: Digest;
  readonly job: PlannedJob;
  /** A digest of the build's environment that tells nothing of its values. */
  readonly environmentDigest: string;
  readonly config: Config;
}

const recordBytesMax = 64 * 1024 * 1024;
const isInstalled = (path: string): boolean => /(?:^|\/)node_modules\//.test(path);

/** Files that package managers read: an install depends on these, and on the packages. */
const installFile =
  /(?:^|\/)(?:package\.json|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|pnpm-workspace\.yaml|\.pnpmfile\.c?js|bun\.lockb?|bunfig\.toml|\.npmrc|\.yarnrc|\.yarnrc\.yml|\.pnp\..*|\.node-version|\.nvmrc)$|(?:^|\/)(?:\.yarn|patches)\/|\.(?:patch|tgz)$/;

/** Names of packages whose own install scripts only fetch or compile their binaries: they read nothing of the project. */
const harmlessScripts = new Set([
  "@biomejs/biome",
  "@parcel/watcher",
  "@swc/core",
  "argon2",
  "bcrypt",
  "better-sqlite3",
  "bufferutil",
  "canvas",
  "core-js",
  "core-js-pure",
  "es5-ext",
  "esbuild",
  "fsevents",
  "lmdb",
  "msgpackr-extract",
  "oxc-resolver",
  "protobufjs",
  "sharp",
  "sqlite3",
  "unrs-resolver",
  "utf-8-validate",
  "workerd",
]);

export function keysOf({ tree, sourceDigest, job, environmentDigest, config }: KeyFacts): BuildKeys {
  const base = digestOf([
    builderDigest,
    environmentDigest,
    job.rootDirectory,
    job.settings,
    config.functionMemoryMBMin,
    config.functionMemoryMBMax,
    config.functionMemoryMBDefault,
    config.functionDurationSMax,
    config.functionBundleBytesMax,
  ]);
  const files = Object.entries(tree)
    .filter(([path]) => installFile.test(path) || isInstalled(path))
    .map(([path, file]) => [path, file.digest, file.mode])
    .sort(([a], [b]) => (a! < b! ? -1 : 1));
  const install = digestOf([base, job.installs, config.npmRegistry, files]);
  return { base, install, everything: digestOf([install, sourceDigest, job]) };
}

/** The name of a step's entry in a record. */
function keyOfStep(step: BuildStep): Digest {
  return digestOf(step);
}

/** Step → its entry, for those that need not be built. */
export async function findReusable(
  record: BuildRecord,
  keys: BuildKeys,
  job: PlannedJob,
  tree: SourceTree,
  blobs: BlobStore,
): Promise<ReadonlyMap<BuildStep, RecordEntry>> {
  const found = new Map<BuildStep, RecordEntry>();
  // What a command may have made is known only when it has run.
  if (job.runsCommands || record.keys.base !== keys.base) return found;
  if (record.installReadsProject && record.keys.everything !== keys.everything) return found;
  const before = await readTree(record.sourceDigest, blobs);
  if (before === null) return found;
  const changes = changesOf(before, tree);
  const isSameInstall = record.keys.install === keys.install;
  for (const step of job.steps) {
    const entry = record.entries[keyOfStep(step)];
    if (entry === undefined || (entry.installed && !isSameInstall) || !isUntouched(entry, changes)) continue;
    if (await isStored(entry, blobs)) found.set(step, entry);
  }
  return found;
}

/** Of a job that runs commands: the entries of those steps that need not be built if they meet the same again. */
export async function findEarlier(
  record: BuildRecord,
  keys: BuildKeys,
  job: PlannedJob,
  blobs: BlobStore,
): Promise<readonly { readonly earlier: EarlierStep; readonly entry: RecordEntry }[]> {
  if (!job.runsCommands || record.keys.base !== keys.base) return [];
  const found: { readonly earlier: EarlierStep; readonly entry: RecordEntry }[] = [];
  for (const [index, step] of job.steps.entries()) {
    const entry = record.entries[keyOfStep(step)];
    if (entry === undefined || entry.fingerprint === null || !(await isStored(entry, blobs))) continue;
    const { inputs, absent, anyName, installed, packages, fingerprint } = entry;
    found.push({ earlier: { index, trace: { inputs, absent, anyName, installed, packages }, fingerprint }, entry });
  }
  return found;
}

async function isStored(entry: RecordEntry, blobs: BlobStore): Promise<boolean> {
  const bundles = await Promise.all(entry.functions.map((spec) => blobs.has(spec.bundleDigest)));
  return bundles.every(Boolean);
}

interface Changes {
  /** Paths that one of the trees does not have, or that differ. */
  readonly changed: ReadonlySet<string>;
  /** New paths and all their directories. */
  readonly appeared: ReadonlySet<string>;
  /** A path is new or gone. */
  readonly names: boolean;
}

function changesOf(before: SourceTree, after: SourceTree): Changes {
  const changed = new Set<string>();
  const appeared = new Set<string>();
  let names = false;
  for (const [path, file] of Object.entries(after)) {
    const old = Object.hasOwn(before, path) ? before[path] : undefined;
    if (old?.digest === file.digest && old.mode === file.mode) continue;
    changed.add(path);
    if (old !== undefined) continue;
    names = true;
    for (let end = path.length; end > 0; end = path.lastIndexOf("/", end - 1)) appeared.add(path.slice(0, end));
  }
  for (const path of Object.keys(before)) {
    if (Object.hasOwn(after, path)) continue;
    names = true;
    changed.add(path);
  }
  return { changed, appeared, names };
}

function isUntouched(entry: RecordEntry, { changed, appeared, names }: Changes): boolean {
  if (entry.anyName && names) return false;
  if (changed.size === 0) return true;
  return !entry.inputs.some((path) => changed.has(path)) && !entry.absent.some((path) => appeared.has(path));
}

async function readTree(digest: Digest, blobs: BlobStore): Promise<SourceTree | null> {
  try {
    return JSON.parse((await blobs.read(digest)).toString()) as SourceTree;
  } catch {
    return null;
  }
}

// ── what a build leaves ───────────────────────────────────────────────────────────────────────────────────────────────

export interface RecordFacts {
  readonly keys: BuildKeys;
  readonly job: PlannedJob;
  readonly sourceDigest: Digest;
  /** Of the steps that were not built. */
  readonly reused: ReadonlyMap<BuildStep, RecordEntry>;
  /** null: nothing was built. */
  readonly report: BuildReport | null;
  readonly outputs: Readonly<Record<string, Output>>;
  readonly functions: Readonly<Record<string, FunctionSpec>>;
  readonly installReadsProject: boolean;
  /** Inputs that are, now that the build is over, still those of the tree. */
  readonly unchanged: ReadonlySet<string>;
}

export function makeRecord(facts: RecordFacts): BuildRecord {
  const { keys, installReadsProject, sourceDigest, job, reused, report, outputs, functions } = facts;
  const entries: [Digest, RecordEntry][] = [];
  for (const [index, step] of job.steps.entries()) {
    const kept = reused.get(step);
    if (kept !== undefined) {
      entries.push([keyOfStep(step), kept]);
      continue;
    }
    const { trace, fingerprint = null } = report?.steps[index] ?? {};
    const output = outputs[step.output];
    const spec = output !== undefined && "functionId" in output ? functions[output.functionId] : undefined;
    if (trace === undefined || trace === null || output === undefined || spec === undefined) continue;
    // What the build itself has made or changed says nothing about the next one, unless the next one looks for itself.
    if (fingerprint === null && !trace.inputs.every((path) => facts.unchanged.has(path))) continue;
    entries.push([keyOfStep(step), { ...trace, fingerprint, outputs: { [step.output]: output }, functions: [spec] }]);
  }
  return { version: 1, keys, installReadsProject, sourceDigest, entries: Object.fromEntries(entries) };
}

/** Whether packages were installed that run scripts of their own, of which nobody knows what they read. */
export function runsScripts(report: BuildReport | null): boolean {
  return report === null || report.installScripts.some((name) => !harmlessScripts.has(name));
}

/** What says how to install is small; beyond this it is not read, and anything is thought possible. */
const installFileBytesMax = 16 * 1024 * 1024;

/** Whether an install of this tree may read files of the project, or run its scripts. */
export async function mayInstallReadProject(
  tree: SourceTree,
  job: PlannedJob,
  readFile: (path: string) => Promise<Buffer>,
): Promise<boolean> {
  if (job.installs.length === 0) return false;
  if (job.installs.some((install) => install.command !== null)) return true;
  for (const [path, { size }] of Object.entries(tree)) {
    if (isInstalled(path)) continue;
    if (/(?:^|\/)(?:pnpm-workspace\.yaml|\.npmrc|package\.json)$/.test(path) && size > installFileBytesMax) return true;
    if (/(?:^|\/)(?:binding\.gyp|\.pnpmfile\.c?js)$|(?:^|\/)\.yarn\/plugins\//.test(path)) return true;
    // pnpm's other way to say that workspace packages are copied.
    if (/(?:^|\/)(?:pnpm-workspace\.yaml|\.npmrc)$/.test(path) && (await readFile(path)).includes("inject")) return true;
    if (!/(?:^|\/)package\.json$/.test(path)) continue;
    let json: Readonly<Record<string, unknown>> | null;
    try {
      json = JSON.parse((await readFile(path)).toString("utf8").replace(/^\uFEFF/, "")) as typeof json;
    } catch {
      return true;
    }
    if (readsProject(json ?? {})) return true;
  }
  return false;
}

function readsProject(json: Readonly<Record<string, unknown>>): boolean {
  const scripts = recordOf(json["scripts"]);
  if (["preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare", "prepublish"].some((name) => name in scripts))
    return true;
  // Copies of directories of the project, and packages that are put into one another.
  const specs = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies", "overrides", "resolutions"];
  const isLocal = (spec: unknown): boolean =>
    typeof spec === "string"
      ? /^(?:file|link|portal|patch|exec):|^[.~/]/.test(spec)
      : typeof spec === "object" && spec !== null && Object.values(spec).some(isLocal);
  return specs.some((key) => isLocal(json[key])) || /"injected"|"injectWorkspacePackages"/.test(JSON.stringify(json));
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

/** A record as it is kept: Functions look at the same paths, so each path is there once and lists have its number. */
interface StoredRecord {
  readonly version: 2;
  readonly paths: readonly string[];
  readonly record: Omit<BuildRecord, "entries">;
  readonly entries: Readonly<Record<Digest, Omit<RecordEntry, PathList> & Readonly<Record<PathList, readonly number[]>>>>;
}

type PathList = "inputs" | "absent" | "packages";

/** Reads a record that an earlier build has left; null when it is of another version, or gone. */
export async function readRecord(digest: Digest, blobs: BlobStore): Promise<BuildRecord | null> {
  try {
    const { version, paths, record, entries } = JSON.parse((await blobs.read(digest)).toString()) as StoredRecord;
    if (version !== 2) return null;
    const named = (list: readonly number[]): string[] => list.map((number) => paths[number]!);
    const whole = Object.entries(entries).map(([key, entry]): [Digest, RecordEntry] => {
      const { inputs, absent, packages } = entry;
      return [key, { ...entry, inputs: named(inputs), absent: named(absent), packages: named(packages) }];
    });
    return { ...record, entries: Object.fromEntries(whole) };
  } catch {
    return null;
  }
}

/** @returns the blob's digest; null when the record is larger than one may be */
export async function storeRecord({ entries, ...record }: BuildRecord, blobs: BlobStore): Promise<Digest | null> {
  const numbers = new Map<string, number>();
  const numbered = (list: readonly string[]): number[] =>
    list.map((path) => {
      const known = numbers.get(path) ?? numbers.size;
      numbers.set(path, known);
      return known;
    });
  const short = Object.entries(entries).map(([key, entry]) => {
    const { inputs, absent, packages } = entry;
    return [key, { ...entry, inputs: numbered(inputs), absent: numbered(absent), packages: numbered(packages) }] as const;
  });
  const stored: StoredRecord = { version: 2, paths: [...numbers.keys()], record, entries: Object.fromEntries(short) };
  const text = JSON.stringify(stored);
  return text.length > recordBytesMax ? null : (await blobs.put(text)).digest;
}

/** Of a worker's report; hostile. null: it cannot be understood, and nothing is re-used. */
export function parseReport(text: string): BuildReport | null {
  try {
    const { steps, installScripts, connected } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    if (!Array.isArray(steps) || !isStrings(installScripts)) return null;
    return { steps: steps.map((step) => parseStep(recordOf(step))), installScripts, connected: connected !== false };
  } catch {
    return null;
  }
}

function parseStep({ ms, trace, fingerprint, reused }: Readonly<Record<string, unknown>>): StepReport {
  const { inputs, absent, anyName, installed, packages } = recordOf(trace);
  const isTrace =
    isStrings(inputs) && isStrings(absent) && isStrings(packages) && typeof anyName === "boolean" && typeof installed === "boolean";
  return {
    ms: typeof ms === "number" && ms >= 0 ? ms : 0,
    trace: isTrace ? { inputs, absent, anyName, installed, packages } : null,
    fingerprint: typeof fingerprint === "string" && /^[0-9a-f]{64}$/.test(fingerprint) ? fingerprint : null,
    reused: reused === true,
  };
}

const isStrings = (value: unknown): value is string[] => Array.isArray(value) && value.every((one) => typeof one === "string");

function digestOf(value: unknown): Digest {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
