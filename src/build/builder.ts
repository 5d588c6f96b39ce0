/**
 * SEAM: what turns source into output. A builder runs inside the build sandbox (build/worker.ts calls it there) and
 * writes the Build Output API v3 below `.vercel/output`; the platform outside reads nothing else
 * (build/output.ts). So whatever writes that format deploys: our builders, a Vercel builder, a framework's adapter, or
 * the person's own machine with `--prebuilt`.
 *
 * The way of a build:  plan.ts (outside: what is there to build?) → worker.ts (inside: install, then builders) → output.ts (outside: check, store, manifest).
 */
import type { Digest, Manifest, ProjectSettings, Route, Target } from "../model.ts";

/** What a deployment has besides routes and outputs; absent where the build says nothing of it. */
export type SiteSettings = Pick<Manifest, "wildcard" | "images" | "crons">;

/** One builder's share of a build. Serialisable: it crosses into the sandbox. */
export interface BuildStep {
  /** `node` is ours (a file → a Function); `vercel` runs `use`'s `build()`; `script` runs the project's own build. */
  readonly builder: "node" | "vercel" | "script";
  /** Package name of the Vercel builder: `@vercel/next`. Empty for ours. */
  readonly use: string;
  /** Version or tag of that package, to be fetched for the build. Empty: Mayfly has it. */
  readonly useVersion: string;
  /** Path relative to the project's root: `api/date.ts`, `package.json`. */
  readonly entrypoint: string;
  /** Output path of a `node` step's Function, without leading slash: `api/date`. Empty for the others. */
  readonly output: string;
  /** The Function is a whole server: it answers every path that no file does, and the project's build runs before it. */
  readonly server: boolean;
  /** What a `node` step adds to the deployment's routes. Empty for the others, which say it when they are built. */
  readonly routes: readonly Route[];
  /** As detection gave it (`zeroConfig`, `framework`, `functions`, …). */
  readonly config: Readonly<Record<string, unknown>>;
  readonly functionSettings: FunctionSettings;
}

/** One entry of vercel.json `functions`, or the `config` of one of `builds`, checked by the plan. */
export interface FunctionSettings {
  readonly memory?: number;
  readonly maxDuration?: number | "max";
  /** Globs relative to the project's root. */
  readonly includeFiles?: readonly string[];
  readonly excludeFiles?: readonly string[];
  readonly regions?: readonly string[];
}

export const packageManagers = ["npm", "pnpm", "yarn", "yarn-berry", "bun"] as const;
export type PackageManagerName = (typeof packageManagers)[number];

/** A tool of build/toolchain.ts; `version` is exact. */
export interface PackageManager {
  readonly name: PackageManagerName;
  readonly version: string;
}

/** How one directory gets its dependencies. */
export interface InstallStep {
  /** Relative to the uploaded tree's root; "" is the root. */
  readonly directory: string;
  /** The project's own install command, for `sh -c`; null: the package manager's. */
  readonly command: string | null;
  readonly manager: PackageManager;
  /** There is a lock file, and it must fit package.json. */
  readonly frozen: boolean;
  /** An earlier build has left what this would install. */
  readonly done?: boolean;
}

/** All that the build of a Function depends on besides its step and settings: with equal answers it comes out equal. */
export interface StepTrace {
  /** Files and links of the repository (paths relative to it) whose content matters; none of a node_modules. */
  readonly inputs: readonly string[];
  /** Paths at which nothing was, and where something would have mattered: `lib/x.ts` beside `lib/x.js`. */
  readonly absent: readonly string[];
  /** Files were chosen by name (`includeFiles`, a directory that is read): any new or vanished path matters. */
  readonly anyName: boolean;
  /** What is installed matters. */
  readonly installed: boolean;
  /** Directories of the installed packages that matter, where the job's commands may change them; else empty. */
  readonly packages: readonly string[];
}

