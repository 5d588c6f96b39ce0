/**
 * The repository as a trace sees it, inside the sandbox: synchronous, each question asked of the disk once for all
 * Functions of a build. `Probes` writes down for one Function what was asked, also what was not there: that is what its
 * next build is compared by (reuse.ts). Paths are noted as they really are, behind every link, and every link on the way
 * is noted too; what lies in a node_modules is the install's and only noted as such.
 */
import { lstatSync, readFileSync, readlinkSync, statSync, type Stats } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import type { StepTrace } from "./builder.ts";

const quietly = { throwIfNoEntry: false } as const;
const installed = /(?:^|\/)node_modules(?:\/|$)/;
/** The innermost package that a path is in. */
const packageDirectory = /^.*(?:^|\/)node_modules\/(?:@[^/]+\/)?[^/]+/;

export class SourceFiles {
  readonly top: string;
  readonly notesPackages: boolean;
  readonly #stats = new Map<string, Stats | null>();
  readonly #links = new Map<string, string | null>();
  readonly #real = new Map<string, { readonly path: string; readonly links: readonly string[] }>();
  readonly #packages = new Map<string, string | null>();

  /**
   * @param top absolute path of the repository
   * @param notesPackages each package that matters is noted, because what is installed may have been changed
   */
  constructor(top: string, notesPackages: boolean) {
    this.top = top;
    this.notesPackages = notesPackages;
  }

  /** What is there, behind links; null: nothing. */
  stat(path: string): Stats | null {
    let stats = this.#stats.get(path);
    if (stats === undefined) this.#stats.set(path, (stats = orNull(() => statSync(path, quietly)) ?? null));
    return stats;
  }

  /** Where the link leads; null: it is none. */
  readlink(path: string): string | null {
    let target = this.#links.get(path);
    if (target === undefined) this.#links.set(path, (target = orNull(() => readLink(path))));
    return target;
  }

  /** The text of a package.json, or null. */
  packageJson(path: string): string | null {
    let text = this.#packages.get(path);
    if (text === undefined) this.#packages.set(path, (text = orNull(() => readFileSync(path, "utf8"))));
    return text;
  }

  /** The path behind all links of its directories and its own, whether it is there or not, and those links. */
  real(path: string, hops = 0): { readonly path: string; readonly links: readonly string[] } {
    const known = this.#real.get(path);
    if (known !== undefined) return known;
    let found: { readonly path: string; readonly links: readonly string[] };
    if (path === this.top || path === dirname(path)) found = { path, links: [] };
    else {
      const parent = this.real(dirname(path), hops);
      const at = join(parent.path, basename(path));
      const target = hops > 32 ? null : this.readlink(at);
      if (target === null) found = { path: at, links: parent.links };
      else {
        const behind = this.real(resolve(parent.path, target), hops + 1);
        found = { path: behind.path, links: [...parent.links, at, ...behind.links] };
      }
    }
    this.#real.set(path, found);
    return found;
  }
}

/** What the build of one Function looked at. */
export class Probes {
  readonly #files: SourceFiles;
  readonly #inputs = new Set<string>();
  readonly #absent = new Set<string>();
  readonly #packages = new Set<string>();
  #anyName = false;
  #installed = false;

  constructor(files: SourceFiles) {
    this.#files = files;
  }

  /** It was there, and what it holds matters. */
  input(path: string): void {
    this.#note(path, this.#inputs);
  }

  /** It was not there, and would matter if it were. */
  absent(path: string): void {
    this.#note(path, this.#absent);
  }

  /** Files were chosen by their names: another name anywhere may matter. */
  anyName(): void {
    this.#anyName = true;
  }

  /** What is installed matters. */
  installed(): void {
    this.#installed = true;
  }

  /** All that another trace has noted. */
  add({ inputs, absent, packages, anyName, installed }: StepTrace): void {
    for (const path of inputs) this.#inputs.add(path);
    for (const path of absent) this.#absent.add(path);
    for (const path of packages) this.#packages.add(path);
    this.#anyName ||= anyName;
    this.#installed ||= installed;
  }

  toTrace(): StepTrace {
    return {
      inputs: [...this.#inputs],
      absent: [...this.#absent],
      anyName: this.#anyName,
      installed: this.#installed,
      packages: [...this.#packages],
    };
  }

  #note(path: string, set: Set<string>): void {
    const real = this.#files.real(path);
    for (const link of real.links) this.#noteReal(link, this.#inputs);
    // A link to a directory is an input; the directory is what its files are.
    if (set === this.#absent || this.#files.stat(real.path)?.isDirectory() !== true) this.#noteReal(real.path, set);
  }

  #noteReal(path: string, set: Set<string>): void {
    const name = relative(this.#files.top, path).replaceAll(sep, "/");
    // The machine's own files are the same for every build.
    if (name === "" || name.startsWith("../")) return;
    if (!installed.test(name)) set.add(name);
    else {
      this.#installed = true;
      if (this.#files.notesPackages) this.#packages.add(packageDirectory.exec(name)?.[0] ?? name);
    }
  }
}

/** Most paths are none: to ask first costs less than an exception. */
function readLink(path: string): string | null {
  return lstatSync(path, quietly)?.isSymbolicLink() === true ? readlinkSync(path) : null;
}

function orNull<Value>(ask: () => Value): Value | null {
  try {
    return ask();
  } catch {
    return null;
  }
}
