// Opening: the newest whole epoch, from a slot, or from a commit record whose slot was not written any more.
#include "pagestore_internal.h"

#include <stdlib.h>
#include <string.h>

void ps_unload(smi_ps *ps) {
    ps_index_free(&ps->index);
    ps->segment_count = 0;
    ps->live_bytes = ps->punched_segments = 0;
    ps->chain_count = 0;
    ps->chain_entries = ps->chain_commits = 0;
    ps->want_full = false;
    ps->buffer_used = 0;
    ps->epoch = ps->commit_offset = ps->sequence = 0;
    ps->end = ps->flushed = ps->committed_end = PS_LOG_START;
    ps->broken = false;
}

// Reads a record of the index and checks its payload; *payload is the caller's to free.
static int read_index_record(smi_ps *ps, uint64_t offset, int type, struct ps_record *record, uint8_t **payload,
                             struct smi_ps_error *error) {
    *payload = NULL;
    if (offset < PS_LOG_START || offset % 8 != 0 || offset + sizeof(*record) > ps->end)
        return ps_fail(error, SMI_PS_CORRUPT, ~0ull, offset);
    int result = ps_read(ps, record, sizeof(*record), offset, error);
    if (result != SMI_PS_OK)
        return result;
    if (!ps_record_valid(ps, record, offset) || record->type != type ||
        offset + sizeof(*record) + record->length > ps->end)
        return ps_fail(error, SMI_PS_CORRUPT, ~0ull, offset);
    *payload = malloc(record->length + 1);
    if (!*payload)
        return ps_fail(error, SMI_PS_NOMEM, ~0ull, offset);
    result = ps_read(ps, *payload, record->length, offset + sizeof(*record), error);
    if (result == SMI_PS_OK && ps_hash(*payload, record->length, ps->seed) != record->hash)
        result = ps_fail(error, SMI_PS_CORRUPT, ~0ull, offset);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (result == SMI_PS_CORRUPT)
        result = SMI_PS_OK;
#endif
    return result;
}

static int apply_data(smi_ps *ps, const struct ps_entry *entry, uint64_t epoch) {
    struct ps_index *index = &ps->index;
    if (entry->offset < PS_LOG_START || entry->offset % 8 != 0 || entry->length == 0 || entry->length > SMI_PS_PAGE ||
        entry->offset + ps_record_size(entry->length) > ps->end)
        return SMI_PS_CORRUPT;
    uint32_t id = ps_find_content(index, entry->hash, entry->offset);
    if (id == PS_NONE) {
        id = ps_add_content(index, entry->hash, entry->offset, entry->length);
        if (id == PS_NONE)
            return SMI_PS_NOMEM;
        index->contents[id].committed_offset = entry->offset;
        if (!ps_segment_add(ps, entry->offset, ps_record_size(entry->length)))
            return SMI_PS_NOMEM;
    } else if (index->contents[id].length != entry->length) {
        return SMI_PS_CORRUPT;
    }
    return ps_assign(ps, entry->page, id, epoch, false);
}

static int apply_move(smi_ps *ps, const struct ps_entry *entry) {
    uint32_t id = ps_find_content(&ps->index, entry->hash, entry->page);
    if (id == PS_NONE || ps->index.contents[id].length != entry->length || entry->offset < PS_LOG_START ||
        entry->offset % 8 != 0 || entry->offset + ps_record_size(entry->length) > ps->end)
        return SMI_PS_CORRUPT;
    uint64_t size = ps_record_size(entry->length);
    ps_segment_sub(ps, entry->page, size);
    ps->index.contents[id].offset = ps->index.contents[id].committed_offset = entry->offset;
    return ps_segment_add(ps, entry->offset, size) ? SMI_PS_OK : SMI_PS_NOMEM;
}

static int apply_entry(smi_ps *ps, const struct ps_entry *entry, uint64_t commit_epoch) {
    if (entry->kind == PS_ENTRY_MOVED)
        return apply_move(ps, entry);
    if (entry->page >= PS_PAGE_LIMIT || entry->epoch_delta > commit_epoch)
        return SMI_PS_CORRUPT;
    uint64_t epoch = commit_epoch - entry->epoch_delta;
    if (entry->kind == PS_ENTRY_ZERO)
        return ps_assign(ps, entry->page, PS_ZERO, epoch, false);
    if (entry->kind == PS_ENTRY_DATA)
        return apply_data(ps, entry, epoch);
    if (entry->kind != PS_ENTRY_GONE)
        return SMI_PS_CORRUPT;
    struct ps_block *block = ps_find_block(&ps->index, entry->page / PS_BLOCK);
    if (block && ps_bit(block->used, entry->page % PS_BLOCK))
        ps_unassign(ps, block, entry->page % PS_BLOCK, false);
    return SMI_PS_OK;
}

