/**
 * Which files several Functions of a build have in common: files that are in the bundles of exactly the same Functions are
 * one share. Pure. Invariant: every member of a share has all of its files, the same ones, at the same paths.
 */
import type { FunctionFiles } from "./function-directory.ts";

export interface Share<Member> {
  /** Two or more. */
  readonly members: readonly Member[];
  /** Paths in the bundle. */
  readonly files: readonly string[];
  /** Of all its files. */
  readonly weight: number;
}

/**
 * @param weigh how much a file counts
 * @param weightMin of a share
 */
export function findShares<Member extends { readonly files: FunctionFiles }>(
  members: readonly Member[],
  weigh: (path: string, member: Member) => number,
  weightMin: number,
): readonly Share<Member>[] {
  // A file is one of the project, or bytes that a builder made: the same bytes, when they are the same value.
  const holders = new Map<string, Map<unknown, number[]>>();
  for (const [index, { files }] of members.entries()) {
    for (const [path, file] of files) {
      const versions = holders.get(path) ?? new Map<unknown, number[]>();
      holders.set(path, versions);
      const version = typeof file === "string" ? `\0${file}` : file.data;
      const held = versions.get(version);
      if (held === undefined) versions.set(version, [index]);
      else held.push(index);
    }
  }
  const shares = new Map<string, { readonly members: readonly Member[]; readonly files: string[]; weight: number }>();
  for (const [path, versions] of holders) {
    for (const held of versions.values()) {
      if (held.length < 2) continue;
      const key = held.join();
      const share = shares.get(key) ?? { members: held.map((index) => members[index]!), files: [], weight: 0 };
      shares.set(key, share);
      share.files.push(path);
      share.weight += weigh(path, members[held[0]!]!);
    }
  }
  return [...shares.values()].filter(({ weight }) => weight >= weightMin);
}
