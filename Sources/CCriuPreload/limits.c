// Resource limits of another process, read from /proc/PID/limits (proc(5)).
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

// The kernel's names, indexed by RLIMIT_*.
static const char *const names[RLIM_NLIMITS] = {
    [RLIMIT_CPU] = "Max cpu time",
    [RLIMIT_FSIZE] = "Max file size",
    [RLIMIT_DATA] = "Max data size",
    [RLIMIT_STACK] = "Max stack size",
    [RLIMIT_CORE] = "Max core file size",
    [RLIMIT_RSS] = "Max resident set",
    [RLIMIT_NPROC] = "Max processes",
    [RLIMIT_NOFILE] = "Max open files",
    [RLIMIT_MEMLOCK] = "Max locked memory",
    [RLIMIT_AS] = "Max address space",
    [RLIMIT_LOCKS] = "Max file locks",
    [RLIMIT_SIGPENDING] = "Max pending signals",
    [RLIMIT_MSGQUEUE] = "Max msgqueue size",
    [RLIMIT_NICE] = "Max nice priority",
    [RLIMIT_RTPRIO] = "Max realtime priority",
    [RLIMIT_RTTIME] = "Max realtime timeout",
};

long preload_syscall(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
#error "no system call sequence for this architecture"
#endif
}

static rlim_t parse_value(char **cursor) {
    while (**cursor == ' ')
        ++*cursor;
    if (strncmp(*cursor, "unlimited", 9) == 0) {
        *cursor += 9;
        return RLIM_INFINITY;
    }
    return strtoull(*cursor, cursor, 10);
}

static ssize_t read_all(int descriptor, char *buffer, size_t size) {
    size_t used = 0;
    while (used < size) {
        long got = preload_syscall(SYS_read, descriptor, (long)(buffer + used), (long)(size - used), 0, 0, 0);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return got;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

int preload_read_limit(int pid, unsigned resource, struct rlimit *limit) {
    char path[48], text[4096];
    if (resource >= RLIM_NLIMITS || names[resource] == NULL)
        return -EINVAL;
    snprintf(path, sizeof path, "/proc/%d/limits", pid);
    long descriptor = preload_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (descriptor < 0)
        return (int)descriptor;
    ssize_t length = read_all((int)descriptor, text, sizeof text - 1);
    preload_syscall(SYS_close, descriptor, 0, 0, 0, 0, 0);
    if (length < 0)
        return (int)length;
    text[length] = 0;
    char *line = strstr(text, names[resource]);
    if (line == NULL)
        return -ENOENT;
    char *cursor = line + strlen(names[resource]);
    limit->rlim_cur = parse_value(&cursor);
    limit->rlim_max = parse_value(&cursor);
    return 0;
}
