// Memory that restored processes inherit: writing it in another process, and telling which of it is still shared.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "smi_pagemap.h"

// Writes count pages from buffer to the given addresses of a process (process_vm_writev(2)). 0, or -errno.
int smi_pages_write(pid_t pid, const uint64_t *addresses, size_t count, const void *buffer);

// Which present pages of [start, end) nobody else has mapped (bit 56 of /proc/PID/pagemap): a page that was inherited
// by fork and written since is among them. Returns how many regions, or -errno (-ENOSPC: more than capacity).
ssize_t smi_pagemap_exclusive(int pagemap, uint64_t start, uint64_t end, struct smi_region *out, size_t capacity);

// An order, as Sources/CCriuPreload/inherit.c takes it: the first `count` of the spans, addresses in bytes.
enum { SMI_INHERIT_MAP = 1, SMI_INHERIT_DROP = 2, SMI_INHERIT_MOST_SPANS = 4096 };
struct smi_inherit_order {
    uint32_t operation, count;
    struct smi_inherit_span {
        uint64_t start, length;
    } spans[SMI_INHERIT_MOST_SPANS];
};
// Gives an order and waits for its answer, at most so many milliseconds: 0, or -errno.
int smi_inherit_order(int socket, int operation, const uint64_t *starts, const uint64_t *lengths, size_t count,
                      int patience);
