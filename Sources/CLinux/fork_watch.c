// Which processes have made others: PERF_RECORD_FORK of every processor.
#define _GNU_SOURCE
#include "smi_forkwatch.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_PAGES 64ul // 256 KB: 8000 threads begun or ended on one processor between two looks
#define PAGE 4096ul

struct ring {
    int fd;
    struct perf_event_mmap_page *head;
};
struct smi_fork_watch {
    size_t count;
    int lost;
    struct ring rings[];
};

// struct perf_event_header and the fields of a fork record.
struct fork_record {
    uint32_t pid, parent, thread, parent_thread;
};

static int open_ring(int cpu, struct ring *ring) {
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(attributes), .config = PERF_COUNT_SW_DUMMY, .task = 1};
    ring->fd = (int)syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (ring->fd < 0)
        return -1;
    ring->head = mmap(NULL, (1 + RING_PAGES) * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (ring->head != MAP_FAILED)
        return 0;
    close(ring->fd);
    return -1;
}

smi_fork_watch *smi_fork_watch_start(void) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    smi_fork_watch *watch = calloc(1, sizeof(*watch) + (size_t)(cpus > 0 ? cpus : 0) * sizeof(struct ring));
    for (long cpu = 0; watch != NULL && cpu < cpus; cpu++) {
        if (open_ring((int)cpu, &watch->rings[watch->count]) == 0) {
            watch->count++;
            continue;
        }
        int saved = errno;
        smi_fork_watch_stop(watch);
        errno = saved;
        return NULL;
    }
    return watch;
}

void smi_fork_watch_stop(smi_fork_watch *watch) {
    for (size_t i = 0; i < watch->count; i++) {
        munmap(watch->rings[i].head, (1 + RING_PAGES) * PAGE);
        close(watch->rings[i].fd);
    }
    free(watch);
}

static void copy_out(const struct ring *ring, uint64_t at, void *out, size_t length) {
    const uint8_t *data = (const uint8_t *)ring->head + PAGE;
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)out)[i] = data[(at + i) % (RING_PAGES * PAGE)];
}

ssize_t smi_fork_watch_take(smi_fork_watch *watch, pid_t *parents, size_t capacity) {
    size_t found = 0;
    // A processor that came later is not watched.
    if (sysconf(_SC_NPROCESSORS_ONLN) != (long)watch->count)
        watch->lost = 1;
    for (size_t i = 0; i < watch->count; i++) {
        struct ring *ring = &watch->rings[i];
        uint64_t end = __atomic_load_n(&ring->head->data_head, __ATOMIC_ACQUIRE);
        uint64_t at = ring->head->data_tail;
        // The kernel says that records were lost only with the next one that fits.
        watch->lost |= end - at > RING_PAGES * PAGE - 256;
        while (at < end && found < capacity) {
            struct perf_event_header header;
            struct fork_record record;
            copy_out(ring, at, &header, sizeof(header));
            copy_out(ring, at + sizeof(header), &record, sizeof(record));
            if (header.type == PERF_RECORD_FORK && record.pid != record.parent)
                parents[found++] = (pid_t)record.parent;
            watch->lost |= header.type == PERF_RECORD_LOST;
            at += header.size;
        }
        __atomic_store_n(&ring->head->data_tail, at, __ATOMIC_RELEASE);
    }
    if (!watch->lost)
        return (ssize_t)found;
    watch->lost = 0;
    return -EOVERFLOW;
}
