/**
 * Mounts host directories into the mount namespaces of running guests, by system calls (koffi): a private, read-only clone
 * of the directory's mount, moved to its place inside. Nothing remains on the host, and the mount dies with the guest. It
 * runs as a thread of root's, or as a process in a user namespace that guests' namespaces descend from. Only this thread
 * ever changes namespace; when it cannot come back it ends, and so the platform knows.
 */
import { closeSync, openSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import koffi from "koffi";

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;
const MOUNT_ATTR_RDONLY = 1n;
const MOUNT_ATTR_NOSUID = 2n;
const MOUNT_ATTR_NODEV = 4n;
const RLIMIT_CORE = 4;
const RLIMIT_NPROC = 6;
const RLIMIT_NOFILE = 7;
const MS_NOSUID_NODEV_REMOUNT = 0x2 | 0x4 | 0x20;

const libc = koffi.load(null);
const openTree = libc.func("int open_tree(int, const char *, unsigned int)");
const mountSetattr = libc.func("int mount_setattr(int, const char *, unsigned int, void *, size_t)");
const moveMount = libc.func("int move_mount(int, const char *, int, const char *, unsigned int)");
const mount = libc.func("int mount(const char *, const char *, const char *, unsigned long, const char *)");
const prlimit64 = libc.func("int prlimit64(int, int, const void *, void *)");
const setns = libc.func("int setns(int, int)");
const unshare = libc.func("int unshare(int)");
const close = libc.func("int close(int)");

/** struct mount_attr: attr_set, attr_clr, propagation, userns_fd. */
const attributes = Buffer.alloc(32);
attributes.writeBigUInt64LE(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);

/**
 * Guests that were made known by `hold`, as a process has no descriptors of the platform's.
 * @type {Map<string, number>}
 */
const held = new Map();

/**
 * @param {string} call
 * @param {number} result
 */
function check(call, result) {
  if (result < 0) throw new Error(`${call}: errno ${koffi.errno()}`);
  return result;
}

/**
 * @param {string | number} guest
 * @param {() => void} work
 */
function inside(guest, work) {
  const namespace = typeof guest === "number" ? guest : held.get(guest);
  if (namespace === undefined) throw new Error(`The guest ${guest} is not known.`);
  check("setns", setns(namespace, CLONE_NEWNS));
  try {
    work();
  } finally {
    if (setns(home, CLONE_NEWNS) < 0) process.exit(1);
  }
}

/** What may be asked for. */
const orders = {
  /** @param {{ guest: string | number, mounts: { source: string, target: string }[] }} order each later one may lie in an earlier one */
  attach({ guest, mounts }) {
    /** @type {{ clone: number, target: string }[]} */
    const clones = [];
    try {
      for (const { source, target } of mounts) {
        const clone = check("open_tree", openTree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
        clones.push({ clone, target });
        check("mount_setattr", mountSetattr(clone, "", AT_EMPTY_PATH, attributes, attributes.length));
      }
      inside(guest, () => {
        for (const { clone, target } of clones) check("move_mount", moveMount(clone, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
      });
    } finally {
      for (const { clone } of clones) close(clone);
    }
  },

  /**
   * Bounds a guest that waits for its start: the files of file systems in memory; open files, core dumps and processes.
   * @param {{ guest: string, pid: number, filesMax: Record<string, number>, openFilesMax: number, processesMax: number }} order
   */
  limit({ guest, pid, filesMax, openFilesMax, processesMax }) {
    inside(guest, () => {
      for (const [target, count] of Object.entries(filesMax)) {
        check("mount", mount(null, target, null, MS_NOSUID_NODEV_REMOUNT, `nr_inodes=${count}`));
      }
    });
    for (const [resource, value] of /** @type {const} */ ([
      [RLIMIT_CORE, 0],
      [RLIMIT_NPROC, processesMax],
      [RLIMIT_NOFILE, openFilesMax],
    ])) {
      // struct rlimit64: what holds, and what may be set.
      const limit = new BigUint64Array([BigInt(value), BigInt(value)]);
      check("prlimit64", prlimit64(pid, resource, limit, null));
    }
  },

  /** @param {{ guest: string, pid: number }} order */
  hold({ guest, pid }) {
    held.set(guest, openSync(`/proc/${pid}/ns/mnt`, "r"));
  },

  /** @param {{ guest: string }} order */
  release({ guest }) {
    const namespace = held.get(guest);
    held.delete(guest);
    if (namespace !== undefined) closeSync(namespace);
  },
};

// A namespace of mounts can be entered only with a working directory and root that no other thread shares.
check("unshare", unshare(CLONE_FS));
const home = openSync("/proc/thread-self/ns/mnt", "r");

const port = parentPort;
/** @param {object} message */
const answer = (message) => (port === null ? process.send?.(message) : port.postMessage(message));
(port ?? process).on("message", (/** @type {any} */ { serial, name, order }) => {
  try {
    orders[/** @type {keyof typeof orders} */ (name)](order);
    answer({ serial });
  } catch (error) {
    answer({ serial, error: error instanceof Error ? error.message : String(error) });
  }
});
if (port === null) process.on("disconnect", () => process.exit());
