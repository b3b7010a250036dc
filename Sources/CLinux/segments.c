// System V segments of a namespace that is being prepared. Namespaces belong to threads: each step has one of its own,
// which ends with it.
#define _GNU_SOURCE
#include "smi_segments.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

struct step {
    int space, id, key;
    uint64_t size;
    int result;
};

static int run(void *(*body)(void *), struct step *step) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, body, step);
    if (error != 0)
        return -error;
    pthread_join(thread, NULL);
    return step->result;
}

static void *start(void *argument) {
    struct step *step = argument;
    step->result = unshare(CLONE_NEWIPC) == 0 ? open("/proc/thread-self/ns/ipc", O_RDONLY | O_CLOEXEC) : -1;
    if (step->result < 0)
        step->result = -errno;
    return NULL;
}

int smi_segments_start(void) {
    struct step step = {0};
    return run(start, &step);
}

// The next segment gets this identifier, sequence number included, where its slot is free.
static int choose(int id) {
    char text[16];
    int length = snprintf(text, sizeof(text), "%d", id);
    int fd = open("/proc/sys/kernel/shm_next_id", O_WRONLY | O_CLOEXEC);
    int result = fd >= 0 && write(fd, text, (size_t)length) == length ? 0 : -errno;
    if (fd >= 0)
        close(fd);
    return result;
}

// The memory by its name among this process's mappings: a file like every other of the kernel's tmpfs.
static int open_memory(int id, uint64_t size) {
    void *memory = shmat(id, NULL, 0);
    if (memory == (void *)-1)
        return -errno;
    char path[80];
    uint64_t end = (uint64_t)(uintptr_t)memory + (size + 4095) / 4096 * 4096;
    snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)memory, (unsigned long)end);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOATIME);
    int result = fd >= 0 ? fd : -errno;
    shmdt(memory);
    return result;
}

static int add_here(const struct step *step) {
    int result = choose(step->id);
    if (result != 0)
        return result;
    int id = shmget(step->key, step->size, IPC_CREAT | IPC_EXCL | 0600);
    if (id < 0)
        return -errno;
    result = id == step->id ? open_memory(id, step->size) : -EEXIST;
    if (result < 0)
        shmctl(id, IPC_RMID, NULL);
    return result;
}

static void *add(void *argument) {
    struct step *step = argument;
    step->result = setns(step->space, CLONE_NEWIPC) == 0 ? add_here(step) : -errno;
    return NULL;
}

int smi_segments_add(int space, int id, int key, uint64_t size) {
    struct step step = {.space = space, .id = id, .key = key, .size = size};
    return run(add, &step);
}

static void *remove_segment(void *argument) {
    struct step *step = argument;
    step->result = setns(step->space, CLONE_NEWIPC) == 0 && shmctl(step->id, IPC_RMID, NULL) == 0 ? 0 : -errno;
    return NULL;
}

int smi_segments_remove(int space, int id) {
    struct step step = {.space = space, .id = id};
    return run(remove_segment, &step);
}
