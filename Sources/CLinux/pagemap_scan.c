// Mappings, written and present pages, and page contents of another process.
#define _GNU_SOURCE
#include "smi_pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096ull

// Newer than the headers of Debian 12 (Linux 6.7).
struct scan_argument {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_argument)
#define SCAN_WP_MATCHING 1u
#define SCAN_CHECK_WPASYNC 2u
#define CATEGORY_WRITTEN 2u
#define CATEGORY_FILE 4u
#define CATEGORY_PRESENT 8u
#define CATEGORY_SWAPPED 16u
#define CATEGORY_PFNZERO 32u

ssize_t smi_pagemap_scan(int pagemap, int mode, uint64_t start, uint64_t end, struct smi_region *out, size_t capacity,
                         uint64_t *stopped) {
    const uint64_t without = CATEGORY_PFNZERO | (mode & SMI_SCAN_ANONYMOUS ? 0 : CATEGORY_FILE);
    mode &= ~SMI_SCAN_ANONYMOUS;
    // Holes must not match: they would become markers and be dumped as pages.
    struct scan_argument scan = {.size = sizeof(scan),
                                 .start = start,
                                 .end = end,
                                 .vec = (uint64_t)(uintptr_t)out,
                                 .vec_len = capacity,
                                 .category_inverted = without,
                                 .category_mask = without,
                                 .category_anyof_mask = CATEGORY_PRESENT | CATEGORY_SWAPPED};
    if (mode == SMI_SCAN_WRITTEN) {
        scan.flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC;
        scan.category_mask |= CATEGORY_WRITTEN;
    }
    if (mode == SMI_SCAN_SHARED) {
        scan.flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC;
        scan.category_inverted = 0;
        scan.category_mask = CATEGORY_WRITTEN;
        scan.category_anyof_mask = 0;
    }
    scan.return_mask = CATEGORY_PRESENT | CATEGORY_SWAPPED;
    int found = ioctl(pagemap, SCAN_IOCTL, &scan);
    if (found < 0)
        return -errno;
    *stopped = scan.walk_end;
    return found;
}

// Reads pages until one cannot be read; the runs are cut so that they fit one call.
static ssize_t read_runs(pid_t pid, struct iovec *remote, size_t runs, void *buffer, size_t pages) {
    struct iovec local = {buffer, pages * PAGE};
    ssize_t got = process_vm_readv(pid, &local, 1, remote, runs, 0);
    return got < 0 ? -errno : got / (ssize_t)PAGE;
}

ssize_t smi_pages_read(pid_t pid, const struct smi_region *regions, size_t count, struct smi_read_position *position,
                       uint64_t *numbers, void *buffer, size_t max_pages) {
    size_t done = 0;
    while (done < max_pages && position->region < count) {
        struct iovec remote[64];
        size_t runs = 0, wanted = 0;
        struct smi_read_position at = *position;
        while (runs < 64 && done + wanted < max_pages && at.region < count) {
            uint64_t from = at.address ? at.address : regions[at.region].start;
            uint64_t pages = (regions[at.region].end - from) / PAGE;
            if (pages > max_pages - done - wanted)
                pages = max_pages - done - wanted;
            for (uint64_t i = 0; i < pages; i++)
                numbers[done + wanted + i] = from / PAGE + i;
            remote[runs++] = (struct iovec){(void *)from, pages * PAGE};
            wanted += pages;
            at.address = from + pages * PAGE;
            if (at.address == regions[at.region].end)
                at = (struct smi_read_position){at.region + 1, 0};
        }
        ssize_t got = read_runs(pid, remote, runs, (uint8_t *)buffer + done * PAGE, wanted);
        if (got == -ESRCH)
            return -ESRCH;
        if (got < 0)
            got = 0;
        done += (size_t)got;
        if ((size_t)got == wanted) {
            *position = at;
            continue;
        }
        // The page after those that were read is gone: go on behind it.
        uint64_t bad = numbers[done] * PAGE;
        size_t region = position->region;
        while (bad < regions[region].start || bad >= regions[region].end)
            region++;
        *position = (struct smi_read_position){region, bad + PAGE};
        if (position->address == regions[region].end)
            *position = (struct smi_read_position){region + 1, 0};
    }
    return (ssize_t)done;
}
