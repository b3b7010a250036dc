// The functions of libc that this library replaces in CRIU.
#define _GNU_SOURCE
#include "preload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
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

// A kernel that does not grant CAP_SYS_RESOURCE refuses the limits of a task of another user, although the same numbers
// stand in /proc.
static long prlimit_or_proc(pid_t pid, unsigned resource, const void *wanted, struct rlimit *limit) {
    long result = preload_syscall(SYS_prlimit64, pid, resource, (long)wanted, (long)limit, 0, 0);
    if (result == -EPERM && wanted == NULL && limit != NULL && preload_read_limit(pid, resource, limit) == 0)
        return 0;
    return result;
}

// Debian's CRIU 4.2.1 reads the limits of every task with this.
EXPORTED int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *wanted,
                       struct rlimit64 *limit) {
    return (int)with_errno(prlimit_or_proc(pid, (unsigned)resource, wanted, (struct rlimit *)limit));
}

// CRIU's later sources read them with syscall(__NR_prlimit64). Tasks are made with syscall(__NR_clone3).
EXPORTED long syscall(long number, ...) {
    va_list arguments;
    va_start(arguments, number);
    long a = va_arg(arguments, long);
    long b = va_arg(arguments, long);
    long c = va_arg(arguments, long);
    long d = va_arg(arguments, long);
    long e = va_arg(arguments, long);
    long f = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_prlimit64)
        return with_errno(prlimit_or_proc((pid_t)a, (unsigned)b, (const void *)c, (struct rlimit *)d));
    if (number == SYS_clone3)
        return with_errno(preload_clone((const void *)a, (size_t)b));
    return with_errno(preload_syscall(number, a, b, c, d, e, f));
}

// CRIU removes the names it gave to open deleted files as soon as the dumped tasks may go on. The copy of the file
// system is read after that.
EXPORTED int unlinkat(int directory, const char *path, int flags) {
    if (preload_keeps_link_remap(path))
        return 0;
    return (int)with_errno(preload_syscall(SYS_unlinkat, directory, (long)path, flags, 0, 0, 0));
}

// Memory that the agent carries itself is not dumped (skip_carried.c); restored memory can be tracked (uffd.c).
EXPORTED int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    long result;
    if (!preload_answer_scan(fd, request, argument, &result) &&
        !preload_answer_uffd_api(fd, request, argument, &result))
        result = preload_syscall(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
    return (int)with_errno(result);
}

// CRIU looks for the pages of shared memory with this (shared.c).
EXPORTED off64_t lseek64(int fd, off64_t offset, int whence) {
    if (preload_is_carried_shared(fd, whence)) {
        errno = ENXIO;
        return -1;
    }
    return with_errno(preload_syscall(SYS_lseek, fd, offset, whence, 0, 0, 0));
}

// CRIU makes shared memory with this when it restores.
EXPORTED int memfd_create(const char *name, unsigned flags) {
    int fd = (int)with_errno(preload_syscall(SYS_memfd_create, (long)name, flags, 0, 0, 0, 0));
    preload_note_memfd(fd);
    return fd;
}

// CRIU makes System V segments with this when it restores (segments.c).
EXPORTED int shmget(key_t key, size_t size, int flags) {
    return (int)with_errno(preload_get_segment(key, size, flags));
}

// CRIU opens a process's smaps with this, and its images.
EXPORTED int openat64(int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    long mode = va_arg(arguments, int);
    va_end(arguments);
    int joined = preload_join_segments(directory, path);
    if (joined != 0)
        return (int)with_errno(joined);
    preload_fill_shared(directory, path);
    int fd = preload_open_smaps(directory, path);
    if (fd < 0)
        fd = (int)with_errno(preload_syscall(SYS_openat, directory, (long)path, flags, mode, 0, 0));
    if (fd >= 0 && (flags & O_ACCMODE) == O_RDONLY) {
        preload_note_image(path, fd);
        preload_begin_inheriting(directory, path);
    }
    return fd;
}

// CRIU waits for its request with this (inherit.c).
EXPORTED ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    preload_await_request(fd, flags);
    return with_errno(preload_syscall(SYS_recvfrom, fd, (long)buffer, (long)size, flags, 0, 0));
}

// CRIU makes the mappings of restored tasks with these two.
EXPORTED void *mmap64(void *start, size_t length, int prot, int flags, int fd, off64_t offset) {
    long result = preload_syscall(SYS_mmap, (long)start, (long)length, prot, flags, fd, offset);
    preload_note_reservation(result, length, prot, flags);
    if (result >= 0)
        result = preload_inherit_mapping(result, length, prot, flags);
    return (void *)with_errno(result);
}

EXPORTED void *mremap(void *start, size_t length, size_t wanted, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    long place = flags & MREMAP_FIXED ? (long)va_arg(arguments, void *) : 0;
    va_end(arguments);
    long result = preload_syscall(SYS_mremap, (long)start, (long)length, (long)wanted, flags, place, 0);
    if (result >= 0 && flags & MREMAP_FIXED)
        result = preload_inherit_moved(result, wanted);
    return (void *)with_errno(result);
}

// A restored zombie ends with this (zombies.c); nothing of CRIU's waits for the end of such a process.
EXPORTED void exit(int status) {
    int wanted = preload_exit_status(status);
    if (wanted != status)
        preload_syscall(SYS_exit_group, wanted, 0, 0, 0, 0, 0);
    void (*libc_exit)(int) = (void (*)(int))dlsym(RTLD_NEXT, "exit");
    libc_exit(status);
    __builtin_unreachable();
}

// Only what a restore may do with its tasks is changed (gate.c). The kernel returns peeked data through the pointer.
EXPORTED long ptrace(enum __ptrace_request request, ...) {
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, long);
    long address = va_arg(arguments, long);
    long data = va_arg(arguments, long);
    va_end(arguments);
    long number = (long)request;
    preload_gate_pass(number);
    int peeks = number == PTRACE_PEEKTEXT || number == PTRACE_PEEKDATA || number == PTRACE_PEEKUSER;
    long peeked = 0;
    long last = peeks ? (long)&peeked : preload_gate_options(number, data);
    long result = with_errno(preload_syscall(SYS_ptrace, number, (int)pid, address, last, 0, 0));
    if (!peeks || result < 0)
        return result;
    errno = 0;
    return peeked;
}
