// Which objects of shared memory were changed with write(2) and its kin, not through a mapping (inotify(7)).
#pragma once

#include <stddef.h>
#include <sys/types.h>

// An inotify instance (close-on-exec, non-blocking) or -errno.
int smi_modify_watch_open(void);
// Watches an open object; the number of the watch or -errno. The object stays until the watch is removed.
int smi_modify_watch_add(int watch, int fd);
void smi_modify_watch_remove(int watch, int number);
// Takes out the watches that saw a change, some perhaps more than once. Returns how many, at most capacity (then call
// again), or -EOVERFLOW where some were lost: any may have.
ssize_t smi_modify_watch_take(int watch, int *numbers, size_t capacity);
// Whether a watch that has no other objects yet tells of changes through the very descriptor that memfd_create(2) gave:
// since Linux 6.14 it does not, as that is no file that was opened by name. 1 or 0.
int smi_modify_watch_hears_creators(int watch);
