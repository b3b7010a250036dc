#define _GNU_SOURCE 1
#include "smi_sandbox.h"
#include "spawn_child.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// glibc's <sys/mount.h> and <linux/mount.h> define these only in some combinations.
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

enum { MAX_MASKS = 64 };

// System calls younger than some of the C libraries that this is built with.
static int open_tree_clone(const char *path) {
    return (int)syscall(SYS_open_tree, AT_FDCWD, path,
                        OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
}

static int make_read_only(int tree) {
    struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    return (int)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof a);
}

static int attach(int tree, const char *path) {
    return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

/// Copies the mounts that will hide things, while the host's paths can still be seen.
static int clone_masks(const struct smi_sandbox *s, int *trees) {
    if (s->mask_count > MAX_MASKS) {
        errno = EINVAL;
        return -1;
    }
    for (size_t i = 0; i < s->mask_count; i++) {
        trees[i] = -1;
        if (!s->masks[i].source)
            continue;
        trees[i] = open_tree_clone(s->masks[i].source);
        if (trees[i] < 0 || make_read_only(trees[i]) < 0)
            return -1;
    }
    return 0;
}

static int apply_masks(const struct smi_sandbox *s, int *trees) {
    for (size_t i = 0; i < s->mask_count; i++) {
        const char *path = s->masks[i].path;
        int tree = trees[i];
        if (tree < 0) {
            tree = open_tree_clone(path);
            if (tree < 0 && errno == ENOENT)
                continue;
            if (tree < 0 || make_read_only(tree) < 0)
                return -1;
        }
        if (attach(tree, path) < 0 && errno != ENOENT)
            return -1;
        close(tree);
    }
    return 0;
}

/// A directory of the new root that is not a symbolic link: the rootfs is the sandbox's own to change.
static int is_directory(const char *path) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return 0;
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return 0;
    }
    return 1;
}

static int enter_root(const struct smi_sandbox *s) {
    if (chdir(s->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return -1;
    // The old root lies over the new one; this takes it, and every mount of the host, away.
    if (umount2(".", MNT_DETACH) < 0)
        return -1;
    return chdir("/");
}

void smi_sandbox_enter(const struct smi_sandbox *s, int report) {
    int trees[MAX_MASKS];
    if (clone_masks(s, trees) < 0)
        smi_child_fail(report, SMI_STAGE_MASK);
    if (chdir(s->directory) < 0 || mount("overlay", s->root, "overlay", 0, s->overlay_options) < 0)
        smi_child_fail(report, SMI_STAGE_OVERLAY);
    if (enter_root(s) < 0)
        smi_child_fail(report, SMI_STAGE_PIVOT);
    if (!is_directory("/proc") || mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        smi_child_fail(report, SMI_STAGE_PROC);
    if (apply_masks(s, trees) < 0)
        smi_child_fail(report, SMI_STAGE_MASK);
    if (!is_directory("/dev") || !is_directory("/dev/pts") ||
        mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5") < 0)
        smi_child_fail(report, SMI_STAGE_DEVPTS);
    if (sethostname(s->hostname, strlen(s->hostname)) < 0)
        smi_child_fail(report, SMI_STAGE_HOSTNAME);
}

/// The daemon may be protected from the out-of-memory killer, may hold keys and groups: none of it is inherited.
static void forget_the_daemon(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, "0", 1);
        (void)ignored;
        close(fd);
    }
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    umask(022);
}

static int limit_resources(const struct smi_sandbox *s) {
    for (size_t i = 0; i < s->rlimit_count; i++) {
        __rlimit_resource_t resource = (__rlimit_resource_t)s->rlimits[i].resource;
        struct rlimit now;
        if (getrlimit(resource, &now) < 0)
            return -1;
        // A hard limit cannot be raised without CAP_SYS_RESOURCE, which the daemon may not have.
        struct rlimit limit = {s->rlimits[i].soft, s->rlimits[i].hard};
        if (limit.rlim_max > now.rlim_max)
            limit.rlim_max = now.rlim_max;
        if (limit.rlim_cur > limit.rlim_max)
            limit.rlim_cur = limit.rlim_max;
        if (setrlimit(resource, &limit) < 0)
            return -1;
    }
    return 0;
}

static int drop_capabilities(uint64_t keep) {
    for (int cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            if (errno == EINVAL)
                break; // the first number that this kernel does not know
            return -1;
        }
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -1;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)keep, .permitted = (uint32_t)keep},
        {.effective = (uint32_t)(keep >> 32), .permitted = (uint32_t)(keep >> 32)},
    };
    return (int)syscall(SYS_capset, &header, data);
}

void smi_sandbox_confine(const struct smi_sandbox *s, int report) {
    forget_the_daemon();
    if (limit_resources(s) < 0)
        smi_child_fail(report, SMI_STAGE_RLIMIT);
    // The raw call: glibc's setgroups would signal threads that do not exist here.
    if (syscall(SYS_setgroups, 0, NULL) < 0 || drop_capabilities(s->capabilities) < 0)
        smi_child_fail(report, SMI_STAGE_CAPABILITIES);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        smi_child_fail(report, SMI_STAGE_NO_NEW_PRIVS);
    struct sock_fprog program = {
        (unsigned short)(s->filter_bytes / sizeof(struct sock_filter)),
        (struct sock_filter *)s->filter,
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        smi_child_fail(report, SMI_STAGE_SECCOMP);
}
