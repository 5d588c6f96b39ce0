/**
 * What system calls a guest may not make, in two forms: `linux.seccomp` of an OCI bundle, and the kernel's own program for
 * whoever loads it directly. A deny list, so that native addons nobody has thought of still run; the empty capability sets
 * and the namespaces stand behind it.
 */

/**
 * Fail with EPERM: they change mounts, namespaces, other processes, the clock, the kernel or its keys.
 * `name:number on x64:number on arm64`, without the numbers that an architecture does not have.
 */
const denied = [
  ..."mount:165:40 umount umount2:166:39 pivot_root:155:41 chroot:161:51 open_tree:428:428 open_tree_attr:467:467".split(" "),
  ..."move_mount:429:429 mount_setattr:442:442 fsopen:430:430 fsconfig:431:431 fsmount:432:432 fspick:433:433".split(" "),
  ..."setns:308:268 unshare:272:97 ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271".split(" "),
  ..."process_madvise:440:440 pidfd_getfd:438:438 kcmp:312:272 bpf:321:280 perf_event_open:298:241".split(" "),
  ..."userfaultfd:323:282 io_uring_setup:425:425 io_uring_enter:426:426 io_uring_register:427:427".split(" "),
  ..."memfd_secret:447:447 add_key:248:217 keyctl:250:219 request_key:249:218 kexec_load:246:104".split(" "),
  ..."kexec_file_load:320:294 init_module:175:105 finit_module:313:273 delete_module:176:106 create_module:174:".split(" "),
  ..."query_module:178: reboot:169:142 swapon:167:224 swapoff:168:225 acct:163:89 quotactl:179:60".split(" "),
  ..."quotactl_fd:443:443 syslog:103:116 vhangup:153:58 sysfs:139: uselib:134: ustat:136: settimeofday:164:170".split(" "),
  ..."stime clock_settime:227:112 clock_settime64 clock_adjtime:305:266 clock_adjtime64 adjtimex:159:171".split(" "),
  ..."sethostname:170:161 setdomainname:171:162 personality:135:92 modify_ldt:154: iopl:172: ioperm:173:".split(" "),
  ..."_sysctl:156: get_kernel_syms:177: open_by_handle_at:304:265 name_to_handle_at:303:264".split(" "),
  ..."lookup_dcookie:212:18 nfsservctl:180:42 fanotify_init:300:262 mbind:237:235 set_mempolicy:238:237".split(" "),
  ..."set_mempolicy_home_node:450:450 migrate_pages:256:238 move_pages:279:239".split(" "),
].map((entry) => {
  const [name = "", x64 = "", arm64 = ""] = entry.split(":");
  const number = (text: string): number | null => (text === "" ? null : Number(text));
  return { name, x64: number(x64), arm64: number(arm64) };
});

/** Their numbers are needed only where their arguments are judged. */
const judged = {
  x64: { clone: 56, clone3: 435, ioctl: 16, socket: 41 },
  arm64: { clone: 220, clone3: 435, ioctl: 29, socket: 198 },
};

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const namespaceFlags = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000];

/** AF_UNIX 1, AF_INET 2, AF_INET6 10 and AF_NETLINK 16 (os.networkInterfaces) stay; packet, vsock, alg and all others go. */
const allowedSocketFamilies = [1, 2, 10, 16];
const firstSocketFamilyBeyond = 17;

/** TIOCSTI and TIOCLINUX type into a terminal. */
const deniedIoctls = [0x5412, 0x541c];
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;
/** Later calls are refused by number: who wrote this list has not seen them. */
const firstUnknownCall = 470;

