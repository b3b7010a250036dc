// Commit: the index's changes, a commit record, then one of two slots that point to it.
#include "pagestore_internal.h"

#include <stdlib.h>
#include <string.h>

struct writer {
    smi_ps *ps;
    struct smi_ps_error *error;
    int result;
    uint64_t epoch;
    size_t used;
    uint32_t total, chunks, capacity;
    uint64_t *offsets;
    struct ps_entry entries[PS_CHUNK_ENTRIES];
};

int ps_chain_add(smi_ps *ps, uint64_t offset, uint64_t payload) {
    if (ps->chain_count == ps->chain_capacity) {
        size_t capacity = ps->chain_capacity ? ps->chain_capacity * 2 : 64;
        struct ps_extent *grown = realloc(ps->chain, capacity * sizeof(*grown));
        if (!grown)
            return 0;
        ps->chain = grown;
        ps->chain_capacity = capacity;
    }
    ps->chain[ps->chain_count++] = (struct ps_extent){offset, ps_record_size(payload)};
    return 1;
}

static void write_chunk(struct writer *w) {
    if (w->used == 0 || w->result != SMI_PS_OK)
        return;
    smi_ps *ps = w->ps;
    if (w->chunks == w->capacity) {
        uint32_t capacity = w->capacity ? w->capacity * 2 : 16;
        uint64_t *grown = realloc(w->offsets, capacity * sizeof(*grown));
        if (!grown) {
            w->result = ps_fail(w->error, SMI_PS_NOMEM, ~0ull, ps->end);
            return;
        }
        w->offsets = grown;
        w->capacity = capacity;
    }
    uint32_t length = (uint32_t)(w->used * sizeof(struct ps_entry));
    struct ps_record record = {
        .type = PS_INDEX, .length = length, .page = w->epoch, .hash = ps_hash(w->entries, length, ps->seed)};
    w->result = ps_append(ps, record, w->entries, &w->offsets[w->chunks], w->error);
    if (w->result == SMI_PS_OK && !ps_chain_add(ps, w->offsets[w->chunks], length))
        w->result = ps_fail(w->error, SMI_PS_NOMEM, ~0ull, ps->end);
    w->chunks++;
    w->total += (uint32_t)w->used;
    w->used = 0;
}

static void add_entry(struct writer *w, struct ps_entry entry) {
    w->entries[w->used++] = entry;
    if (w->used == PS_CHUNK_ENTRIES)
        write_chunk(w);
}

static void add_cell(struct writer *w, const struct ps_block *block, unsigned i) {
    struct ps_entry entry = {.page = block->key * PS_BLOCK + i, .kind = PS_ENTRY_GONE};
    if (ps_bit(block->used, i)) {
        const struct ps_cell *cell = &block->cells[i];
        uint64_t age = cell->epoch == UINT64_MAX ? 0 : w->epoch - cell->epoch;
        entry.epoch_delta = age > UINT32_MAX ? UINT32_MAX : (uint32_t)age;
        entry.kind = PS_ENTRY_ZERO;
        if (cell->content != PS_ZERO) {
            const struct ps_content *content = &w->ps->index.contents[cell->content];
            entry.kind = PS_ENTRY_DATA;
            entry.offset = content->offset;
            entry.hash = content->hash;
            entry.length = content->length;
        }
    }
    add_entry(w, entry);
}

static bool is_moved(const struct ps_content *content) {
    return content->offset != 0 && content->committed_offset != 0 && content->committed_offset != content->offset;
}

// Everything, or what changed since the last commit; moves first, so that pages find contents where they are now.
static void write_entries(struct writer *w, bool full) {
    const struct ps_index *index = &w->ps->index;
    for (size_t i = 0; !full && i < index->moved_count; i++) {
        const struct ps_content *content = &index->contents[index->moved[i]];
        if (is_moved(content))
            add_entry(w, (struct ps_entry){.page = content->committed_offset,
                                           .offset = content->offset,
                                           .hash = content->hash,
                                           .length = content->length,
                                           .kind = PS_ENTRY_MOVED});
    }
    for (size_t b = 0; b < index->block_count; b++) {
        const struct ps_block *block = index->blocks[b];
        const uint64_t *wanted = full ? block->used : block->dirty;
        for (unsigned i = 0; i < PS_BLOCK; i++)
            if (ps_bit(wanted, i))
                add_cell(w, block, i);
    }
    write_chunk(w);
}

static int write_commit_record(struct writer *w, bool full, uint64_t *offset) {
    smi_ps *ps = w->ps;
    size_t length = sizeof(struct ps_commit) + w->chunks * sizeof(uint64_t);
    if (length > PS_MAX_PAYLOAD)
        return ps_fail(w->error, SMI_PS_FULL, ~0ull, ps->end);
    uint8_t *payload = malloc(length);
    if (!payload)
        return ps_fail(w->error, SMI_PS_NOMEM, ~0ull, ps->end);
    struct ps_commit commit = {.epoch = w->epoch,
                               .previous = full ? 0 : ps->commit_offset,
                               .pages = ps->index.pages,
                               .entries = w->total,
                               .chunks = w->chunks};
    memcpy(payload, &commit, sizeof(commit));
    if (w->chunks > 0)
        memcpy(payload + sizeof(commit), w->offsets, w->chunks * sizeof(uint64_t));
    struct ps_record record = {
        .type = PS_COMMIT, .length = (uint32_t)length, .page = w->epoch, .hash = ps_hash(payload, length, ps->seed)};
    int result = ps_append(ps, record, payload, offset, w->error);
    if (result == SMI_PS_OK && !ps_chain_add(ps, *offset, length))
        result = ps_fail(w->error, SMI_PS_NOMEM, ~0ull, ps->end);
    free(payload);
    return result;
}

