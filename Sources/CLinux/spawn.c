#define _GNU_SOURCE 1
#include "smi_spawn.h"
#include "spawn_child.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_FDS = 64 };

struct report {
    int stage;
    int error;
};

void smi_child_fail(int report, int stage) {
    struct report r = {stage, errno};
    ssize_t n;
    do
        n = write(report, &r, sizeof r);
    while (n < 0 && errno == EINTR);
    _exit(127);
}

/// Moves the child into the v1 cgroups: writing 0 to `tasks` means the writer.
static int enter_cgroups(const struct smi_spawn *s) {
    for (size_t i = 0; i < s->cgroup_tasks_count; i++)
        if (write(s->cgroup_tasks[i], "0", 1) != 1)
            return -1;
    return 0;
}

/// Gives the child exactly the descriptors it was promised. Sources are first moved out of the way of the targets, so
/// that any permutation works; everything else carries CLOEXEC.
static int arrange_fds(const struct smi_spawn *s, int *report) {
    int moved[MAX_FDS];
    int floor = 3;
    if (s->fds_count > MAX_FDS) {
        errno = EINVAL;
        return -1;
    }
    for (size_t i = 0; i < s->fds_count; i++)
        if (s->fds[i].target >= floor)
            floor = s->fds[i].target + 1;
    for (size_t i = 0; i < s->fds_count; i++)
        if ((moved[i] = fcntl(s->fds[i].source, F_DUPFD_CLOEXEC, floor)) < 0)
            return -1;
    int moved_report = fcntl(*report, F_DUPFD_CLOEXEC, floor);
    if (moved_report < 0)
        return -1;
    *report = moved_report;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && null >= 0; i++)
        if (dup2(null, i) < 0)
            return -1;
    if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return -1;
    for (size_t i = 0; i < s->fds_count; i++)
        if (dup2(moved[i], s->fds[i].target) < 0)
            return -1;
    return 0;
}

static _Noreturn void run_child(const struct smi_spawn *s, int report) {
    if (enter_cgroups(s) < 0)
        smi_child_fail(report, SMI_STAGE_CGROUP);
    for (size_t i = 0; i < s->namespaces_count; i++)
        if (setns(s->namespaces[i], 0) < 0)
            smi_child_fail(report, SMI_STAGE_SETNS);
    if (s->unshare_flags && unshare((int)s->unshare_flags) < 0)
        smi_child_fail(report, SMI_STAGE_UNSHARE);
    // The daemon's own priority is not for what it starts.
    setpriority(PRIO_PROCESS, 0, 0);
    if (s->new_session && setsid() < 0)
        smi_child_fail(report, SMI_STAGE_SESSION);
    if (((s->clone_flags | s->unshare_flags) & CLONE_NEWNS) && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        smi_child_fail(report, SMI_STAGE_PROPAGATION);
    // Before the root changes: /dev/null is the host's.
    if (arrange_fds(s, &report) < 0)
        smi_child_fail(report, SMI_STAGE_FDS);
    if (s->sandbox)
        smi_sandbox_enter(s->sandbox, report);
    if (s->directory && chdir(s->directory) < 0)
        smi_child_fail(report, SMI_STAGE_CHDIR);
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        smi_child_fail(report, SMI_STAGE_SIGMASK);
    if (s->sandbox)
        smi_sandbox_confine(s->sandbox, report);
    execve(s->path, s->argv, s->envp);
    smi_child_fail(report, SMI_STAGE_EXEC);
}

int smi_spawn_start(const struct smi_spawn *s, pid_t *pid, int *pidfd, int *stage) {
    int p[2];
    *stage = SMI_STAGE_CLONE;
    if (pipe2(p, O_CLOEXEC) < 0)
        return errno;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    *pidfd = -1;
    struct clone_args a = {0};
    a.flags = s->clone_flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
    a.pidfd = (uintptr_t)pidfd;
    a.exit_signal = SIGCHLD;
    if (s->cgroup_fd >= 0) {
        a.flags |= CLONE_INTO_CGROUP;
        a.cgroup = (uint64_t)s->cgroup_fd;
    }
    pid_t child = (pid_t)syscall(SYS_clone3, &a, sizeof a);
    if (child == 0)
        run_child(s, p[1]);
    int error = child < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(p[1]);
    if (error) {
        close(p[0]);
        return error;
    }
    struct report r = {0, 0};
    ssize_t n;
    do
        n = read(p[0], &r, sizeof r);
    while (n < 0 && errno == EINTR);
    close(p[0]);
    if (n == (ssize_t)sizeof r) {
        smi_wait_pidfd(*pidfd, 0);
        close(*pidfd);
        *pidfd = -1;
        *stage = r.stage;
        return r.error ? r.error : EIO;
    }
    *pid = child;
    *stage = SMI_STAGE_OK;
    return 0;
}

const char *smi_stage_name(int stage) {
    static const char *const names[] = {
        [SMI_STAGE_OK] = "spawn",
        [SMI_STAGE_CLONE] = "clone3",
        [SMI_STAGE_CGROUP] = "cgroup tasks",
        [SMI_STAGE_SETNS] = "setns",
        [SMI_STAGE_UNSHARE] = "unshare",
        [SMI_STAGE_SESSION] = "setsid",
        [SMI_STAGE_PROPAGATION] = "mount (private)",
        [SMI_STAGE_CHDIR] = "chdir",
        [SMI_STAGE_FDS] = "dup2",
        [SMI_STAGE_SIGMASK] = "sigprocmask",
        [SMI_STAGE_OVERLAY] = "mount (overlay)",
        [SMI_STAGE_PIVOT] = "pivot_root",
        [SMI_STAGE_PROC] = "mount (proc)",
        [SMI_STAGE_DEVPTS] = "mount (devpts)",
        [SMI_STAGE_MASK] = "mount (mask)",
        [SMI_STAGE_HOSTNAME] = "sethostname",
        [SMI_STAGE_RLIMIT] = "setrlimit",
        [SMI_STAGE_CAPABILITIES] = "capset",
        [SMI_STAGE_NO_NEW_PRIVS] = "prctl (no_new_privs)",
        [SMI_STAGE_SECCOMP] = "seccomp",
        [SMI_STAGE_EXEC] = "execve",
    };
    if (stage < 0 || (size_t)stage >= sizeof names / sizeof *names)
        return "spawn";
    return names[stage];
}

int smi_wait_pidfd(int pidfd, int options) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | options) < 0)
        if (errno != EINTR)
            return -errno;
    if (info.si_pid == 0)
        return -EAGAIN;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int smi_pidfd_open(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int smi_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int smi_pidfd_poll(int pidfd, int milliseconds) {
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;
    do
        n = poll(&p, 1, milliseconds);
    while (n < 0 && errno == EINTR && milliseconds < 0);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return n > 0 ? 1 : 0;
}