/** The value of `linux.seccomp`. Calls of a foreign architecture (32-bit, x32) kill the process. */
export function seccompPolicy(): object {
  const refuse = (names: readonly string[], errnoRet: number, ...args: object[]) => ({
    names,
    action: "SCMP_ACT_ERRNO",
    errnoRet,
    ...(args.length > 0 && { args }),
  });
  // The kernel reads 32 bits of these arguments, so what is above them must not hide the rest.
  const low32 = (index: number, value: number) => ({ index, value: 0xffffffff, valueTwo: value, op: "SCMP_CMP_MASKED_EQ" });
  const deniedFamilies = Array.from({ length: firstSocketFamilyBeyond }, (_, family) => family).filter(
    (family) => !allowedSocketFamilies.includes(family),
  );
  return {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures: [process.arch === "arm64" ? "SCMP_ARCH_AARCH64" : "SCMP_ARCH_X86_64"],
    syscalls: [
      refuse(
        denied.map(({ name }) => name),
        EPERM,
      ),
      // Its flags lie in memory, where a filter cannot look; C libraries then take clone, whose flags can be judged.
      refuse(["clone3"], ENOSYS),
      ...namespaceFlags.map((flag) => refuse(["clone"], EPERM, { index: 0, value: flag, valueTwo: flag, op: "SCMP_CMP_MASKED_EQ" })),
      ...deniedIoctls.map((call) => refuse(["ioctl"], EPERM, low32(1, call))),
      ...deniedFamilies.map((family) => refuse(["socket"], EAFNOSUPPORT, low32(0, family))),
      refuse(["socket"], EAFNOSUPPORT, { index: 0, value: firstSocketFamilyBeyond, op: "SCMP_CMP_GE" }),
    ],
  };
}

/** The same policy, and ENOSYS for calls newer than it, as a program of classic BPF (seccomp(2)), for this architecture. */
export function seccompProgram(arch: "x64" | "arm64" = process.arch === "arm64" ? "arm64" : "x64"): Buffer {
  const load = (offset: number): Instruction => [0x20, 0, 0, offset];
  const equal = (value: number, yes: number, no: number): Instruction => [0x15, yes, no, value];
  const atLeast = (value: number, yes: number, no: number): Instruction => [0x35, yes, no, value];
  const anyBit = (mask: number, yes: number, no: number): Instruction => [0x45, yes, no, mask];
  const give = (action: number): Instruction => [0x06, 0, 0, action];
  const allow = give(0x7fff0000);
  const fail = (errno: number): Instruction => give(0x00050000 | errno);
  const killProcess = give(0x80000000);
  // Of struct seccomp_data: number at 0, architecture at 4, arguments of eight bytes from 16 on, their lower half first.
  const argument = (index: number): Instruction => load(16 + 8 * index);
  const numbers = judged[arch];
  const program: Instruction[] = [
    load(4),
    equal(arch === "arm64" ? 0xc00000b7 : 0xc000003e, 1, 0),
    killProcess,
    load(0),
    // The x32 calls lie here, too.
    atLeast(firstUnknownCall, 0, 1),
    fail(ENOSYS),
    equal(numbers.clone3, 0, 1),
    fail(ENOSYS),
  ];
  for (const call of denied) {
    const number = call[arch];
    if (number !== null) program.push(equal(number, 0, 1), fail(EPERM));
  }
  const judge = (number: number, ...instructions: Instruction[]): void => {
    program.push(equal(number, 0, instructions.length), ...instructions);
  };
  const anyNamespace = namespaceFlags.reduce((all, flag) => all | flag, 0);
  judge(numbers.clone, argument(0), anyBit(anyNamespace, 0, 1), fail(EPERM), allow);
  judge(numbers.ioctl, argument(1), ...deniedIoctls.flatMap((call) => [equal(call, 0, 1), fail(EPERM)]), allow);
  judge(numbers.socket, argument(0), ...allowedSocketFamilies.flatMap((family) => [equal(family, 0, 1), allow]), fail(EAFNOSUPPORT));
  program.push(allow);
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, [code, yes, no, value]] of program.entries()) {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(yes, index * 8 + 2);
    bytes.writeUInt8(no, index * 8 + 3);
    bytes.writeUInt32LE(value >>> 0, index * 8 + 4);
  }
  return bytes;
}

/** Code, how many to skip if true, if false, value (struct sock_filter). */
type Instruction = readonly [number, number, number, number];

/** For tests: what the tables say, to be held against the kernel's headers. */
export const seccompNumbers = { denied, judged };
