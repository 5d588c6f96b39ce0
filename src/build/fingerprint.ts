/**
 * One digest of all that the build of a Function depends on, as it lies on disk inside the build sandbox. Where commands of
 * the project run before its Functions are built, the uploaded tree does not tell what these will meet; this does, once the
 * commands have run. Of packages all files count, not only those that were looked at: which there are is not traced.
 */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Digest } from "../model.ts";
import type { StepTrace } from "./builder.ts";

export class Fingerprints {
  readonly #top: string;
  readonly #entries = new Map<string, string>();
  readonly #packages = new Map<string, string>();
  #names: string | undefined;

  /** @param top absolute path of the repository; nothing in it may change from now on but `.vercel` */
  constructor(top: string) {
    this.#top = top;
  }

  of({ inputs, absent, packages, anyName }: StepTrace): Digest {
    const hash = createHash("sha256");
    for (const path of inputs.toSorted()) hash.update(`\n${path} ${this.#entry(path)}`);
    for (const path of absent.toSorted()) hash.update(`\n${path} ${this.#entry(path)}`);
    for (const path of packages.toSorted()) hash.update(`\n${path} ${this.#package(path)}`);
    if (anyName) hash.update(`\n${(this.#names ??= digestOf(this.#walk("", (name) => name === "node_modules").join("\n")))}`);
    return hash.digest("hex");
  }

  /** What is there: a file's content and whether it may run, where a link leads, a directory, or nothing. */
  #entry(path: string): string {
    let entry = this.#entries.get(path);
    if (entry === undefined) this.#entries.set(path, (entry = describe(join(this.#top, path))));
    return entry;
  }

  #package(path: string): string {
    let digest = this.#packages.get(path);
    if (digest !== undefined) return digest;
    const own = this.#entry(path);
    const files = own === "directory" ? this.#walk(path, (name) => name === "node_modules" || name === ".cache") : [];
    digest = digestOf([own, ...files.map((file) => `${file} ${this.#entry(file)}`)].join("\n"));
    this.#packages.set(path, digest);
    return digest;
  }

  /** Sorted paths of all files and links below a directory. */
  #walk(directory: string, isLeftOut: (name: string) => boolean): readonly string[] {
    const found: string[] = [];
    for (const entry of readdirSync(join(this.#top, directory), { withFileTypes: true })) {
      if (isLeftOut(entry.name) || entry.name === ".git" || entry.name === ".vercel") continue;
      const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
      if (entry.isDirectory()) found.push(...this.#walk(path, isLeftOut));
      else found.push(path);
    }
    return found.sort();
  }
}

function describe(path: string): string {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return "nothing";
  if (stats.isSymbolicLink()) return `link ${readlinkSync(path)}`;
  if (!stats.isFile()) return "directory";
  return `${(stats.mode & 0o100) === 0 ? "file" : "program"} ${digestOf(readFileSync(path))}`;
}

function digestOf(bytes: string | Uint8Array): Digest {
  return createHash("sha256").update(bytes).digest("hex");
}
