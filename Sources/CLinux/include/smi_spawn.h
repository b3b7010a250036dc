#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct smi_sandbox;

/// Where a spawn failed; 0 is success. `smi_stage_name` names the call.
enum smi_stage {
    SMI_STAGE_OK = 0,
    SMI_STAGE_CLONE,
    SMI_STAGE_CGROUP,
    SMI_STAGE_SETNS,
    SMI_STAGE_UNSHARE,
    SMI_STAGE_SESSION,
    SMI_STAGE_PROPAGATION,
    SMI_STAGE_CHDIR,
    SMI_STAGE_FDS,
    SMI_STAGE_SIGMASK,
    SMI_STAGE_OVERLAY,
    SMI_STAGE_PIVOT,
    SMI_STAGE_PROC,
    SMI_STAGE_DEVPTS,
    SMI_STAGE_MASK,
    SMI_STAGE_HOSTNAME,
    SMI_STAGE_RLIMIT,
    SMI_STAGE_CAPABILITIES,
    SMI_STAGE_NO_NEW_PRIVS,
    SMI_STAGE_SECCOMP,
    SMI_STAGE_EXEC,
};

/// A descriptor of the parent that the child gets under a number of its own.
struct smi_fd_map {
    int source;
    int target;
};

/// Everything a child needs, prepared by the parent before the clone: after it the child makes raw system calls only.
struct smi_spawn {
    const char *_Nonnull path;
    char *_Nullable const *_Nonnull argv;
    char *_Nullable const *_Nonnull envp;
    const char *_Nullable directory;   ///< working directory, or NULL: kept
    uint64_t clone_flags;              ///< CLONE_NEW* made by clone3 itself
    uint64_t unshare_flags;            ///< CLONE_NEW* made after the cgroups are entered (CLONE_NEWCGROUP)
    int cgroup_fd;                     ///< -1, or a cgroup2 directory (CLONE_INTO_CGROUP)
    const int *_Nullable cgroup_tasks; ///< open `tasks` of v1 hierarchies, which the child writes itself to
    size_t cgroup_tasks_count;
    const int *_Nullable namespaces; ///< namespace descriptors for setns, in this order
    size_t namespaces_count;
    const struct smi_fd_map *_Nullable fds; ///< at most 64; 0-2 not named here become /dev/null
    size_t fds_count;
    int new_session;                             ///< setsid()
    const struct smi_sandbox *_Nullable sandbox; ///< the steps of a sandbox's first process, or NULL
};

/// Starts a child by clone3; returns 0 or an errno, and in *stage where it arose (parent or child).
/// On success *pid and *pidfd (CLOEXEC) are set and the child has exec'd; otherwise it is reaped and nothing is left.
int smi_spawn_start(const struct smi_spawn *_Nonnull s, pid_t *_Nonnull pid, int *_Nonnull pidfd, int *_Nonnull stage);

/// The name of a stage, as in section 2 of the manual where it is one call.
const char *_Nonnull smi_stage_name(int stage);

/// Waits on a pidfd of a child and reaps it: its exit code, or 128 + signal; -errno, or -EAGAIN with WNOHANG.
int smi_wait_pidfd(int pidfd, int options);

int smi_pidfd_open(pid_t pid);
int smi_pidfd_send_signal(int pidfd, int signal);

/// Waits up to `milliseconds` (-1: for ever) until the process behind a pidfd has ended; 1 ended, 0 not yet, -errno.
int smi_pidfd_poll(int pidfd, int milliseconds);

// Not in Swift's Glibc module: they need _GNU_SOURCE, and this header must not define it.
enum smi_clone_flag {
    SMI_NEWTIME = 0x00000080,
    SMI_NEWNS = 0x00020000,
    SMI_NEWCGROUP = 0x02000000,
    SMI_NEWUTS = 0x04000000,
    SMI_NEWIPC = 0x08000000,
    SMI_NEWPID = 0x20000000,
    SMI_NEWNET = 0x40000000,
};
