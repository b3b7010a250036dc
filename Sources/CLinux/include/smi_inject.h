// System calls made inside another process, without its cooperation.
#pragma once

#include <sys/types.h>

enum smi_inject_result {
    SMI_INJECT_STOPPED = -4096, // no thread can run code now: stopped (SIGSTOP), frozen, or waiting uninterruptibly
};

// Makes the process create a userfaultfd, fetches it and closes the process's own descriptor. Stops one thread for
// about 0.1 ms; a thread that does not stop within timeout_ms (sleeping uninterruptibly) is let go with -ETIMEDOUT.
// user_mode_only: for targets that may not create one that handles the kernel's faults.
// Returns the descriptor, SMI_INJECT_STOPPED or -errno (-ESRCH: gone; -EMFILE: no descriptor left in the process).
int smi_inject_userfaultfd(pid_t pid, int user_mode_only, int timeout_ms);

// Makes the process's descriptor `to` a duplicate of its descriptor `from` (dup3(2)); stops a thread as above.
// Returns 0, SMI_INJECT_STOPPED or -errno.
int smi_inject_dup(pid_t pid, int from, int to, int flags, int timeout_ms);
