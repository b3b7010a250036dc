// The two functions of libc that the preload library replaces for carried memory, alone, for the tests.
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static long with_errno(long result) {
    if (result < 0 && result >= -4095) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

EXPORTED int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    long result;
    if (!preload_answer_scan(fd, request, argument, &result))
        result = preload_syscall(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
    return (int)with_errno(result);
}

EXPORTED int openat64(int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    long mode = va_arg(arguments, int);
    va_end(arguments);
    int fd = preload_open_smaps(directory, path);
    return fd >= 0 ? fd : (int)with_errno(preload_syscall(SYS_openat, directory, (long)path, flags, mode, 0, 0));
}
