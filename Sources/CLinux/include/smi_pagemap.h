// Another process's mappings and pages: /proc/PID/maps, PAGEMAP_SCAN, process_vm_readv.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum smi_vma_flags {
    SMI_VMA_SHARED = 1,
    SMI_VMA_FILE = 2,    // a file is mapped (memfd and System V segments are files too)
    SMI_VMA_SPECIAL = 4, // vdso, vvar, vsyscall, hugetlb: not ours to carry
    SMI_VMA_WRITE = 8,
    SMI_VMA_EXECUTE = 16,
};
struct smi_vma {
    uint64_t start, end, offset, inode;
    uint32_t major, minor;
    uint32_t flags;
    uint32_t name_offset; // into the text; 0: no name
};
// Reads the mappings of a process. Both results are the caller's to free. Returns how many, or -errno.
ssize_t smi_maps_read(pid_t pid, struct smi_vma **vmas, char **text);
// Whether there is a mapping with exactly this range: 1, 0, or -errno. maps is /proc/PID/maps, opened.
int smi_maps_has(int maps, uint64_t start, uint64_t end);
// Whether two processes have one memory (kcmp(2)): 1, 0, or -errno.
int smi_same_memory(pid_t a, pid_t b);
void smi_maps_free(struct smi_vma *vmas, char *text);

struct smi_region { // as struct page_region of the kernel
    uint64_t start, end, categories;
};
enum smi_category { SMI_PAGE_PRESENT = 8, SMI_PAGE_SWAPPED = 16 };
enum smi_scan_mode {
    SMI_SCAN_PRESENT = 0, // private pages with content
    SMI_SCAN_WRITTEN = 1, // of these, those written since the last such scan, which are protected again
    // All pages of shared memory that may have been written since the last such scan, present or not: a page that was
    // written and then dropped from this mapping (MADV_DONTNEED) is among them. All are protected again.
    SMI_SCAN_SHARED = 2,
    // Added to the first two for a mapping of no file: the kernel then need not look at every page's descriptor for
    // page cache, which takes a cache miss a page (9.3 instead of 3.1 ms for 1 GB).
    SMI_SCAN_ANONYMOUS = 4,
};
// Scans [start, end) of /proc/PID/pagemap for private pages that hold content (zero pages and page cache left out).
// *stopped is where it got to (the vector may be full). Returns regions, or -errno (-EPERM: a mapping not registered).
ssize_t smi_pagemap_scan(int pagemap, int mode, uint64_t start, uint64_t end, struct smi_region *out, size_t capacity,
                         uint64_t *stopped);

// Reads the pages of the regions, from *position on, until max_pages are in buffer; pages that cannot be read (gone
// meanwhile, guard pages) are left out. numbers gets the page numbers. *position: region index, then address within.
struct smi_read_position {
    size_t region;
    uint64_t address; // 0: the region's start
};
ssize_t smi_pages_read(pid_t pid, const struct smi_region *regions, size_t count, struct smi_read_position *position,
                       uint64_t *numbers, void *buffer, size_t max_pages);
