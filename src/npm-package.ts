/**
 * Fetches one package from the npm registry with the host's npm, without running any of its scripts. For what the
 * platform itself needs at run time: Node binaries, package managers. Nothing is kept: the caller gives the place.
 */
import { execFile } from "node:child_process";
import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export interface NpmPackageOptions {
  /** Of the package, `name@version`. */
  readonly spec: string;
  /** A directory of the caller's, made when absent; the package comes to be at `node_modules/<name>` below it. */
  readonly directory: string;
  /** Empty: npm's own setting. */
  readonly registry: string;
  readonly msMax: number;
  readonly signal?: AbortSignal;
}

const authorities = "/etc/ssl/certs/ca-certificates.crt";

/** @throws Error with what npm said */
export async function fetchNpmPackage({ spec, directory, registry, msMax, signal }: NpmPackageOptions): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "package.json"), "{}");
  const hasAuthorities = await access(authorities).then(
    () => true,
    () => false,
  );
  await promisify(execFile)(
    "npm",
    [
      "install",
      // Not the project that `npm start` runs in.
      `--prefix=${directory}`,
      "--ignore-scripts",
      "--no-audit",
      "--no-fund",
      "--no-save",
      "--no-package-lock",
      // Somebody waits: a registry that does not answer is to be known in seconds, not in a minute.
      "--fetch-retries=2",
      "--fetch-retry-mintimeout=500",
      "--fetch-retry-maxtimeout=2000",
      "--force", // a package for another libc or processor variant is still the one asked for
      ...(registry === "" ? [] : [`--registry=${registry}`]),
      // With a prefix npm does not read the machine's npmrc, which may name the authorities that the machine trusts.
      ...(hasAuthorities ? [`--cafile=${authorities}`] : []),
      spec,
    ],
    { cwd: directory, timeout: msMax, maxBuffer: 8 * 1024 * 1024, ...(signal === undefined ? {} : { signal }) },
  );
}
