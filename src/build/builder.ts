/**
 * SEAM: what turns source into output. A builder runs inside the build sandbox (build/worker.ts calls it there) and
 * writes the Build Output API v3 below `.vercel/output`; the platform outside reads nothing else
 * (build/output.ts). So whatever writes that format deploys: our builders, a Vercel builder, a framework's adapter, or
 * the person's own machine with `--prebuilt`.
 *
 * The way of a build:  plan.ts (outside: what is there to build?) → worker.ts (inside: install, then builders) → output.ts (outside: check, store, manifest).
 */
import type { ProjectSettings, Route } from "../model.ts";

/** One builder's share of a build. Serialisable: it crosses into the sandbox. */
export interface BuildStep {
  /** `node` is ours (an `api/` file → a Function); `vercel` runs `use`'s `build()`; `script` runs the project's own build. */
  readonly builder: "node" | "vercel" | "script";
  /** Package name of the Vercel builder: `@vercel/next`. Empty for ours. */
  readonly use: string;
  /** Path relative to the project's root: `api/date.ts`, `package.json`. */
  readonly entrypoint: string;
  /** As detection gave it (`zeroConfig`, `framework`, `functions`, …). */
  readonly config: Readonly<Record<string, unknown>>;
}

/** The whole job of a build sandbox. */
export interface BuildJob {
  /** Guest path of the project's root (settings.rootDirectory applied). */
  readonly workDirectory: string;
  /** Guest path of the uploaded tree's root. */
  readonly repositoryDirectory: string;
  readonly settings: ProjectSettings;
  readonly steps: readonly BuildStep[];
  /** Routes that detection and vercel.json ask for, by where they go; the worker merges the builders' own into them. */
  readonly routes: BuildRoutes;
  /** Globs of vercel.json `functions` → memory, maxDuration, …: as written there, checked by the plan. */
  readonly functions: Readonly<Record<string, FunctionSettings>>;
  readonly target: "production" | "preview";
  readonly functionBundleBytesMax: number;
}

export interface FunctionSettings {
  readonly memory?: number;
  readonly maxDuration?: number;
  readonly includeFiles?: string;
  readonly excludeFiles?: string;
  readonly regions?: readonly string[];
}

export interface BuildRoutes {
  /** From vercel.json, transformed by `@vercel/routing-utils`. */
  readonly user: readonly Route[];
  readonly redirects: readonly Route[];
  readonly rewrites: readonly Route[];
  readonly defaults: readonly Route[];
  readonly errors: readonly Route[];
}

/** Messages of the worker over descriptor 3, one JSON object a line, each at most 64 KiB. */
export type BuildMessage = { readonly type: "done" } | { readonly type: "failed"; readonly code: string; readonly message: string };
