/*
 * A guest's attempts at what a sandbox must refuse, by raw system calls: one line "name errno" each, errno 0 where the call
 * went through. Compiled and judged by attacks.test.ts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long result) {
  printf("%s %d\n", name, result == -1 ? errno : 0);
  fflush(stdout);
}

#define TRY(name, call) (errno = 0, say(name, (long)(call)))

/* In a child, which may be killed for it: 1000 + signal then. */
static void apart(const char *name, void (*attempt)(void)) {
  pid_t pid = fork();
  if (pid == 0) {
    errno = 0;
    attempt();
    _exit(errno);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  printf("%s %d\n", name, WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status));
  fflush(stdout);
}

static void clone_with(long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, 0L, 0L, 0L, 0L);
  if (pid == 0) _exit(0);
}
static void clone_user(void) { clone_with(CLONE_NEWUSER); }
static void clone_mount(void) { clone_with(CLONE_NEWNS); }
static void clone_all(void) { clone_with(0x7e020000); }
static void unshare_user(void) { syscall(SYS_unshare, CLONE_NEWUSER); }
static void unshare_mount(void) { syscall(SYS_unshare, CLONE_NEWNS); }
static void unshare_net(void) { syscall(SYS_unshare, CLONE_NEWNET); }
static void chroot_tmp(void) { syscall(SYS_chroot, "/tmp"); }
static void traceme(void) { syscall(SYS_ptrace, PTRACE_TRACEME, 0L, 0L, 0L); }
static void personality(void) { syscall(SYS_personality, 0x0040000L); }
static void root_user(void) { syscall(SYS_setuid, 0); }
static void root_group(void) { syscall(SYS_setgid, 0); }
static void root_groups(void) {
  gid_t none = 0;
  syscall(SYS_setgroups, 1, &none);
}
static void more_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_max += 1;
  setrlimit(RLIMIT_NOFILE, &limit);
}
static void more_processes(void) {
  struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
  struct rlimit now;
  getrlimit(RLIMIT_NPROC, &now);
  /* Where another limit counts processes, this one need not be set. */
  if (now.rlim_max == RLIM_INFINITY) errno = EPERM;
  else setrlimit(RLIMIT_NPROC, &limit);
}
#ifdef __x86_64__
static void call_x32(void) { syscall(0x40000000 | SYS_getpid); }
static void call_i386(void) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
}
#endif

