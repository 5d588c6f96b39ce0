/**
 * The root file system of every guest, made once from the host's own files: a shell, the usual small tools, what they
 * link to, and Node. Hides how that is found out. Invariant: a directory below `rootfs/` whose name is a hash is
 * complete, since it was renamed into place, and nothing but mount points is added to it; two processes may make it at once.
 */
import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, chmod, copyFile, link, mkdir, readdir, realpath, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoOf, MayflyError, messageOf } from "../errors.ts";
import { findProgram, runCommand } from "./command.ts";

/** To be raised when this file makes something else of the same inputs. */
const version = 1;

/** Guest path of Node. */
export const guestNode = "/var/lang/bin/node";

/** Without these there is no guest. */
const requiredTools = ["sh", "env", "cat", "true"];
const tools = [
  ...requiredTools,
  ..."bash basename base64 chmod cp cut date dd df dirname du echo expr false head id".split(" "),
  ..."ln ls md5sum mkdir mkfifo mktemp mv nohup nproc printf pwd readlink realpath rm rmdir".split(" "),
  ..."seq sha1sum sha256sum sleep sort stat tail tee test [ timeout touch tr tty uname".split(" "),
  ..."uniq wc whoami yes awk find xargs grep sed diff tar gzip gunzip xz unzip ps".split(" "),
  ..."kill setsid hostname getent ldd openssl which".split(" "),
];
/** What native addons and the C library load at run time, without saying so in their headers. */
const libraries = [
  ..."libssl.so.3 libcrypto.so.3 libz.so.1 libresolv.so.2 libnss_dns.so.2 libnss_files.so.2".split(" "),
  ..."libgcc_s.so.1 libstdc++.so.6 libatomic.so.1 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 libanl.so.1".split(" "),
];
const libraryDirectories = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64", "/lib"];
const certificateBundles = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
const verbatim = ["/etc/services", "/etc/protocols"];
/** Mount points: code and the platform's runtime at attach, the others for whoever needs a place. */
const emptyDirectories = [
  ..."proc sys dev tmp run home root opt mnt etc usr/bin usr/sbin usr/lib usr/lib64".split(" "),
  ..."var/task var/runtime var/cache var/lang/bin var/lang/lib".split(" "),
];
const textFiles: Readonly<Record<string, string>> = {
  "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "etc/os-release": 'NAME="Mayfly"\nID=mayfly\nPRETTY_NAME="Mayfly sandbox"\n',
  // The driver binds each guest's own over these.
  "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
  "etc/group": "root:x:0:\n",
  "etc/resolv.conf": "",
};

/**
 * Makes the root file system unless it is there.
 * @returns its host path, below `<dataDirectory>/rootfs`
 * @throws MayflyError sandbox_unavailable
 */
