// The page store's parts, shared between its files only.
#pragma once

#include "smi_pagestore.h"

#include <pthread.h>

#define PS_FILE_MAGIC 0x3153474150494d53ull // "SMIPAGS1"
#define PS_SLOT_MAGIC 0x31544f4c53494d53ull // "SMISLOT1"
#define PS_RECORD_MAGIC 0x5053u
#define PS_VERSION 1u
#define PS_SLOT_A 1024u
#define PS_SLOT_B 2048u
#define PS_LOG_START 4096u
#define PS_SEGMENT (256u * 1024u)
#define PS_LOG_LIMIT (1ull << 40)
#define PS_PAGE_LIMIT (1ull << 52)
#define PS_BUFFER PS_SEGMENT   // holds the largest record
#define PS_WRITE (64u * 1024u) // written at a time, but for larger records: a fault waits behind no more pages
#define PS_CHUNK_ENTRIES 2000u
#define PS_MAX_PAYLOAD (PS_SEGMENT - PS_LOG_START - 64u)
#define PS_BLOCK 512u
#define PS_NONE UINT32_MAX
#define PS_ZERO (UINT32_MAX - 1)
#define PS_PUNCHED UINT32_MAX

enum ps_record_type { PS_DATA = 1, PS_INDEX = 2, PS_COMMIT = 3, PS_PAD = 4 };
enum ps_codec { PS_RAW = 0, PS_LZ4 = 1 };
enum ps_entry_kind { PS_ENTRY_ZERO = 0, PS_ENTRY_GONE = 1, PS_ENTRY_DATA = 2, PS_ENTRY_MOVED = 3 };

struct ps_file_header {
    uint64_t magic;
    uint32_t version;
    uint32_t page_size;
    uint64_t seed;
    uint64_t check;
};

struct ps_slot {
    uint64_t magic;
    uint64_t sequence;
    uint64_t epoch;
    uint64_t commit_offset;
    uint64_t end;
    uint64_t check;
};

struct ps_record {
    uint16_t magic;
    uint8_t type;
    uint8_t codec;
    uint32_t length; // of the payload
    uint64_t page;
    uint64_t hash; // data: of the page's content; otherwise of the payload
    uint32_t reserved;
    uint32_t check; // of the fields before, the file's seed and the record's offset
};

struct ps_entry {
    uint64_t page; // moved: the old offset
    uint64_t offset;
    uint64_t hash;
    uint32_t epoch_delta; // commit's epoch minus the page's
    uint16_t length;
    uint16_t kind;
};

struct ps_commit {
    uint64_t epoch;
    uint64_t previous; // offset of the commit before; 0 when this one lists everything
    uint64_t pages;
    uint32_t entries;
    uint32_t chunks; // followed by as many u64 offsets
};

struct ps_content {
    uint64_t hash;
    uint64_t offset;
    uint64_t committed_offset; // where the committed index believes it to be; 0: not in it
    uint32_t refs;
    uint16_t length; // of the payload
    bool moved;
};

struct ps_cell {
    uint32_t content; // id, PS_ZERO or PS_NONE
    uint32_t reserved;
    uint64_t epoch;
};

struct ps_block {
    uint64_t key;
    uint64_t used[PS_BLOCK / 64];
    uint64_t dirty[PS_BLOCK / 64];
    struct ps_cell cells[PS_BLOCK];
};

struct ps_index {
    struct ps_block **blocks; // by key
    size_t block_count, block_capacity, last;
    struct ps_content *contents;
    uint32_t content_count, content_capacity, content_free; // free list through refs
    uint32_t *buckets;                                      // content ids, open addressing
    size_t bucket_count, bucket_used;
    uint32_t *moved;
    size_t moved_count, moved_capacity;
    uint64_t pages, zero_pages, live_contents, dirty;
};

struct ps_extent {
    uint64_t offset;
    uint64_t size;
};

struct smi_ps {
    pthread_mutex_t lock;
    struct smi_ps_io io;
    unsigned flags;
    bool broken;
    uint64_t seed;
    uint64_t sequence;
    uint64_t epoch;
    uint64_t commit_offset; // of the last commit record, 0: none
    uint64_t committed_end;
    uint64_t chain_entries, chain_commits; // since the last commit that lists everything
    struct ps_extent *chain;               // the index's own records
    size_t chain_count, chain_capacity;
    bool want_full;   // the next commit lists everything, so that old index records can go
    uint64_t end;     // where the next record goes
    uint64_t flushed; // everything below is in the file
    uint8_t *buffer;
    size_t buffer_used;
    uint32_t *segments; // live bytes of each, or PS_PUNCHED
    size_t segment_count, segment_capacity;
    uint64_t live_bytes, punched_segments;
    struct ps_index index;
    void *lz4_state;
};

