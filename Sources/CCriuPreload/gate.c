// The gate that a restore passes before its tasks may run.
//
// CRIU stops at `pre-resume` for the agent to freeze the cgroup, but goes on when the agent cannot answer any more
// (it only logs the failure), and tasks that are traced run on when their tracer dies. Both would make a second
// running copy of a user's machine. With SMIRUN_CRIU_GATE set to the cgroup2 directory that the tasks are restored
// into, tasks die with their tracer (PTRACE_O_EXITKILL), and none is let go unless that cgroup is frozen: otherwise
// everything in it is killed.
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

static const char *gate_directory(void) {
    const char *directory = getenv("SMIRUN_CRIU_GATE");
    return directory != NULL && *directory != 0 ? directory : NULL;
}

// One byte of, or to, a file of the cgroup; the byte, or -errno.
static int cgroup_byte(const char *directory, const char *file, int flags, char byte) {
    char path[4200];
    int length = snprintf(path, sizeof path, "%s/%s", directory, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    long descriptor = preload_syscall(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0, 0, 0);
    if (descriptor < 0)
        return (int)descriptor;
    long number = flags == O_WRONLY ? SYS_write : SYS_read;
    long done = preload_syscall(number, descriptor, (long)&byte, 1, 0, 0, 0);
    preload_syscall(SYS_close, descriptor, 0, 0, 0, 0, 0);
    return done == 1 ? byte : done < 0 ? (int)done : -EIO;
}

long preload_gate_options(long request, long data) {
    int sets_options = request == PTRACE_SEIZE || request == PTRACE_SETOPTIONS;
    return sets_options && gate_directory() != NULL ? data | PTRACE_O_EXITKILL : data;
}

void preload_gate_pass(long request) {
    static int open;
    const char *directory = gate_directory();
    if (request != PTRACE_DETACH || directory == NULL || open)
        return;
    if (cgroup_byte(directory, "cgroup.freeze", O_RDONLY, 0) == '1') {
        open = 1;
        return;
    }
    cgroup_byte(directory, "cgroup.kill", O_WRONLY, '1');
    // CRIU would now wait for the restored init, which waits for its children, whose ends only their tracer can
    // collect: CRIU itself. Its own end lets go of all of them.
    preload_syscall(SYS_exit_group, 1, 0, 0, 0, 0, 0);
}
