/**
 * Which files of installed packages reach which others, kept from one build of a project to the next beside the packages
 * themselves (build-cache.ts): to find that out is most of a small server's build. It holds for the very packages that it
 * was made of, so whoever reads it knows that these are installed; what a trace looked at outside of them is compared.
 * Invariant: in doubt it is traced.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import type { Digest } from "../model.ts";
import type { StepTrace } from "./builder.ts";
import { Fingerprints } from "./fingerprint.ts";
import { isObject, isString, isStrings } from "./shape.ts";

/** What one file of a package reaches. */
export interface Closure {
  /** Absolute paths. */
  readonly files: readonly string[];
  readonly trace: StepTrace;
}

/** Paths are relative to the repository's top. */
interface KeptClosure {
  readonly files: readonly string[];
  readonly absent: readonly string[];
  readonly inputs: readonly string[];
  /** Of what the trace met outside of packages. */
  readonly outside: Digest;
}

/** Below the project's root, where the build cache keeps all there is. */
const place = ".vercel/cache/package-traces.json";
const bytesMax = 16 * 1024 * 1024;
const version = 1;
const isInstalled = (path: string): boolean => /(?:^|\/)node_modules\//.test(path);

export class TraceMemory {
  readonly #top: string;
  readonly #path: string;
  readonly #kept: ReadonlyMap<string, KeptClosure>;
  readonly #now = new Map<string, KeptClosure>();
  readonly #fingerprints: Fingerprints;
  #isNew = false;

  /**
   * @param top absolute path of the repository, in which nothing may change from now on
   * @param work absolute path of the project's root
   * @param sameInstall the packages are those of the build that has left this
   */
  constructor(top: string, work: string, sameInstall: boolean) {
    this.#top = top;
    this.#path = join(work, place);
    this.#kept = sameInstall ? readKept(this.#path) : new Map();
    this.#fingerprints = new Fingerprints(top);
  }

  /** What a file of a package is known to reach. @param path absolute */
  find(path: string): Closure | undefined {
    const name = relative(this.#top, path);
    const kept = this.#kept.get(name);
    if (kept === undefined || this.#fingerprint(kept) !== kept.outside) return undefined;
    this.#now.set(name, kept);
    const { files, inputs, absent } = kept;
    return {
      files: files.map((file) => join(this.#top, file)),
      trace: { inputs, absent, anyName: false, installed: true, packages: [] },
    };
  }

  /** A closure was traced; one that reaches out of the packages is not kept. */
  note(path: string, { files, trace }: Closure): void {
    const names = files.map((file) => relative(this.#top, file));
    if (trace.anyName || trace.packages.length > 0 || !names.every(isInstalled)) return;
    const { inputs, absent } = trace;
    this.#now.set(relative(this.#top, path), { files: names, inputs, absent, outside: this.#fingerprint({ inputs, absent }) });
    this.#isNew = true;
  }

  /** Leaves to the next build what this one knows. What goes wrong costs that one its time. */
  keep(): void {
    if (!this.#isNew) return;
    try {
      const text = JSON.stringify({ version, closures: Object.fromEntries(this.#now) });
      if (text.length > bytesMax) return;
      mkdirSync(dirname(this.#path), { recursive: true });
      writeFileSync(this.#path, text);
    } catch {
      // The next build traces again.
    }
  }

  #fingerprint({ inputs, absent }: Pick<StepTrace, "inputs" | "absent">): Digest {
    const isOutside = (path: string): boolean => !isInstalled(path);
    return this.#fingerprints.of({
      inputs: inputs.filter(isOutside),
      absent: absent.filter(isOutside),
      packages: [],
      anyName: false,
      installed: true,
    });
  }
}

/** Written by an earlier build of the same project, and so by its code perhaps: only its shape is certain afterwards. */
function readKept(path: string): ReadonlyMap<string, KeptClosure> {
  const kept = new Map<string, KeptClosure>();
  try {
    const text = readFileSync(path, "utf8");
    const value: unknown = text.length > bytesMax ? null : JSON.parse(text);
    if (!isObject(value) || value["version"] !== version || !isObject(value["closures"])) return kept;
    for (const [name, closure] of Object.entries(value["closures"])) {
      if (!isObject(closure)) continue;
      const { files, inputs, absent, outside } = closure;
      if (isStrings(files) && isStrings(inputs) && isStrings(absent) && isString(outside))
        kept.set(name, { files, inputs, absent, outside });
    }
  } catch {
    // There is none.
  }
  return kept;
}
