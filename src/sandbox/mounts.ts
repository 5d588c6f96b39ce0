/** What a driver with file isolation checks and prepares on the host before it mounts what a spec asks for. */
import { lchownSync, lstatSync, readdirSync } from "node:fs";
import { mkdir, realpath, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { runCommand } from "./command.ts";
import type { SandboxMount, SandboxSpec } from "./sandbox.ts";

const isBelow = (path: string, place: string): boolean => path === place || path.startsWith(`${place}/`);

/** A runtime would make a working directory that is not there, in the root file system that all guests share. */
export async function checkWorkingDirectory(spec: SandboxSpec, rootfs: string): Promise<void> {
  if (isBelow(spec.cwd, "/tmp") || spec.mounts.some((mount) => isBelow(spec.cwd, mount.target))) return;
  const info = await stat(join(rootfs, spec.cwd)).catch(() => undefined);
  if (info?.isDirectory() !== true) throw new Error(`The working directory ${spec.cwd} does not exist.`);
}

/** Gives the trees of writable mounts to the guest's user: the entries themselves, never what a symlink points to. */
export async function giveWritableMounts(spec: SandboxSpec, userId: number): Promise<void> {
  for (const mount of spec.mounts) {
    if (!mount.writable) continue;
    const source = resolve(mount.source);
    if (!(await stat(source)).isDirectory()) throw new Error(`The writable mount "${source}" is not a directory.`);
    if (!giveSmallTree(source, userId)) await runCommand("chown", ["-R", "-P", "--no-dereference", `${userId}:${userId}`, "--", source]);
  }
}

/** To start a program takes longer than to do its work on so many entries. */
const smallTreeMax = 500;

/** Gives a tree away in one go. @returns whether all of it was; a larger one is given in part */
function giveSmallTree(root: string, userId: number): boolean {
  const waiting = [root];
  let count = 0;
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (++count > smallTreeMax) return false;
    lchownSync(path, userId, userId);
    if (!lstatSync(path).isDirectory()) continue;
    for (const name of readdirSync(path)) waiting.push(join(path, name));
  }
  return true;
}

/** Makes the places of a spec's mounts in the root file system, for a driver whose program finds it read-only. */
export async function makeMountPoints(mounts: readonly SandboxMount[], rootfs: string): Promise<void> {
  const covered = ["/tmp", "/dev", "/proc"];
  for (const { source, target } of mounts) {
    const isCovered = covered.some((place) => isBelow(target, place));
    covered.push(target);
    const point = join(rootfs, target);
    if (isCovered || (await stat(point).catch(() => undefined)) !== undefined) continue;
    const isDirectory = (await stat(source)).isDirectory();
    // The nearest directory that is there may be a symlink: /var/tmp is one, to the host's /tmp from here.
    let parent = dirname(point);
    while ((await realpath(parent).catch(() => undefined)) === undefined) parent = dirname(parent);
    if (!isBelow(await realpath(parent), await realpath(rootfs))) throw new Error(`${target} is no place for a mount.`);
    await mkdir(isDirectory ? point : dirname(point), { recursive: true, mode: 0o755 });
    if (!isDirectory) await writeFile(point, "", { flag: "a" });
  }
}