static int apply_chunk(smi_ps *ps, uint64_t offset, uint64_t epoch, uint32_t *entries, struct smi_ps_error *error) {
    struct ps_record record;
    uint8_t *payload;
    int result = read_index_record(ps, offset, PS_INDEX, &record, &payload, error);
    if (result == SMI_PS_OK && record.length % sizeof(struct ps_entry) != 0)
        result = ps_fail(error, SMI_PS_CORRUPT, ~0ull, offset);
    size_t count = result == SMI_PS_OK ? record.length / sizeof(struct ps_entry) : 0;
    for (size_t i = 0; i < count && result == SMI_PS_OK; i++) {
        struct ps_entry entry;
        memcpy(&entry, payload + i * sizeof(entry), sizeof(entry));
        result = apply_entry(ps, &entry, epoch);
        if (result != SMI_PS_OK)
            ps_fail(error, result, entry.page, offset);
    }
    *entries += (uint32_t)count;
    free(payload);
    if (result == SMI_PS_OK &&
        (!ps_chain_add(ps, offset, record.length) || !ps_segment_add(ps, offset, ps_record_size(record.length))))
        result = ps_fail(error, SMI_PS_NOMEM, ~0ull, offset);
    return result;
}

static int apply_commit(smi_ps *ps, uint64_t offset, struct ps_commit *commit, struct smi_ps_error *error) {
    struct ps_record record;
    uint8_t *payload;
    int result = read_index_record(ps, offset, PS_COMMIT, &record, &payload, error);
    if (result == SMI_PS_OK) {
        if (record.length >= sizeof(*commit))
            memcpy(commit, payload, sizeof(*commit));
        if (record.length < sizeof(*commit) ||
            record.length != sizeof(*commit) + (uint64_t)commit->chunks * sizeof(uint64_t))
            result = ps_fail(error, SMI_PS_CORRUPT, ~0ull, offset);
    }
    uint32_t entries = 0;
    for (uint32_t i = 0; result == SMI_PS_OK && i < commit->chunks; i++) {
        uint64_t chunk;
        memcpy(&chunk, payload + sizeof(*commit) + i * sizeof(chunk), sizeof(chunk));
        result = apply_chunk(ps, chunk, commit->epoch, &entries, error);
    }
    free(payload);
    if (result == SMI_PS_OK && (entries != commit->entries || ps->index.pages != commit->pages))
        result = ps_fail(error, SMI_PS_CORRUPT, ~0ull, offset);
    if (result == SMI_PS_OK &&
        (!ps_chain_add(ps, offset, record.length) || !ps_segment_add(ps, offset, ps_record_size(record.length))))
        result = ps_fail(error, SMI_PS_NOMEM, ~0ull, offset);
    if (result == SMI_PS_OK && commit->previous != 0) {
        ps->chain_entries += entries;
        ps->chain_commits++;
    }
    return result;
}

// Follows the commits back to the one that lists everything, then applies them in the order they were made.
int ps_apply_chain(smi_ps *ps, uint64_t commit_offset, struct smi_ps_error *error) {
    uint64_t *offsets = NULL;
    size_t count = 0, capacity = 0;
    int result = SMI_PS_OK;
    for (uint64_t at = commit_offset; at != 0 && result == SMI_PS_OK;) {
        struct ps_record record;
        struct ps_commit commit = {0};
        uint8_t *payload;
        result = read_index_record(ps, at, PS_COMMIT, &record, &payload, error);
        if (result == SMI_PS_OK && record.length >= sizeof(commit))
            memcpy(&commit, payload, sizeof(commit));
        free(payload);
        if (result != SMI_PS_OK)
            break;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            uint64_t *grown = realloc(offsets, capacity * sizeof(*grown));
            if (!grown) {
                result = ps_fail(error, SMI_PS_NOMEM, ~0ull, at);
                break;
            }
            offsets = grown;
        }
        offsets[count++] = at;
        if (commit.previous >= at) // an older commit lies further down: no loops
            result = ps_fail(error, SMI_PS_CORRUPT, ~0ull, at);
        at = commit.previous;
    }
    struct ps_commit commit = {0};
    for (size_t i = count; i > 0 && result == SMI_PS_OK; i--) {
        uint64_t before = commit.epoch;
        result = apply_commit(ps, offsets[i - 1], &commit, error);
        if (result == SMI_PS_OK && commit.epoch < before)
            result = ps_fail(error, SMI_PS_CORRUPT, ~0ull, offsets[i - 1]);
    }
    free(offsets);
    if (result == SMI_PS_OK)
        ps->epoch = commit.epoch;
    return result;
}
