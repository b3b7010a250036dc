#define _GNU_SOURCE 1
#include "smi_sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct overlay {
    const char *directory;
    const char *target;
    const char *options;
    int result;
};

static void *mount_overlay(void *argument) {
    struct overlay *o = argument;
    o->result = 0;
    if (unshare(CLONE_FS) < 0 || chdir(o->directory) < 0 || mount("overlay", o->target, "overlay", 0, o->options) < 0)
        o->result = errno;
    return NULL;
}

int smi_mount_overlay(const char *directory, const char *target, const char *options) {
    struct overlay o = {directory, target, options, 0};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, mount_overlay, &o);
    if (error)
        return error;
    pthread_join(thread, NULL);
    return o.result;
}

int smi_reconfigure(const char *path, char *const *flags, size_t count) {
    int context = (int)syscall(SYS_fspick, AT_FDCWD, path, FSPICK_CLOEXEC);
    if (context < 0)
        return -1;
    long result = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        result = syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, flags[i], NULL, 0);
    if (result == 0)
        result = syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
    int error = errno;
    close(context);
    errno = error;
    return (int)result;
}

int smi_open_below(int directory, const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int smi_make_device(int directory, const char *name, mode_t mode, unsigned major, unsigned minor) {
    return mknodat(directory, name, S_IFCHR | mode, makedev(major, minor));
}
