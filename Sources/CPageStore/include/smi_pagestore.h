// A memory backing file: 4 KB pages keyed by page number, in one append-only log with atomic epochs.
//
// The format and its guarantees are described in docs/backing-store.md. Every function locks the store. Numbers on disk
// are little-endian.
#pragma once

#include "smi_chunk.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SMI_PS_PAGE 4096u

enum smi_ps_code {
    SMI_PS_OK = 0,
    SMI_PS_ABSENT = 1,
    SMI_PS_IO = -1,        // a system call failed: see sys_errno
    SMI_PS_FOREIGN = -2,   // not a page store, or another version of one
    SMI_PS_TRUNCATED = -3, // shorter than what was committed
    SMI_PS_CORRUPT = -4,   // a record does not match its checksum
    SMI_PS_NOMEM = -5,
    SMI_PS_ARGUMENT = -6, // an epoch that goes backwards, a page number out of range
    SMI_PS_BROKEN = -7,   // an earlier write failed: roll back first
    SMI_PS_FULL = -8,     // the log's address space is used up: copy it into a new store
    SMI_PS_MISMATCH = -9, // a delta does not fit the version of the page that this store holds
};

// Where and why; page is the page number (address >> 12) or ~0, offset the place in the file.
struct smi_ps_error {
    int code;
    int sys_errno;
    uint64_t page;
    uint64_t offset;
};

// The system calls the store makes, so that tests can record them and stop at any byte. Results as in the system calls
// (negative: errno is set); pread and pwrite may be short.
struct smi_ps_io {
    void *context;
    ssize_t (*pread)(void *context, void *buffer, size_t length, uint64_t offset);
    ssize_t (*pwrite)(void *context, const void *buffer, size_t length, uint64_t offset);
    int (*sync)(void *context);
    int (*punch)(void *context, uint64_t offset, uint64_t length);
    int (*truncate)(void *context, uint64_t length);
    int64_t (*size)(void *context);
    void (*close)(void *context);
};

// The calls for an open file; the store owns and closes the descriptor.
struct smi_ps_io smi_ps_file_io(int fd);

typedef struct smi_ps smi_ps;

enum smi_ps_flags {
    SMI_PS_READ_ONLY = 1,
    SMI_PS_NO_COMPRESSION = 2,
};

// Writes an empty store of epoch 0 over whatever the file holds. The seed makes record checksums this file's own.
smi_ps *smi_ps_create(struct smi_ps_io io, uint64_t seed, unsigned flags, struct smi_ps_error *error);
// Opens at the last whole epoch; what a crash left behind it is cut off. NULL: see error. Closes io on failure.
smi_ps *smi_ps_open(struct smi_ps_io io, unsigned flags, struct smi_ps_error *error);
void smi_ps_close(smi_ps *ps);

enum smi_ps_put_result { SMI_PS_SAME = 0, SMI_PS_ZERO = 1, SMI_PS_DUPLICATE = 2, SMI_PS_STORED = 3 };
struct smi_ps_put_counts {
    uint64_t pages[4]; // by smi_ps_put_result
};

// Stores pages[i] = data[i * 4096 ...]; on an error nothing after the failing page is stored.
int smi_ps_put(smi_ps *ps, const uint64_t *pages, const void *data, size_t count, struct smi_ps_put_counts *counts,
               struct smi_ps_error *error);
// Which of the pages first ... first+count differ from what the store holds of them; their numbers go to out. Compares
// by hash, as smi_ps_put does. Returns how many.
size_t smi_ps_differing(smi_ps *ps, uint64_t first, const void *data, size_t count, uint64_t *out);
// Reads one page: SMI_PS_OK, SMI_PS_ABSENT, or an error that names the page and the offset.
int smi_ps_get(smi_ps *ps, uint64_t page, void *buffer, struct smi_ps_error *error);
// Removes count pages from first on; returns how many there were.
int64_t smi_ps_drop(smi_ps *ps, uint64_t first, uint64_t count, struct smi_ps_error *error);

// Sorted, disjoint page ranges [first, end).
struct smi_ps_range {
    uint64_t first;
    uint64_t end;
};
// Removes every page outside the ranges; returns how many there were.
int64_t smi_ps_retain(smi_ps *ps, const struct smi_ps_range *ranges, size_t count, struct smi_ps_error *error);
// The epoch in which a page was last changed (UINT64_MAX until committed); false if there is no such page.
bool smi_ps_page_epoch(smi_ps *ps, uint64_t page, uint64_t *epoch);
// Lists pages >= first changed after the given epoch, in order; returns how many were written to out.
size_t smi_ps_list(smi_ps *ps, uint64_t first, uint64_t after_epoch, uint64_t *out, size_t capacity);

// Which of these pages the store does not hold; their numbers go to out. Returns how many.
size_t smi_ps_absent(smi_ps *ps, const uint64_t *pages, size_t count, uint64_t *out);

enum smi_ps_commit_flags {
    SMI_PS_SYNC = 1,  // survives the machine, not only the process
    SMI_PS_QUICK = 2, // inside a freeze: no compaction, no index checkpoint
};
// Makes everything since the last commit one epoch; epoch numbers only grow.
int smi_ps_commit(smi_ps *ps, uint64_t epoch, unsigned flags, struct smi_ps_error *error);
// Forgets everything since the last commit.
int smi_ps_rollback(smi_ps *ps, struct smi_ps_error *error);
// Moves up to max_bytes of live records out of sparse segments. Returns the bytes moved; 0: the store is dense enough.
// Space comes back with the next commit, which is made here when no pages wait for one.
int64_t smi_ps_compact(smi_ps *ps, uint64_t max_bytes, unsigned flags, struct smi_ps_error *error);
// Copies the committed pages of one store into another, empty one, and commits there as the same epoch.
int smi_ps_copy(smi_ps *from, smi_ps *to, struct smi_ps_error *error);

struct smi_ps_stats {
    uint64_t epoch;
    uint64_t pages;           // held, zero pages included
    uint64_t zero_pages;      // of these, held without data
    uint64_t contents;        // different contents stored
    uint64_t live_bytes;      // records that are in use
    uint64_t allocated_bytes; // of the file
    uint64_t log_end;         // the log's address space used
    bool pending;             // changes wait for a commit
};
void smi_ps_get_stats(smi_ps *ps, struct smi_ps_stats *stats);

// ---- deltas: pages on their way between two stores that share an epoch ----

enum smi_pd_codec { SMI_PD_NONE = 0, SMI_PD_LZ4 = 1, SMI_PD_ZSTD = 2 };
struct smi_pd_options {
    uint64_t base_epoch; // the newest epoch the other side holds whole; 0: none
    int codec;           // smi_pd_codec
    int level;           // of zstd
};
// Upper bound of one frame's size.
size_t smi_pd_bound(size_t count);
// Encodes pages (ascending) as one frame: each as a XOR against the version in ps if the other side holds that one,
// as a copy of the same page of parent (may be NULL) if it is equal there, or whole. Call before storing the pages.
ssize_t smi_pd_encode(smi_ps *ps, smi_ps *parent, const uint64_t *pages, const void *data, size_t count,
                      const struct smi_pd_options *options, void *out, size_t capacity, struct smi_ps_error *error);
// Verifies a frame against ps (and parent) and stores its pages; nothing is stored if anything does not match.
// Returns the number of pages; pages (may be NULL, else room for 4096) gets which.
ssize_t smi_pd_apply(smi_ps *ps, smi_ps *parent, const void *frame, size_t length, uint64_t *pages,
                     struct smi_ps_error *error);
