// Shared memory (shared anonymous, memfd, System V) that the agent carries itself.
//
// Dump: SMIRUN_CRIU_CARRY names a directory of the agent's; its file "shared" has a line "device MAJOR MINOR" and then
// lines "file INODE" or "segment INODE". CRIU 4.2 finds an object's pages with lseek(SEEK_DATA): these have none.
//
// Restore: the images directory may have a file "filled" with lines "INODE FILLED PID FD": the object that was INODE at
// the dump is in descriptor FD of process PID already, as an object with the inode FILLED. CRIU makes a memfd and then
// opens "pagemap-shmem-INODE.img" to fill it; there the one takes the other's place. The processes being restored are
// in namespaces of their own, but the images directory is not: the agent's /proc is reached from it.
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define IMAGE "pagemap-shmem-%lu.img"

char *preload_read_list(int directory, const char *path) {
    int fd = (int)preload_syscall(SYS_openat, directory, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    struct stat status;
    char *text = NULL;
    if (fd >= 0 && fstat(fd, &status) == 0 && (text = calloc(1, (size_t)status.st_size + 1)) != NULL) {
        long got = preload_syscall(SYS_read, fd, (long)text, status.st_size, 0, 0, 0);
        if (got != status.st_size) {
            free(text);
            text = NULL;
        }
    }
    if (fd >= 0)
        preload_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    return text;
}

static int is_segment(int fd) {
    char link[64], path[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    return length > 5 && memcmp(path, "/SYSV", 5) == 0;
}

int preload_is_carried_shared(int fd, int whence) {
    const char *directory = getenv("SMIRUN_CRIU_CARRY");
    struct stat status;
    char path[4200], kind[16];
    if (whence != SEEK_DATA || directory == NULL || *directory == 0 || fstat(fd, &status) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/shared", directory);
    char *list = preload_read_list(AT_FDCWD, path);
    unsigned device[2];
    int carried = 0;
    if (list != NULL && sscanf(list, "device %u %u", &device[0], &device[1]) == 2 &&
        makedev(device[0], device[1]) == status.st_dev) {
        const char *wanted = is_segment(fd) ? "segment" : "file";
        unsigned long inode;
        for (char *line = strchr(list, '\n'); line != NULL && !carried; line = strchr(line + 1, '\n'))
            carried =
                sscanf(line + 1, "%15s %lu", kind, &inode) == 2 && inode == status.st_ino && strcmp(kind, wanted) == 0;
    }
    free(list);
    return carried;
}

// The memfd that this process made last: CRIU fills one before it makes the next.
static int latest = -1;

void preload_note_memfd(int fd) {
    latest = fd;
}

// The agent's descriptor in the place of CRIU's, where it is what it is said to be.
static void replace(int images, const char *line, unsigned long inode) {
    unsigned long listed, filled;
    int pid, number;
    char path[sizeof(PRELOAD_UP) + 64];
    struct stat mine, theirs;
    if (sscanf(line, "%lu %lu %d %d", &listed, &filled, &pid, &number) != 4 || listed != inode)
        return;
    snprintf(path, sizeof(path), PRELOAD_UP "/proc/%d/fd/%d", pid, number);
    int fd = (int)preload_syscall(SYS_openat, images, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
    if (fd < 0)
        return;
    if (fstat(latest, &mine) == 0 && fstat(fd, &theirs) == 0 && mine.st_dev == theirs.st_dev &&
        mine.st_size == theirs.st_size && theirs.st_ino == filled) {
        // One that takes no seals stays so.
        int seals = fcntl(latest, F_GET_SEALS);
        if (seals > 0)
            fcntl(fd, F_ADD_SEALS, seals);
        dup3(fd, latest, 0);
    }
    preload_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

void preload_fill_shared(int images, const char *image) {
    unsigned long inode;
    if (latest < 0 || sscanf(image, IMAGE, &inode) != 1)
        return;
    char *list = preload_read_list(images, "filled");
    for (char *line = list; line != NULL && *line != 0; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        replace(images, line, inode);
    free(list);
    latest = -1;
}
