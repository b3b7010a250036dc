// Memory that restored processes inherit from CRIU.
#define _GNU_SOURCE
#include "smi_inherit.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096ull
#define PRESENT (1ull << 63)
#define EXCLUSIVE (1ull << 56)

enum { BATCH = 512 }; // below IOV_MAX

int smi_pages_write(pid_t pid, const uint64_t *addresses, size_t count, const void *buffer) {
    struct iovec places[BATCH];
    const char *data = buffer;
    while (count > 0) {
        size_t length = 0, n = count < BATCH ? count : BATCH;
        size_t used = 0;
        for (size_t i = 0; i < n; i++) {
            // Pages that lie together are one piece.
            if (used > 0 && (uint64_t)(uintptr_t)places[used - 1].iov_base + places[used - 1].iov_len == addresses[i])
                places[used - 1].iov_len += PAGE;
            else
                places[used++] = (struct iovec){(void *)(uintptr_t)addresses[i], PAGE};
            length += PAGE;
        }
        struct iovec from = {(void *)(uintptr_t)data, length};
        ssize_t done = process_vm_writev(pid, &from, 1, places, used, 0);
        if (done < 0)
            return -errno;
        if ((size_t)done != length)
            return -EFAULT;
        data += length;
        addresses += n;
        count -= n;
    }
    return 0;
}

ssize_t smi_pagemap_exclusive(int pagemap, uint64_t start, uint64_t end, struct smi_region *out, size_t capacity) {
    uint64_t entries[512];
    size_t used = 0;
    for (uint64_t at = start; at < end;) {
        size_t count = (end - at) / PAGE < 512 ? (size_t)((end - at) / PAGE) : 512;
        ssize_t got = pread(pagemap, entries, count * sizeof(*entries), (off_t)(at / PAGE * sizeof(*entries)));
        if (got != (ssize_t)(count * sizeof(*entries)))
            return got < 0 ? -errno : -EIO;
        for (size_t i = 0; i < count; i++, at += PAGE) {
            if ((entries[i] & (PRESENT | EXCLUSIVE)) != (PRESENT | EXCLUSIVE))
                continue;
            if (used > 0 && out[used - 1].end == at) {
                out[used - 1].end = at + PAGE;
                continue;
            }
            if (used == capacity)
                return -ENOSPC;
            out[used++] = (struct smi_region){.start = at, .end = at + PAGE};
        }
    }
    return (ssize_t)used;
}

static int await_answer(int socket, int patience) {
    struct pollfd file = {.fd = socket, .events = POLLIN};
    int64_t result;
    int ready;
    do
        ready = poll(&file, 1, patience);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0)
        return ready == 0 ? -ETIMEDOUT : -errno;
    ssize_t got = recv(socket, &result, sizeof(result), MSG_DONTWAIT);
    if (got != (ssize_t)sizeof(result))
        return got < 0 ? -errno : -EPIPE;
    return (int)result;
}

int smi_inherit_order(int socket, int operation, const uint64_t *starts, const uint64_t *lengths, size_t count,
                      int patience) {
    struct smi_inherit_order *order = malloc(sizeof(*order));
    if (!order)
        return -ENOMEM;
    int result = 0;
    while (count > 0 && result == 0) {
        size_t n = count < SMI_INHERIT_MOST_SPANS ? count : SMI_INHERIT_MOST_SPANS;
        order->operation = (uint32_t)operation;
        order->count = (uint32_t)n;
        for (size_t i = 0; i < n; i++) {
            order->spans[i].start = starts[i];
            order->spans[i].length = lengths[i];
        }
        size_t size = 2 * sizeof(uint32_t) + n * sizeof(order->spans[0]);
        result = send(socket, order, size, MSG_NOSIGNAL) == (ssize_t)size ? await_answer(socket, patience) : -errno;
        starts += n;
        lengths += n;
        count -= n;
    }
    free(order);
    return result;
}
