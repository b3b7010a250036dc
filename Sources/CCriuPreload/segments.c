// System V segments that the agent has made and filled before the restore, in an IPC namespace of its own.
//
// The images directory may have a file "segments": a line "namespace PID FD", the namespace as descriptor FD of process
// PID, and lines "ID SIZE". CRIU's root task opens "ipcns-var-N.img" as the first of its namespace's images: it moves
// into that namespace there. Where CRIU then asks for a segment that is listed it gets the one that is there. A listed
// segment that is not as it should be ends the restore: the images do not have its pages.
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_IMAGE "ipcns-var-"
#define NEXT_ID "/proc/sys/kernel/shm_next_id"

// The file "segments" once this process is in the namespace; NULL in every other.
static char *segments;

// 0 where there is nothing to join, or -errno.
int preload_join_segments(int images, const char *image) {
    int pid, number;
    char path[sizeof(PRELOAD_UP) + 64];
    if (segments != NULL || strncmp(image, FIRST_IMAGE, strlen(FIRST_IMAGE)) != 0)
        return 0;
    char *list = preload_read_list(images, "segments");
    if (list == NULL)
        return 0;
    long result = -EINVAL;
    if (sscanf(list, "namespace %d %d", &pid, &number) == 2) {
        snprintf(path, sizeof(path), PRELOAD_UP "/proc/%d/fd/%d", pid, number);
        result = preload_syscall(SYS_openat, images, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    }
    if (result >= 0) {
        int fd = (int)result;
        result = preload_syscall(SYS_setns, fd, CLONE_NEWIPC, 0, 0, 0, 0);
        preload_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    }
    if (result == 0)
        segments = list;
    else
        free(list);
    return (int)result;
}

static int is_listed(int id, size_t size) {
    int listed;
    size_t bytes;
    for (char *line = segments ? strchr(segments, '\n') : NULL; line != NULL; line = strchr(line + 1, '\n'))
        if (sscanf(line + 1, "%d %zu", &listed, &bytes) == 2 && listed == id)
            return bytes == size ? 1 : -EINVAL;
    return 0;
}

// The identifier that CRIU wants for the segment that it makes next; -1 for none.
static int wanted_id(void) {
    char text[16] = {0};
    int fd = (int)preload_syscall(SYS_openat, AT_FDCWD, (long)NEXT_ID, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        return -1;
    long length = preload_syscall(SYS_read, fd, (long)text, sizeof(text) - 1, 0, 0, 0);
    preload_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    return length > 0 ? atoi(text) : -1;
}

static long make(int key, size_t size, int flags) {
    return preload_syscall(SYS_shmget, key, (long)size, flags, 0, 0, 0);
}

// One that lost its key, as it was marked for removal meanwhile: keys cannot be changed, so it is made again.
static long make_again(int id, int key, size_t size, int flags) {
    void *old = shmat(id, NULL, SHM_RDONLY);
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (old == (void *)-1 || copy == MAP_FAILED)
        return -errno;
    memcpy(copy, old, size);
    // The identifier is free once nobody is attached.
    shmctl(id, IPC_RMID, NULL);
    shmdt(old);
    long made = make(key, size, flags);
    void *new = made == id ? shmat(id, NULL, 0) : (void *)-1;
    if (new != (void *)-1) {
        memcpy(new, copy, size);
        shmdt(new);
    } else if (made >= 0)
        made = -EEXIST;
    munmap(copy, size);
    return made;
}

long preload_get_segment(int key, size_t size, int flags) {
    int id = segments != NULL ? wanted_id() : -1;
    int listed = id >= 0 ? is_listed(id, size) : 0;
    if (listed <= 0)
        return listed < 0 ? listed : make(key, size, flags);
    struct shmid_ds state;
    if (shmctl(id, IPC_STAT, &state) != 0)
        return -errno;
    if (state.shm_segsz != size)
        return -EINVAL;
    if (state.shm_perm.__key != key)
        return make_again(id, key, size, flags);
    // What CRIU is about to ask for by number must not be what a program is given next: this one takes another number.
    long spare = make(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    if (spare < 0 || shmctl((int)spare, IPC_RMID, NULL) != 0)
        return spare < 0 ? spare : -errno;
    state.shm_perm.mode = (unsigned short)(flags & 0777);
    return shmctl(id, IPC_SET, &state) == 0 ? id : -errno;
}
