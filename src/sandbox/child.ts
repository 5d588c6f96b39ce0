/**
 * Starts the host's programs by `posix_spawn`, on another thread. Node's own spawn forks: the kernel copies the page tables of
 * the data plane, for 2 to 14 ms in which every request waits. Hides the C structures and who reaps. Invariants: a child gets
 * the descriptors that it is given, no other, and no signal's treatment of ours; each is reaped, and killed when it takes too long.
 */
import { constants } from "node:os";
import koffi from "koffi";

export interface ChildOptions {
  /** Absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Descriptors of ours that become 0, 1, 2, … of the child; null: nothing is there to be read or kept. They stay ours to close. */
  readonly descriptors: readonly (number | null)[];
  /** It is killed after so long. */
  readonly msMax: number;
}

/** How a child has ended: one of the two. */
export interface ChildEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface Child {
  readonly pid: number;
  /** Never rejects. */
  readonly ended: Promise<ChildEnd>;
  kill(): void;
}

const POSIX_SPAWN_SETSIGDEF = 4;
const POSIX_SPAWN_SETSIGMASK = 8;
const F_DUPFD_CLOEXEC = 1030;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const O_RDWR = 2;
const WNOHANG = 1;
/** Larger than any C library's structures for attributes, file actions and signal sets. */
const structBytes = 1024;

type Spawned = (error: Error | null, errno: number) => void;
type Spawn = { async(...args: [...unknown[], Spawned]): void };

// Looked up at the first call: this file is loaded on systems whose C library lacks some of them.
let loaded: ReturnType<typeof load> | undefined;
function load() {
  const libc = koffi.load(null);
  return {
    spawn: libc.func("int posix_spawn(_Out_ int *, const char *, void *, void *, const char **, const char **)") as unknown as Spawn,
    initActions: libc.func("int posix_spawn_file_actions_init(void *)") as (actions: Buffer) => number,
    addDuplicate: libc.func("int posix_spawn_file_actions_adddup2(void *, int, int)") as (
      actions: Buffer,
      from: number,
      to: number,
    ) => number,
    addOpen: libc.func("int posix_spawn_file_actions_addopen(void *, int, const char *, int, unsigned int)") as (
      actions: Buffer,
      descriptor: number,
      path: string,
      flags: number,
      mode: number,
    ) => number,
    destroyActions: libc.func("int posix_spawn_file_actions_destroy(void *)") as (actions: Buffer) => number,
    initAttributes: libc.func("int posix_spawnattr_init(void *)") as (attributes: Buffer) => number,
    setFlags: libc.func("int posix_spawnattr_setflags(void *, short)") as (attributes: Buffer, flags: number) => number,
    setDefaults: libc.func("int posix_spawnattr_setsigdefault(void *, void *)") as (attributes: Buffer, signals: Buffer) => number,
    setMask: libc.func("int posix_spawnattr_setsigmask(void *, void *)") as (attributes: Buffer, signals: Buffer) => number,
    waitpid: libc.func("int waitpid(int, _Out_ int *, int)") as (pid: number, status: number[], options: number) => number,
    fcntl: libc.func("int fcntl(int, int, int)") as (descriptor: number, command: number, argument: number) => number,
    close: libc.func("int close(int)") as (descriptor: number) => number,
    socketpair: libc.func("int socketpair(int, int, int, _Out_ int *)") as (...args: [number, number, number, number[]]) => number,
  };
}
const libc = (): ReturnType<typeof load> => (loaded ??= load());

/** Two sockets that are connected: what a child gets, and what is read and written here. */
export function openSocketPair(): { readonly ours: number; readonly theirs: number } {
  const pair = [-1, -1];
  if (libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) throw new Error(`socketpair: errno ${koffi.errno()}`);
  const [ours = -1, theirs = -1] = pair;
  return { ours, theirs };
}

/**
 * Resolves when the program runs: the descriptors may then be closed here.
 * @throws Error that names the program, when it cannot be run
 */
export async function startChild({ program, args, env, descriptors, msMax }: ChildOptions): Promise<Child> {
  const { spawn, initActions, addDuplicate, addOpen, destroyActions, initAttributes, setFlags, setDefaults, setMask, fcntl, close } =
    libc();
  const actions = Buffer.alloc(structBytes);
  const attributes = Buffer.alloc(structBytes);
  initActions(actions);
  initAttributes(attributes);
  setFlags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  // All signals: Node ignores one, and what is ignored stays so in the child.
  setDefaults(attributes, Buffer.alloc(structBytes, 0xff));
  setMask(attributes, Buffer.alloc(structBytes));
  const moved: number[] = [];
  for (const [target, descriptor] of descriptors.entries()) {
    if (descriptor === null) {
      addOpen(actions, target, "/dev/null", O_RDWR, 0);
      continue;
    }
    let from = descriptor;
    // One that an earlier action would overwrite.
    if (from < descriptors.length) moved.push((from = fcntl(from, F_DUPFD_CLOEXEC, descriptors.length)));
    addDuplicate(actions, from, target);
  }
  const pid = [0];
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  try {
    const errno = await new Promise<number>((resolve, reject) => {
      const done: Spawned = (error, result) => (error === null ? resolve(result) : reject(error));
      spawn.async(pid, program, actions, attributes, [program, ...args, null], [...variables, null], done);
    });
    if (errno !== 0) throw new Error(`Cannot run ${program}: ${nameOf(constants.errno, errno)}`);
  } finally {
    destroyActions(actions);
    for (const descriptor of moved) close(descriptor);
  }
  return reaper.take(pid[0]!, msMax);
}

/** Waits for children that Node does not know of. */
class Reaper {
  readonly #children = new Map<number, (end: ChildEnd) => void>();

  take(pid: number, msMax: number): Child {
    const { promise: ended, resolve } = Promise.withResolvers<ChildEnd>();
    const kill = (): void => {
      // Its number is nobody else's before it is reaped.
      if (this.#children.has(pid)) process.kill(pid, "SIGKILL");
    };
    const timer = setTimeout(kill, msMax);
    if (this.#children.size === 0) process.on("SIGCHLD", this.#look);
    this.#children.set(pid, (end) => {
      clearTimeout(timer);
      resolve(end);
    });
    // It may have been quick.
    this.#look();
    return { pid, ended, kill };
  }

  readonly #look = (): void => {
    for (const [pid, tell] of this.#children) {
      const status = [0];
      if (libc().waitpid(pid, status, WNOHANG) === 0) continue;
      this.#children.delete(pid);
      const signal = status[0]! & 0x7f;
      tell(signal === 0 ? { code: (status[0]! >> 8) & 0xff, signal: null } : { code: null, signal: nameOf(constants.signals, signal) });
    }
    if (this.#children.size === 0) process.off("SIGCHLD", this.#look);
  };
}

const reaper = new Reaper();

function nameOf(table: object, number: number): string {
  return Object.entries(table).find(([, value]) => value === number)?.[0] ?? String(number);
}