/** What an earlier build of a step has met, when its job runs commands: met again, the step need not be built. */
export interface EarlierStep {
  /** Place in the job's steps. */
  readonly index: number;
  readonly trace: StepTrace;
  /** Of the trace, by build/fingerprint.ts. */
  readonly fingerprint: Digest;
}

/** What a worker says about its steps, beside `.vercel/output`. As believable as all that comes out of a sandbox. */
export interface BuildReport {
  /** In the order of the job's steps. */
  readonly steps: readonly StepReport[];
  /** Installed packages that ran scripts of their own. */
  readonly installScripts: readonly string[];
  /** The steps opened connections, or nobody knows. */
  readonly connected: boolean;
}

export interface StepReport {
  readonly ms: number;
  /** null: what it depends on is not known, so it is built anew each time. */
  readonly trace: StepTrace | null;
  /** Of what it depends on, when the job runs commands; else null. */
  readonly fingerprint: Digest | null;
  /** It is as an earlier build has met it, and was not built. */
  readonly reused: boolean;
}

/** The whole job of a build sandbox: the first line it reads from descriptor 3, as JSON. */
export interface BuildJob {
  /** Where the project is in the uploaded tree; "" is its root. */
  readonly rootDirectory: string;
  /** With what vercel.json says put in. */
  readonly settings: ProjectSettings;
  readonly installs: readonly InstallStep[];
  readonly steps: readonly BuildStep[];
  /** A command of the project, or another's builder, runs before the Functions are built and may make files for them. */
  readonly runsCommands: boolean;
  /** Places in `steps` of those whose output is taken from an earlier build: nothing is to be done for them. */
  readonly reused: readonly number[];
  /** When the job runs commands: what earlier builds have met. */
  readonly earlier: readonly EarlierStep[];
  readonly routes: BuildRoutes;
  readonly cleanUrls: boolean;
  /** From vercel.json; goes into `config.json`. */
  readonly site: SiteSettings;
  readonly target: Target;
  /** Limit of one Function. */
  readonly bundleBytesMax: number;
  /** Guest directories of the package managers' programs: they come first in PATH. */
  readonly programs: readonly string[];
  /** For the project's own commands and the builders, not for the worker. */
  readonly env: Readonly<Record<string, string>>;
  /** Source, output and report are in the sandbox's place in memory. */
  readonly inMemory: boolean;
}

/** What the upload alone decides of a job. */
export type PlannedJob = Omit<BuildJob, "bundleBytesMax" | "programs" | "env" | "reused" | "earlier" | "inMemory">;

/** Routes known before the build; the builders' own are merged into them (`mergeRoutes` of `@vercel/routing-utils`). */
export interface BuildRoutes {
  /** From vercel.json, in the order of the phases. */
  readonly user: readonly Route[];
  /** From detection: extensions and dynamic segments of `api/`, 404. */
  readonly detected: readonly Route[];
}

/** Messages of the worker over descriptor 3, one JSON object a line, each at most 64 KiB. `ready`: it is warm and waits. */
export type BuildMessage =
  | { readonly type: "ready" | "done" }
  | { readonly type: "failed"; readonly code: string; readonly message: string };

/** Guest paths of a build sandbox. */
export const guestPaths = {
  /** The writable place: source, home, temporary files. */
  scratch: "/vercel",
  repository: "/vercel/path0",
  home: "/vercel/home",
  temporary: "/vercel/tmp",
  /** What package managers fetch. */
  downloads: "/vercel/downloads",
  mayfly: "/var/mayfly",
  /** The worker as V8 has compiled it. */
  compiled: "/var/compiled",
  toolchains: "/var/toolchains",
  /** Where the worker leaves its BuildReport as JSON. */
  report: "/vercel/report.json",
  /** Another writable place, in memory, where a little build has source, output and report. */
  memory: "/var/memory",
} as const;

/** What a build may have on disk or in memory. Paths below the one place or the other. */
export const placedPaths = { repository: "path0", report: "report.json" } as const;

/** Where builders write and the platform reads, below the project's root. */
export const outputDirectory = ".vercel/output";
