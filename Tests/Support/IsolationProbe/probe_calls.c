// System calls, namespaces and sockets as a sandbox's process meets them; see probe.c.
#define _GNU_SOURCE 1
#include "probe.h"
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/// All arguments -1: invalid everywhere, so that nothing happens where the filter is missing.
#define CALL(name) IN_CHILD("call", #name, syscall(SYS_##name, -1L, -1L, -1L, -1L, -1L, -1L))
#define NUMBER(number) IN_CHILD("number", #number, syscall(number, -1L, -1L, -1L, -1L, -1L, -1L))
#define CLONE(flag) IN_CHILD("clone", #flag, syscall(SYS_clone, (long)(flag) | SIGCHLD, 0, 0, 0, 0))
#define UNSHARE(flag) IN_CHILD("unshare", #flag, unshare(flag))
#define REMAP(name, length) IN_CHILD("remap", name, remap(length))
#define SOCKET(name, family, type, protocol) IN_CHILD("socket", name, socket(family, type, protocol))

void print_denied_calls(void) {
    CALL(mount);
    CALL(umount2);
    CALL(pivot_root);
    CALL(open_tree);
    CALL(move_mount);
    CALL(fsopen);
    CALL(fsconfig);
    CALL(fsmount);
    CALL(fspick);
    CALL(mount_setattr);
    CALL(setns);
    CALL(sethostname);
    CALL(setdomainname);
    CALL(open_by_handle_at);
    CALL(fanotify_init);
    CALL(fanotify_mark);
    CALL(init_module);
    CALL(finit_module);
    CALL(delete_module);
    CALL(kexec_load);
    CALL(reboot);
    CALL(bpf);
    CALL(perf_event_open);
    CALL(syslog);
    CALL(acct);
    CALL(swapon);
    CALL(swapoff);
    CALL(quotactl);
    CALL(vhangup);
    CALL(settimeofday);
    CALL(clock_settime);
    CALL(clock_adjtime);
    CALL(adjtimex);
    CALL(add_key);
    CALL(request_key);
    CALL(keyctl);
    CALL(userfaultfd);
    CALL(pkey_alloc);
    CALL(move_pages);
    CALL(migrate_pages);
    CALL(mbind);
    CALL(set_mempolicy);
    CALL(mq_open);
    CALL(mq_unlink);
    CALL(mq_timedsend);
    CALL(mq_timedreceive);
    CALL(mq_notify);
    CALL(mq_getsetattr);
#ifdef __x86_64__
    CALL(iopl);
    CALL(ioperm);
    CALL(modify_ldt);
    CALL(kexec_file_load);
    CALL(ustat);
    CALL(sysfs);
    CALL(uselib);
#endif
}

void print_absent_calls(void) {
    CALL(clone3);
    CALL(io_uring_setup);
    CALL(io_uring_enter);
    CALL(io_uring_register);
    NUMBER(444);
    NUMBER(445);
    NUMBER(446); // Landlock
    NUMBER(451);
    NUMBER(457);
    NUMBER(462);
    NUMBER(600);
    NUMBER(2000);
#ifdef __x86_64__
    NUMBER(400);
    NUMBER(0x40000027); // never given out; x32's getpid
    long result;
    // i386's getpid through the 32-bit gate.
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
    printf("number.i386=%ld\n", result < 0 ? -result : 0);
#endif
}

static long listener(void) {
    struct {
        unsigned short length;
        void *filter;
    } program = {0, NULL};
    return syscall(SYS_seccomp, 1, 8, &program);
}

static long remap(unsigned long length) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return syscall(SYS_mremap, page, length, 4096L, MREMAP_MAYMOVE, 0L);
}

void print_namespace_calls(void) {
    CLONE(CLONE_NEWUSER);
    CLONE(CLONE_NEWPID);
    CLONE(CLONE_NEWNET);
    CLONE(CLONE_NEWNS);
    CLONE(CLONE_NEWUTS);
    CLONE(CLONE_NEWIPC);
    CLONE(0x02000000 /* CLONE_NEWCGROUP */);
    CLONE(CLONE_NEWUSER | CLONE_NEWNET);
    UNSHARE(CLONE_NEWUSER);
    UNSHARE(CLONE_NEWPID);
    UNSHARE(CLONE_NEWNET);
    UNSHARE(CLONE_NEWNS);
    UNSHARE(CLONE_NEWUTS);
    UNSHARE(CLONE_NEWIPC);
    UNSHARE(0x02000000 /* CLONE_NEWCGROUP */);
    UNSHARE(0x80 /* CLONE_NEWTIME */);
    IN_CHILD("listener", "seccomp", listener());
    IN_CHILD("personality", "read_implies_exec", syscall(SYS_personality, 0x0400000L));
    REMAP("nothing", 0ul);
    REMAP("almost_nothing", -1ul);
    REMAP("rounds_to_nothing", -4095ul);
    REMAP("a_page", 4096ul);
    SOCKET("vsock", 40, SOCK_STREAM, 0);
    SOCKET("alg", 38, SOCK_SEQPACKET, 0);
    SOCKET("packet", AF_PACKET, SOCK_RAW, 0);
    SOCKET("raw", AF_INET, SOCK_RAW, IPPROTO_ICMP);
    SOCKET("ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    SOCKET("sctp", AF_INET, SOCK_SEQPACKET, 132);
    SOCKET("netfilter", AF_NETLINK, SOCK_RAW, 12);
    SOCKET("audit", AF_NETLINK, SOCK_RAW, 9);
    SOCKET("tcp", AF_INET, SOCK_STREAM, 0);
    SOCKET("udp6", AF_INET6, SOCK_DGRAM, 0);
    SOCKET("unix", AF_UNIX, SOCK_SEQPACKET, 0);
    SOCKET("route", AF_NETLINK, SOCK_RAW, 0);
}