int main(void) {
  static char bytes[256];
  struct timespec moment = {1, 0};
  struct timeval second = {1, 0};
  struct {
    const char *base;
    size_t length;
  } vector = {bytes, 1};
  int one = open("/proc/1/ns/net", O_RDONLY);
  int own = open("/proc/self/ns/net", O_RDONLY);

  TRY("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0L, ""));
  TRY("remount", syscall(SYS_mount, "", "/", "", MS_REMOUNT | MS_BIND, ""));
  TRY("umount", syscall(SYS_umount2, "/tmp", MNT_DETACH));
  TRY("pivot_root", syscall(SYS_pivot_root, "/tmp", "/tmp"));
  TRY("open_tree", syscall(428, AT_FDCWD, "/", 1));
  TRY("move_mount", syscall(429, AT_FDCWD, "/tmp", AT_FDCWD, "/mnt", 0));
  TRY("fsopen", syscall(430, "tmpfs", 0));
  TRY("mount_setattr", syscall(442, AT_FDCWD, "/", 0, bytes, 32));
  TRY("setns_first", syscall(SYS_setns, one, 0));
  TRY("setns_own", syscall(SYS_setns, own, CLONE_NEWNET));
  apart("unshare_user", unshare_user);
  apart("unshare_mount", unshare_mount);
  apart("unshare_net", unshare_net);
  apart("clone_user", clone_user);
  apart("clone_mount", clone_mount);
  apart("clone_all", clone_all);
  TRY("clone3", syscall(435, bytes, 88));
  apart("chroot", chroot_tmp);
  apart("ptrace_self", traceme);
  TRY("ptrace_first", syscall(SYS_ptrace, PTRACE_ATTACH, 1L, 0L, 0L));
  TRY("process_vm_readv", syscall(SYS_process_vm_readv, 1, &vector, 1L, &vector, 1L, 0L));
  TRY("process_vm_writev", syscall(SYS_process_vm_writev, 1, &vector, 1L, &vector, 1L, 0L));
  TRY("pidfd_getfd", syscall(438, 0, 0, 0));
  TRY("bpf", syscall(SYS_bpf, 0, bytes, sizeof bytes));
  TRY("perf_event_open", syscall(SYS_perf_event_open, bytes, 0, -1, -1, 0L));
  TRY("io_uring_setup", syscall(425, 4, bytes));
  TRY("userfaultfd", syscall(SYS_userfaultfd, 1));
  TRY("keyctl", syscall(SYS_keyctl, 0L, -3L, 1L));
  TRY("add_key", syscall(SYS_add_key, "user", "x", "x", 1L, -2L));
  TRY("request_key", syscall(SYS_request_key, "user", "x", "", -2L));
  TRY("memfd_secret", syscall(447, 0));
  TRY("mknod_block", syscall(SYS_mknodat, AT_FDCWD, "/tmp/disk", S_IFBLK | 0600, makedev(8, 0)));
  TRY("mknod_memory", syscall(SYS_mknodat, AT_FDCWD, "/tmp/memory", S_IFCHR | 0600, makedev(1, 1)));
  TRY("raw_socket", syscall(SYS_socket, AF_INET, SOCK_RAW, 1));
  TRY("packet_socket", syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0));
  TRY("vsock_socket", syscall(SYS_socket, 40, SOCK_STREAM, 0));
  TRY("alg_socket", syscall(SYS_socket, 38, SOCK_SEQPACKET, 0));
  TRY("bluetooth_socket", syscall(SYS_socket, 31, SOCK_RAW, 1));
  TRY("key_socket", syscall(SYS_socket, 15, SOCK_RAW, 2));
  TRY("x25_socket", syscall(SYS_socket, 9, SOCK_SEQPACKET, 0));
  TRY("packet_socket_in_disguise", syscall(SYS_socket, 0x100000000L | AF_PACKET, SOCK_RAW, 0));
  TRY("x25_socket_in_disguise", syscall(SYS_socket, 0x100000000L | 9, SOCK_SEQPACKET, 0));
  TRY("clock_settime", syscall(SYS_clock_settime, 0, &moment));
  TRY("settimeofday", syscall(SYS_settimeofday, &second, NULL));
  TRY("adjtimex", syscall(SYS_adjtimex, bytes));
  TRY("sethostname", syscall(SYS_sethostname, "x", 1L));
  TRY("setdomainname", syscall(SYS_setdomainname, "x", 1L));
  TRY("swapon", syscall(SYS_swapon, "/tmp/x", 0));
  TRY("swapoff", syscall(SYS_swapoff, "/tmp/x"));
  TRY("init_module", syscall(SYS_init_module, bytes, 1L, ""));
  TRY("finit_module", syscall(SYS_finit_module, 0, "", 0));
  TRY("delete_module", syscall(SYS_delete_module, "x", O_NONBLOCK));
  TRY("kexec_load", syscall(SYS_kexec_load, 0L, 0L, NULL, 0L));
  TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL));
  TRY("acct", syscall(SYS_acct, "/tmp/x"));
  TRY("quotactl", syscall(SYS_quotactl, 0, "/tmp", 0, bytes));
  TRY("syslog", syscall(SYS_syslog, 3, bytes, (long)sizeof bytes));
  TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, bytes, 0));
  TRY("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
  TRY("mbind", syscall(SYS_mbind, bytes, 0L, 0, NULL, 0L, 0));
  TRY("move_pages", syscall(SYS_move_pages, 1, 0L, NULL, NULL, NULL, 0));
  TRY("tiocsti", syscall(SYS_ioctl, 0, 0x5412L, "x"));
  TRY("tiocsti_in_disguise", syscall(SYS_ioctl, 0, 0x100005412L, "x"));
  TRY("tioclinux", syscall(SYS_ioctl, 0, 0x541cL, "x"));
  apart("personality", personality);
  apart("root_user", root_user);
  apart("root_group", root_group);
  apart("root_groups", root_groups);
  apart("more_files", more_files);
  apart("more_processes", more_processes);
  TRY("priority", syscall(SYS_setpriority, PRIO_PROCESS, 0, -20));
  TRY("realtime", sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}));
  TRY("unknown_call", syscall(999));
#ifdef __x86_64__
  TRY("iopl", syscall(SYS_iopl, 3));
  TRY("ioperm", syscall(SYS_ioperm, 0x80L, 1L, 1));
  TRY("modify_ldt", syscall(SYS_modify_ldt, 0, bytes, (long)sizeof bytes));
  apart("x32", call_x32);
  apart("i386", call_i386);
#endif
  /* So that whoever reads this knows that it was not cut short. */
  TRY("getpid", syscall(SYS_getpid));
  return 0;
}