static inline bool ps_bit(const uint64_t *words, unsigned i) {
    return words[i / 64] >> (i % 64) & 1;
}
static inline void ps_set_bit(uint64_t *words, unsigned i) {
    words[i / 64] |= 1ull << (i % 64);
}
static inline void ps_clear_bit(uint64_t *words, unsigned i) {
    words[i / 64] &= ~(1ull << (i % 64));
}
static inline uint64_t ps_record_size(uint64_t payload) {
    return (sizeof(struct ps_record) + payload + 7) & ~7ull;
}

int ps_fail(struct smi_ps_error *error, int code, uint64_t page, uint64_t offset);
uint64_t ps_hash(const void *data, size_t length, uint64_t seed);
bool ps_is_zero(const void *page);

// format
void ps_seal_record(const smi_ps *ps, struct ps_record *record, uint64_t offset);
bool ps_record_valid(const smi_ps *ps, const struct ps_record *record, uint64_t offset);
void ps_seal_slot(const smi_ps *ps, struct ps_slot *slot);
bool ps_slot_valid(const smi_ps *ps, const struct ps_slot *slot);
int ps_read_header(smi_ps *ps, struct smi_ps_error *error);
int ps_write_header(smi_ps *ps, struct smi_ps_error *error);

// log
int ps_read(smi_ps *ps, void *buffer, size_t length, uint64_t offset, struct smi_ps_error *error);
int ps_write(smi_ps *ps, const void *buffer, size_t length, uint64_t offset, struct smi_ps_error *error);
int ps_flush(smi_ps *ps, struct smi_ps_error *error);
int ps_append(smi_ps *ps, struct ps_record record, const void *payload, uint64_t *offset, struct smi_ps_error *error);
int ps_segment_add(smi_ps *ps, uint64_t offset, uint64_t bytes);
void ps_segment_sub(smi_ps *ps, uint64_t offset, uint64_t bytes);
int ps_punch_dead(smi_ps *ps, struct smi_ps_error *error);
int ps_decode(const smi_ps *ps, const struct ps_record *record, const uint8_t *payload, void *page);
// Reads and verifies a data record: the page's content goes to page (4 KB).
int ps_read_content(smi_ps *ps, const struct ps_content *content, uint64_t number, void *page,
                    struct smi_ps_error *error);
int ps_store_content(smi_ps *ps, uint64_t page, const void *data, uint64_t hash, uint64_t *offset, uint16_t *length,
                     struct smi_ps_error *error);

// index
void ps_index_free(struct ps_index *index);
struct ps_block *ps_find_block(struct ps_index *index, uint64_t key);
struct ps_block *ps_make_block(struct ps_index *index, uint64_t key);
struct ps_cell *ps_find_cell(struct ps_index *index, uint64_t page);
size_t ps_lower_block(const struct ps_index *index, uint64_t key);
uint32_t ps_find_content(const struct ps_index *index, uint64_t hash, uint64_t offset);
uint32_t ps_first_content(const struct ps_index *index, uint64_t hash, size_t *cursor);
uint32_t ps_next_content(const struct ps_index *index, uint64_t hash, size_t *cursor);
uint32_t ps_add_content(struct ps_index *index, uint64_t hash, uint64_t offset, uint16_t length);
void ps_remove_content(struct ps_index *index, uint32_t id);
int ps_note_moved(struct ps_index *index, uint32_t id);

// pages
int ps_assign(smi_ps *ps, uint64_t page, uint32_t content, uint64_t epoch, bool dirty);
void ps_unassign(smi_ps *ps, struct ps_block *block, unsigned i, bool dirty);
void ps_release_content(smi_ps *ps, uint32_t content);
int64_t ps_drop_locked(smi_ps *ps, uint64_t first, uint64_t end);

// load, commit, compaction
int ps_load(smi_ps *ps, struct smi_ps_error *error);
void ps_unload(smi_ps *ps);
int ps_chain_add(smi_ps *ps, uint64_t offset, uint64_t payload);
int ps_apply_chain(smi_ps *ps, uint64_t commit_offset, struct smi_ps_error *error);
int ps_commit_locked(smi_ps *ps, uint64_t epoch, unsigned flags, struct smi_ps_error *error);
int64_t ps_compact_locked(smi_ps *ps, uint64_t max_bytes, struct smi_ps_error *error);
uint64_t ps_allocated(const smi_ps *ps);
