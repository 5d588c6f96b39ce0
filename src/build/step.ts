/** What every builder inside the sandbox is given, and what it gives back. */
import type { Route } from "../model.ts";
import type { BuildJob, SiteSettings, StepTrace } from "./builder.ts";

export interface BuildContext {
  readonly job: Omit<BuildJob, "programs" | "env" | "reused" | "earlier" | "inMemory">;
  /** Absolute path of the uploaded tree. */
  readonly repository: string;
  /** Absolute path of the project's root. */
  readonly work: string;
  /** Absolute path of `.vercel/output`. */
  readonly output: string;
}

/** What a step adds to `config.json`. */
export interface StepResult {
  readonly routes: readonly Route[];
  /** Static file → the path and type it is served at. */
  readonly overrides: Readonly<Record<string, { readonly path?: string; readonly contentType?: string }>>;
  readonly site?: SiteSettings;
  /** The step wrote the whole of `.vercel/output` itself, `config.json` too. */
  readonly complete?: boolean;
  /** What the output depends on; absent: it is built anew each time. It then adds the step's own routes and no overrides. */
  readonly trace?: StepTrace;
}
