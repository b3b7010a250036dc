// Injection of system calls by ptrace; the registers, signal mask and any interrupted system call are as before.
#define _GNU_SOURCE
#include "smi_inject.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EVENT_STOP 128
#define OPTION_SUSPEND_SECCOMP (1 << 21)
#define REQUEST_GETSIGMASK 0x420a
#define REQUEST_SETSIGMASK 0x420b
#define UFFD_USER_MODE_ONLY_FLAG 1

struct injection {
    pid_t pid, tid;
    int timeout_ms;
    // What to do while the thread is stopped, with these arguments; its result is that of the injection.
    int (*action)(const struct injection *);
    uint64_t arguments[3];
    int result;
    struct user_regs_struct saved;
    uint64_t saved_mask, gadget;
};

static int64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000ll + time.tv_nsec / 1000;
}

// Waits for the thread's next stop; never longer than the timeout, so that a stuck thread costs no thread of ours.
static int wait_stop(const struct injection *in, int *status) {
    int64_t end = now_us() + in->timeout_ms * 1000ll;
    for (unsigned spins = 0;; spins++) {
        pid_t got = waitpid(in->tid, status, __WALL | WNOHANG);
        if (got < 0 && errno != EINTR)
            return -ESRCH;
        if (got == in->tid)
            return WIFSTOPPED(*status) ? 0 : -ESRCH;
        if (now_us() > end)
            return -ETIMEDOUT;
        if (spins > 20)
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        else
            sched_yield();
    }
}

// Waits for the stop that PTRACE_INTERRUPT asks for; signals that arrive first are passed on.
static int wait_interrupt(const struct injection *in) {
    for (;;) {
        int status;
        int result = wait_stop(in, &status);
        if (result != 0)
            return result;
        if (status >> 16 == EVENT_STOP)
            return WSTOPSIG(status) == SIGTRAP ? 0 : SMI_INJECT_STOPPED;
        long signal = status >> 16 == 0 && WSTOPSIG(status) != (SIGTRAP | 0x80) ? WSTOPSIG(status) : 0;
        if (ptrace(PTRACE_CONT, in->tid, 0, signal) != 0)
            return -errno;
    }
}

static int set_registers(const struct injection *in, struct user_regs_struct *registers) {
    struct iovec vector = {registers, sizeof(*registers)};
    return ptrace(PTRACE_SETREGSET, in->tid, NT_PRSTATUS, &vector) == 0 ? 0 : -errno;
}

static int get_registers(const struct injection *in, struct user_regs_struct *registers) {
    struct iovec vector = {registers, sizeof(*registers)};
    if (ptrace(PTRACE_GETREGSET, in->tid, NT_PRSTATUS, &vector) != 0)
        return -errno;
    return vector.iov_len == sizeof(*registers) ? 0 : -ENOTSUP; // a 32-bit program has other registers
}

// A syscall instruction that is always mapped: in the vdso.
static int find_gadget(struct injection *in) {
    char path[64], line[512];
    unsigned long start = 0, end = 0;
    snprintf(path, sizeof(path), "/proc/%d/maps", in->pid);
    FILE *maps = fopen(path, "re");
    if (!maps)
        return -ESRCH;
    while (fgets(line, sizeof(line), maps))
        if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
            break;
    fclose(maps);
    if (end <= start || end - start > 65536)
        return -ENOEXEC;
    uint8_t *code = malloc(end - start);
    if (!code)
        return -ENOMEM;
    struct iovec local = {code, end - start}, remote = {(void *)start, end - start};
    ssize_t got = process_vm_readv(in->pid, &local, 1, &remote, 1, 0);
    for (ssize_t i = 0; i + 1 < got && in->gadget == 0; i++)
        if (code[i] == 0x0f && code[i + 1] == 0x05)
            in->gadget = start + (uint64_t)i;
    free(code);
    return in->gadget ? 0 : -ENOEXEC;
}

// Lets the thread run to its next system call stop; SMI_INJECT_STOPPED if it is group-stopped or frozen instead.
static int to_syscall_stop(const struct injection *in) {
    int status;
    if (ptrace(PTRACE_SYSCALL, in->tid, 0, 0) != 0)
        return -errno;
    int result = wait_stop(in, &status);
    if (result == -ETIMEDOUT) { // a frozen cgroup: have it stop for us once more
        ptrace(PTRACE_INTERRUPT, in->tid, 0, 0);
        result = wait_stop(in, &status);
        return result == 0 ? SMI_INJECT_STOPPED : result;
    }
    if (result != 0)
        return result;
    return WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : SMI_INJECT_STOPPED;
}

static int remote_syscall(const struct injection *in, long number, const uint64_t arguments[3], int64_t *value) {
    struct user_regs_struct registers = in->saved;
    registers.rip = in->gadget;
    registers.rax = (uint64_t)number;
    registers.orig_rax = ~0ull; // no restart of the call that was interrupted while this one runs
    registers.rdi = arguments[0];
    registers.rsi = arguments[1];
    registers.rdx = arguments[2];
    int result = set_registers(in, &registers);
    if (result == 0)
        result = to_syscall_stop(in);
    if (result == 0)
        result = to_syscall_stop(in);
    if (result == 0)
        result = get_registers(in, &registers);
    *value = (int64_t)registers.rax;
    return result;
}

