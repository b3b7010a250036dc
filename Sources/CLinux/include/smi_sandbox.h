#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// A path below /proc that a sandbox must not reach, or not write to.
struct smi_mask {
    const char *_Nonnull path;    ///< as seen inside, e.g. /proc/kcore; skipped where it does not exist
    const char *_Nullable source; ///< what is put over it, as seen by the parent; NULL: the path itself, read-only
};

struct smi_rlimit {
    int resource; ///< RLIMIT_*
    uint64_t soft;
    uint64_t hard; ///< the parent's hard limit where that is lower
};

/// What turns a child of smi_spawn_start, in new pid, mnt, uts, ipc and time namespaces, into a sandbox's init.
struct smi_sandbox {
    const char *_Nonnull directory;       ///< becomes the working directory for the overlay's mount
    const char *_Nonnull root;            ///< mount point of the overlay, relative to `directory`
    const char *_Nonnull overlay_options; ///< lowerdir=…,upperdir=…,workdir=…, relative to `directory`
    const char *_Nonnull hostname;
    const struct smi_mask *_Nonnull masks; ///< at most 64
    size_t mask_count;
    const struct smi_rlimit *_Nonnull rlimits;
    size_t rlimit_count;
    uint64_t capabilities;       ///< the bounding, permitted and effective set; all others are empty
    const void *_Nonnull filter; ///< seccomp program, an array of struct sock_filter
    size_t filter_bytes;
};

/// Mounts an overlay on `target`, all paths relative to `directory`, in the caller's mount namespace. Runs on a thread
/// of its own, whose working directory is not the process's. 0 or an errno.
int smi_mount_overlay(const char *_Nonnull directory, const char *_Nonnull target, const char *_Nonnull options);

/// Changes a mounted file system's own options (fspick, fsconfig), leaving the mount's flags alone. `flags` are all
/// that it shall have. -1 with errno.
int smi_reconfigure(const char *_Nonnull path, char *_Nullable const *_Nonnull flags, size_t count);

/// Opens (openat2) a path below a directory: no symbolic link, no `..` out of it, no other mount. -1 with errno.
int smi_open_below(int directory, const char *_Nonnull path, int flags, mode_t mode);

/// mknodat of a character device; -1 with errno.
int smi_make_device(int directory, const char *_Nonnull name, mode_t mode, unsigned major, unsigned minor);

/// Loads the device program of sandboxes (null, zero, full, random, urandom, tty, ptmx, pts; never mknod); an fd, or
/// -1 with errno.
int smi_device_program(void);

/// Attaches a device program to a cgroup2 directory, where it stays as long as the cgroup; -1 with errno.
int smi_device_attach(int cgroup, int program);