export async function openRootfs(options: { readonly dataDirectory: string; readonly nodeBinary: string }): Promise<string> {
  const parent = join(options.dataDirectory, "rootfs");
  try {
    const programs = await findTools();
    const directory = join(parent, await hashInputs(programs, options.nodeBinary));
    if (await exists(directory)) return directory;
    await mkdir(parent, { recursive: true });
    await removeAbandoned(parent);
    const making = join(parent, `.making-${process.pid}-${randomBytes(4).toString("hex")}`);
    try {
      await make(making, programs, options.nodeBinary);
      await rename(making, directory);
    } catch (error) {
      await rm(making, { recursive: true, force: true });
      // Another process was first; its result is as good.
      if (!["ENOTEMPTY", "EEXIST"].includes(errnoOf(error) ?? "")) throw error;
    }
    return directory;
  } catch (error) {
    throw new MayflyError("sandbox_unavailable", `The sandboxes' root file system could not be made: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Name → host path of the tools that the host has. */
async function findTools(): Promise<ReadonlyMap<string, string>> {
  const programs = new Map<string, string>();
  for (const name of tools) {
    const path = await findProgram(name);
    if (path !== null) programs.set(name, path);
  }
  const missing = requiredTools.filter((name) => !programs.has(name));
  if (missing.length > 0) throw new Error(`The host has no ${missing.join(", ")}.`);
  return programs;
}

/** What the result depends on; the linker's cache changes whenever a library is installed. */
async function hashInputs(programs: ReadonlyMap<string, string>, nodeBinary: string): Promise<string> {
  const hash = createHash("sha256").update(`${version}\n`);
  const paths = [nodeBinary, "/etc/ld.so.cache", ...certificateBundles, ...verbatim, ...programs.values()];
  for (const path of paths) {
    const info = await stat(path).catch(() => undefined);
    hash.update(`${path} ${info?.size} ${info?.mtimeMs} ${info?.mode}\n`);
  }
  return hash.digest("hex").slice(0, 32);
}

async function make(root: string, programs: ReadonlyMap<string, string>, nodeBinary: string): Promise<void> {
  for (const directory of emptyDirectories) await mkdir(join(root, directory), { recursive: true, mode: 0o755 });
  await chmod(join(root, "tmp"), 0o1777);
  for (const name of ["bin", "sbin", "lib", "lib64"]) await symlink(`usr/${name}`, join(root, name));
  await symlink("/tmp", join(root, "var/tmp"));
  await symlink("/proc/self/mounts", join(root, "etc/mtab"));
  for (const [path, text] of Object.entries(textFiles)) await writeFile(join(root, path), text);

  const linked = new Set<string>([nodeBinary]);
  const done = new Set<string>();
  for (const [name, path] of programs) {
    await copyOnce(path, join(root, "usr/bin", name), done);
    linked.add(path);
  }
  for (const name of libraries) {
    const path = await firstThatExists(libraryDirectories.map((directory) => join(directory, name)));
    if (path === null) continue;
    await copyOnce(path, join(root, merged(path)), done);
    linked.add(path);
  }
  for (const path of await linkedLibraries([...linked])) await copyOnce(path, join(root, merged(path)), done);
  for (const path of verbatim) if (await exists(path)) await copyOnce(path, join(root, path), done);
  await placeNode(nodeBinary, join(root, guestNode));

  const bundle = await firstThatExists(certificateBundles);
  if (bundle !== null) {
    for (const path of ["etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt"])
      await copyOnce(bundle, join(root, path), done);
    await symlink("certs/ca-certificates.crt", join(root, "etc/ssl/cert.pem"));
  }
  if (await exists("/usr/share/zoneinfo")) {
    await mkdir(join(root, "usr/share/zoneinfo"), { recursive: true });
    // Two copies of everything in it are for other ways to count leap seconds.
    const regions = (await readdir("/usr/share/zoneinfo")).filter((name) => name !== "right" && name !== "posix");
    const sources = regions.map((name) => join("/usr/share/zoneinfo", name));
    await runCommand("cp", ["-R", "-P", "--", ...sources, join(root, "usr/share/zoneinfo")]);
  }
}

/** Paths of all shared libraries that the programs and libraries load: what ldd prints, without its three processes for each file. */
async function linkedLibraries(paths: readonly string[]): Promise<ReadonlySet<string>> {
  const loader = process.arch === "arm64" ? "/lib/ld-linux-aarch64.so.1" : "/lib64/ld-linux-x86-64.so.2";
  if (!(await exists(loader))) throw new Error(`The host has no ${loader} (glibc).`);
  // Of scripts and static programs the loader lists nothing.
  const script = 'for file do "$0" --list "$file" 2>/dev/null; done; true';
  const output = await runCommand("sh", ["-c", script, loader, ...paths]);
  return new Set([loader, ...[...output.matchAll(/=> (\/\S+) \(0x/g)].map((match) => match[1] ?? "")]);
}

/** `/lib/…` and `/lib64/…` are symlinks into /usr here, whatever they are on the host. */
const merged = (path: string): string => path.replace(/^\/(lib|lib64)\//, "/usr/$1/");

async function copyOnce(source: string, target: string, done: Set<string>): Promise<void> {
  if (done.has(target)) return;
  done.add(target);
  await mkdir(dirname(target), { recursive: true });
  const real = await realpath(source);
  await copyFile(real, target, constants.COPYFILE_FICLONE);
  // Without set-user-id bits; readable by every guest.
  const { mode } = await stat(real);
  await chmod(target, (mode & 0o111) === 0 ? 0o644 : 0o755);
}

/** A hard link, where that is possible: 120 MB less, and its pages are shared with the platform's own. */
async function placeNode(source: string, target: string): Promise<void> {
  const real = await realpath(source);
  if (((await stat(real)).mode & 0o005) === 0o005) {
    try {
      await link(real, target);
      return;
    } catch {
      // another file system
    }
  }
  await copyFile(real, target, constants.COPYFILE_FICLONE);
  await chmod(target, 0o755);
}

/** What processes that are gone were making. */
async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = /^\.making-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !(await exists(`/proc/${pid}`))) await rm(join(parent, name), { recursive: true, force: true });
  }
}

async function firstThatExists(paths: readonly string[]): Promise<string | null> {
  for (const path of paths) if (await exists(path)) return path;
  return null;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