static int duplicate(const struct injection *in) {
    int64_t value = -1;
    int result = remote_syscall(in, SYS_dup3, in->arguments, &value);
    return result == 0 && value < 0 ? (int)value : result;
}

static int fetch(const struct injection *in) {
    int64_t remote = -1, ignored;
    int result = remote_syscall(in, SYS_userfaultfd, in->arguments, &remote);
    if (result != 0)
        return result;
    if (remote < 0)
        return (int)remote;
    int pidfd = (int)syscall(SYS_pidfd_open, in->pid, 0);
    int fd = pidfd < 0 ? -errno : (int)syscall(SYS_pidfd_getfd, pidfd, (int)remote, 0);
    if (pidfd >= 0 && fd < 0)
        fd = -errno;
    if (pidfd >= 0)
        close(pidfd);
    result = remote_syscall(in, SYS_close, (uint64_t[3]){(uint64_t)remote}, &ignored);
    if (result != 0 && fd >= 0) {
        close(fd);
        return result;
    }
    return fd;
}

// Puts everything back. The last stop must be one from which the kernel looks for a call to restart: an interrupt's.
static void leave(const struct injection *in, int result) {
    if (result != SMI_INJECT_STOPPED) {
        ptrace(PTRACE_INTERRUPT, in->tid, 0, 0);
        if (ptrace(PTRACE_CONT, in->tid, 0, 0) == 0)
            wait_interrupt(in);
    }
    struct user_regs_struct saved = in->saved;
    set_registers(in, &saved);
    ptrace(REQUEST_SETSIGMASK, in->tid, sizeof(in->saved_mask), &in->saved_mask);
}

// Whether a thread can be expected to stop at once: running or sleeping, not waiting uninterruptibly (vfork), not dead.
static bool can_stop(const struct injection *in, pid_t tid) {
    char path[96], line[512];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", in->pid, tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, line, sizeof(line) - 1);
    close(fd);
    line[size > 0 ? size : 0] = 0;
    const char *close_parenthesis = strrchr(line, ')'); // the command's name may hold anything
    return close_parenthesis && (close_parenthesis[2] == 'R' || close_parenthesis[2] == 'S');
}

// Seizes a thread of the process (the leader may be a zombie while others run).
static int seize(struct injection *in) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", in->pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return -ESRCH;
    int result = SMI_INJECT_STOPPED;
    for (struct dirent *entry; result != 0 && (entry = readdir(tasks));) {
        in->tid = atoi(entry->d_name);
        long options = PTRACE_O_TRACESYSGOOD | OPTION_SUSPEND_SECCOMP;
        if (in->tid > 0 && can_stop(in, in->tid))
            result = ptrace(PTRACE_SEIZE, in->tid, 0, options) == 0 ? 0 : -errno;
    }
    closedir(tasks);
    return result;
}

static void *run(void *argument) {
    struct injection *in = argument;
    uint64_t blocked = ~0ull;
    in->result = seize(in);
    if (in->result != 0)
        return NULL;
    ptrace(PTRACE_INTERRUPT, in->tid, 0, 0);
    in->result = wait_interrupt(in);
    if (in->result == 0)
        in->result = get_registers(in, &in->saved);
    if (in->result == 0)
        in->result = find_gadget(in);
    if (in->result == 0 && (ptrace(REQUEST_GETSIGMASK, in->tid, sizeof(in->saved_mask), &in->saved_mask) != 0 ||
                            ptrace(REQUEST_SETSIGMASK, in->tid, sizeof(blocked), &blocked) != 0))
        in->result = -errno;
    if (in->result == 0) {
        in->result = in->action(in);
        leave(in, in->result);
    }
    // A thread that never stopped is let go when this thread ends.
    ptrace(PTRACE_DETACH, in->tid, 0, 0);
    return NULL;
}

static int inject(struct injection *in) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, in);
    if (error != 0)
        return -error;
    pthread_join(thread, NULL);
    return in->result;
}

int smi_inject_userfaultfd(pid_t pid, int user_mode_only, int timeout_ms) {
    uint64_t flags = O_CLOEXEC | O_NONBLOCK | (user_mode_only ? UFFD_USER_MODE_ONLY_FLAG : 0);
    struct injection in = {.pid = pid, .timeout_ms = timeout_ms, .action = fetch, .arguments = {flags}};
    return inject(&in);
}

int smi_inject_dup(pid_t pid, int from, int to, int flags, int timeout_ms) {
    struct injection in = {.pid = pid, .timeout_ms = timeout_ms, .action = duplicate};
    in.arguments[0] = (uint64_t)from;
    in.arguments[1] = (uint64_t)to;
    in.arguments[2] = (uint64_t)flags;
    return inject(&in);
}