static int write_slot(smi_ps *ps, uint64_t epoch, uint64_t commit_offset, unsigned flags, struct smi_ps_error *error) {
    int result = ps_flush(ps, error);
    if (result != SMI_PS_OK)
        return result;
    if (flags & SMI_PS_SYNC && ps->io.sync(ps->io.context) != 0)
        return ps_fail(error, SMI_PS_IO, ~0ull, ps->end);
    struct ps_slot slot = {
        .sequence = ps->sequence + 1, .epoch = epoch, .commit_offset = commit_offset, .end = ps->end};
    ps_seal_slot(ps, &slot);
    result = ps_write(ps, &slot, sizeof(slot), slot.sequence % 2 ? PS_SLOT_B : PS_SLOT_A, error);
    if (result != SMI_PS_OK)
        return result;
    if (flags & SMI_PS_SYNC && ps->io.sync(ps->io.context) != 0)
        return ps_fail(error, SMI_PS_IO, ~0ull, ps->end);
    ps->sequence = slot.sequence;
    ps->commit_offset = commit_offset;
    ps->committed_end = ps->end;
    ps->epoch = epoch;
    return SMI_PS_OK;
}

// The pages' and contents' state after a commit that is in its slot.
static void settle(smi_ps *ps, uint64_t epoch) {
    struct ps_index *index = &ps->index;
    for (size_t b = 0; b < index->block_count && index->dirty > 0; b++) {
        struct ps_block *block = index->blocks[b];
        for (unsigned i = 0; i < PS_BLOCK; i++) {
            if (!ps_bit(block->dirty, i))
                continue;
            struct ps_cell *cell = &block->cells[i];
            if (!ps_bit(block->used, i))
                continue;
            if (cell->epoch == UINT64_MAX)
                cell->epoch = epoch;
            if (cell->content != PS_ZERO)
                index->contents[cell->content].committed_offset = index->contents[cell->content].offset;
        }
        memset(block->dirty, 0, sizeof(block->dirty));
    }
    for (size_t i = 0; i < index->moved_count; i++) {
        struct ps_content *content = &index->contents[index->moved[i]];
        content->moved = false;
        if (is_moved(content))
            content->committed_offset = content->offset;
    }
    index->moved_count = 0;
    index->dirty = 0;
}

static int write_epoch(smi_ps *ps, uint64_t epoch, unsigned flags, struct smi_ps_error *error) {
    struct writer *w = calloc(1, sizeof(*w));
    if (!w)
        return ps_fail(error, SMI_PS_NOMEM, ~0ull, ps->end);
    w->ps = ps, w->error = error, w->epoch = epoch;
    uint64_t limit = ps->index.pages > 4096 ? ps->index.pages : 4096;
    bool full = ps->commit_offset == 0 ||
                (!(flags & SMI_PS_QUICK) &&
                 (ps->want_full || ps->chain_entries + ps->index.dirty > limit || ps->chain_commits >= 256));
    size_t old_chain = ps->chain_count;
    uint64_t offset = 0;
    write_entries(w, full);
    int result = w->result;
    if (result == SMI_PS_OK)
        result = write_commit_record(w, full, &offset);
    if (result == SMI_PS_OK)
        result = write_slot(ps, epoch, offset, flags, error);
    uint32_t total = w->total;
    free(w->offsets);
    free(w);
    if (result != SMI_PS_OK) {
        ps->broken = true;
        return result;
    }
    if (full) {
        for (size_t i = 0; i < old_chain; i++)
            ps_segment_sub(ps, ps->chain[i].offset, ps->chain[i].size);
        memmove(ps->chain, ps->chain + old_chain, (ps->chain_count - old_chain) * sizeof(*ps->chain));
        ps->chain_count -= old_chain;
        ps->chain_entries = 0, ps->chain_commits = 0, ps->want_full = false;
    } else {
        ps->chain_entries += total, ps->chain_commits++;
    }
    settle(ps, epoch);
    return SMI_PS_OK;
}

int ps_commit_locked(smi_ps *ps, uint64_t epoch, unsigned flags, struct smi_ps_error *error) {
    if (ps->broken)
        return ps_fail(error, SMI_PS_BROKEN, ~0ull, 0);
    if (ps->flags & SMI_PS_READ_ONLY || epoch < ps->epoch || epoch == UINT64_MAX ||
        (epoch == ps->epoch && ps->index.dirty > 0))
        return ps_fail(error, SMI_PS_ARGUMENT, ~0ull, 0);
    int result = write_epoch(ps, epoch, flags, error);
    if (result != SMI_PS_OK || flags & SMI_PS_QUICK)
        return result;
    return ps_punch_dead(ps, error);
}
