// Changes of shared memory that are not writes through a mapping.
#define _GNU_SOURCE
#include "smi_modifywatch.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

int smi_modify_watch_open(void) {
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    return watch >= 0 ? watch : -errno;
}

int smi_modify_watch_add(int watch, int fd) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int number = inotify_add_watch(watch, path, IN_MODIFY);
    return number >= 0 ? number : -errno;
}

void smi_modify_watch_remove(int watch, int number) {
    inotify_rm_watch(watch, number);
}

ssize_t smi_modify_watch_take(int watch, int *numbers, size_t capacity) {
    // Files have no names in their events.
    struct inotify_event events[64];
    size_t found = 0;
    int lost = 0;
    while (found + 64 <= capacity) {
        ssize_t got = read(watch, events, sizeof(events));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno != EAGAIN)
            return -EOVERFLOW;
        if (got <= 0)
            break;
        for (size_t i = 0; i < (size_t)got / sizeof(*events); i++) {
            lost |= (events[i].mask & IN_Q_OVERFLOW) != 0;
            if (events[i].mask & IN_MODIFY)
                numbers[found++] = events[i].wd;
        }
        if ((size_t)got < sizeof(events))
            break;
    }
    return lost ? -EOVERFLOW : (ssize_t)found;
}

int smi_modify_watch_hears_creators(int watch) {
    int fd = memfd_create("heard", MFD_CLOEXEC);
    if (fd < 0)
        return 0;
    int number = smi_modify_watch_add(watch, fd);
    int seen[64];
    int is_heard = number >= 0 && write(fd, ".", 1) == 1 && smi_modify_watch_take(watch, seen, 64) == 1;
    if (number >= 0)
        smi_modify_watch_remove(watch, number);
    close(fd);
    return is_heard;
}
