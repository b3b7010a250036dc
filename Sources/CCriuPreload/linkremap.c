// Which of CRIU's link_remap.N files stay after a dump.
//
// For an open file that lost its name but has others, CRIU makes a name of its own in the sandbox's file system, and
// removes it again when the dumped tasks are left running. The destination needs these names: the agent reads the
// file system after the dump. On `post-dump` it therefore puts the file below into CRIU's working directory, and every
// name that stays is appended to it, one path a line, for the roll-back to remove. Without the file nothing changes.
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define KEPT_LIST "kept-link-remaps"

int preload_keeps_link_remap(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (strncmp(name, "link_remap.", 11) != 0)
        return 0;
    char line[4200];
    int length = snprintf(line, sizeof line, "%s\n", path);
    if (length < 0 || (size_t)length >= sizeof line)
        return 0;
    long list = preload_syscall(SYS_openat, AT_FDCWD, (long)KEPT_LIST, O_WRONLY | O_APPEND | O_CLOEXEC, 0, 0, 0);
    if (list < 0)
        return 0;
    long written = preload_syscall(SYS_write, list, (long)line, length, 0, 0, 0);
    preload_syscall(SYS_close, list, 0, 0, 0, 0, 0);
    return written == length;
}
