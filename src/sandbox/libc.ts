/** The few system calls that Node has no name for, through koffi. attach-worker.js has those that need a thread of their own. */
import koffi from "koffi";

const LOCK_EX = 2;
const LOCK_NB = 4;
const O_CLOEXEC = 0o2000000;
const CLOSE_RANGE_CLOEXEC = 4;
const SYS_close_range = 436;

// Looked up at the first call: this file is loaded on systems whose C library lacks some of them.
let loaded: ReturnType<typeof load> | undefined;
function load() {
  const libc = koffi.load(null);
  return {
    flock: libc.func("int flock(int, int)") as (descriptor: number, operation: number) => number,
    pipe2: libc.func("int pipe2(_Out_ int *, int)") as (descriptors: number[], flags: number) => number,
    /** The wrapper is missing from C libraries before 2021. */
    closeRange: libc.func("long syscall(long, unsigned int, unsigned int, unsigned int)") as (...numbers: number[]) => number,
  };
}
const libc = (): ReturnType<typeof load> => (loaded ??= load());

/** Whether the lock on an open file is ours now. It lasts until the descriptor is closed, at the latest by the process's end. */
export function tryLock(descriptor: number): boolean {
  return libc().flock(descriptor, LOCK_EX | LOCK_NB) === 0;
}

/** A pipe. Node's spawn makes socket pairs instead, which a guest cannot open again by /dev/stdout. */
export function openPipe(): { readonly read: number; readonly write: number } {
  const descriptors = [-1, -1];
  if (libc().pipe2(descriptors, O_CLOEXEC) !== 0) throw new Error(`pipe2: errno ${koffi.errno()}`);
  const [read = -1, write = -1] = descriptors;
  return { read, write };
}

/**
 * Keeps descriptors that this process was started with (a shell's, a supervisor's) from the programs that it starts. What
 * Node opens is kept anyway. Linux 5.11 and later.
 */
export function keepDescriptors(): void {
  if (libc().closeRange(SYS_close_range, 3, 0xffffffff, CLOSE_RANGE_CLOEXEC) !== 0) throw new Error(`close_range: errno ${koffi.errno()}`);
}
