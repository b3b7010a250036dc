// The store's life: create, open, roll back, close; finding the newest whole epoch.
#include "pagestore_internal.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

static smi_ps *make(struct smi_ps_io io, unsigned flags, struct smi_ps_error *error) {
    smi_ps *ps = calloc(1, sizeof(*ps));
    if (ps) {
        ps->io = io;
        ps->flags = flags;
        pthread_mutex_init(&ps->lock, NULL);
        ps->buffer = malloc(PS_BUFFER);
        ps->lz4_state = malloc((size_t)LZ4_sizeofState());
        ps_unload(ps);
    }
    if (ps && ps->buffer && ps->lz4_state)
        return ps;
    ps_fail(error, SMI_PS_NOMEM, ~0ull, 0);
    if (ps)
        smi_ps_close(ps);
    else
        io.close(io.context);
    return NULL;
}

void smi_ps_close(smi_ps *ps) {
    ps_index_free(&ps->index);
    free(ps->segments);
    free(ps->chain);
    free(ps->buffer);
    free(ps->lz4_state);
    ps->io.close(ps->io.context);
    pthread_mutex_destroy(&ps->lock);
    free(ps);
}

smi_ps *smi_ps_create(struct smi_ps_io io, uint64_t seed, unsigned flags, struct smi_ps_error *error) {
    smi_ps *ps = make(io, flags, error);
    if (!ps)
        return NULL;
    ps->seed = seed;
    if (io.truncate(io.context, 0) == 0 && ps_write_header(ps, error) == SMI_PS_OK)
        return ps;
    if (!ps->broken)
        ps_fail(error, SMI_PS_IO, ~0ull, 0);
    smi_ps_close(ps);
    return NULL;
}

// Walks whole, verified records from offset on. Returns the end of the last commit found (0: none) and its place.
struct tail {
    uint64_t commit_offset;
    uint64_t end;
};

static bool payload_valid(const smi_ps *ps, const struct ps_record *record, const uint8_t *payload) {
    uint8_t page[SMI_PS_PAGE];
    if (record->type == PS_PAD)
        return true;
    if (record->type == PS_DATA)
        return record->length <= SMI_PS_PAGE && ps_decode(ps, record, payload, page) == SMI_PS_OK;
    return ps_hash(payload, record->length, ps->seed) == record->hash;
}

static struct tail scan_tail(smi_ps *ps, uint64_t offset, uint64_t size) {
    struct tail tail = {0};
    uint8_t *payload = malloc(PS_SEGMENT);
    while (payload) {
        uint64_t left = PS_SEGMENT - offset % PS_SEGMENT;
        struct ps_record record;
        if (left < sizeof(record)) {
            offset += left;
            continue;
        }
        if (offset + sizeof(record) > size || ps_read(ps, &record, sizeof(record), offset, NULL) != SMI_PS_OK ||
            !ps_record_valid(ps, &record, offset))
            break;
        uint64_t whole = ps_record_size(record.length);
        if (whole > left || offset + sizeof(record) + record.length > size ||
            ps_read(ps, payload, record.length, offset + sizeof(record), NULL) != SMI_PS_OK ||
            !payload_valid(ps, &record, payload))
            break;
        if (record.type == PS_COMMIT && offset + whole <= size)
            tail = (struct tail){offset, offset + whole};
        offset += whole;
    }
    free(payload);
    return tail;
}

static bool is_blank(const struct ps_slot *slot) {
    const struct ps_slot blank = {0};
    return memcmp(slot, &blank, sizeof(blank)) == 0;
}

static int find_epoch(smi_ps *ps, struct smi_ps_error *error) {
    struct ps_slot slots[2];
    const uint64_t places[2] = {PS_SLOT_A, PS_SLOT_B};
    int best = -1;
    bool damaged = false;
    int64_t size = ps->io.size(ps->io.context);
    if (size < 0)
        return ps_fail(error, SMI_PS_IO, ~0ull, 0);
    if (size < PS_LOG_START)
        return ps_fail(error, SMI_PS_TRUNCATED, ~0ull, (uint64_t)size);
    for (int i = 0; i < 2; i++) {
        int result = ps_read(ps, &slots[i], sizeof(slots[i]), places[i], error);
        if (result != SMI_PS_OK)
            return result;
        if (!ps_slot_valid(ps, &slots[i]))
            damaged |= !is_blank(&slots[i]) || i == 0;
        else if (best < 0 || slots[i].sequence > slots[best].sequence)
            best = i;
    }
    if (best < 0)
        return ps_fail(error, SMI_PS_CORRUPT, ~0ull, PS_SLOT_A);
    const struct ps_slot *slot = &slots[best];
    if (slot->end > (uint64_t)size)
        return ps_fail(error, SMI_PS_TRUNCATED, ~0ull, (uint64_t)size);
    ps->sequence = slot->sequence;
    ps->commit_offset = slot->commit_offset;
    ps->end = slot->end;
    struct tail tail = scan_tail(ps, slot->end, (uint64_t)size);
    if (tail.commit_offset != 0) {
        ps->commit_offset = tail.commit_offset;
        ps->end = tail.end;
    } else if (damaged) {
        // A slot that was being written when the machine stopped leaves its commit record in the log. Without one, a
        // slot was damaged later, and what the other slot says may be out of date.
        return ps_fail(error, SMI_PS_CORRUPT, ~0ull, places[1 - best]);
    }
    return SMI_PS_OK;
}

int ps_load(smi_ps *ps, struct smi_ps_error *error) {
    ps_unload(ps);
    int result = find_epoch(ps, error);
    if (result != SMI_PS_OK)
        return result;
    ps->flushed = ps->committed_end = ps->end;
    if (!ps_segment_add(ps, ps->end, 0))
        return ps_fail(error, SMI_PS_NOMEM, ~0ull, 0);
    result = ps_apply_chain(ps, ps->commit_offset, error);
    if (result != SMI_PS_OK || ps->flags & SMI_PS_READ_ONLY)
        return result;
    // Left-overs of an epoch that was never committed must not be mistaken for part of a later one.
    if (ps->io.size(ps->io.context) > (int64_t)ps->end && ps->io.truncate(ps->io.context, ps->end) != 0)
        return ps_fail(error, SMI_PS_IO, ~0ull, ps->end);
    return ps_punch_dead(ps, error);
}

smi_ps *smi_ps_open(struct smi_ps_io io, unsigned flags, struct smi_ps_error *error) {
    smi_ps *ps = make(io, flags, error);
    if (!ps)
        return NULL;
    if (ps_read_header(ps, error) == SMI_PS_OK && ps_load(ps, error) == SMI_PS_OK)
        return ps;
    smi_ps_close(ps);
    return NULL;
}

int smi_ps_rollback(smi_ps *ps, struct smi_ps_error *error) {
    pthread_mutex_lock(&ps->lock);
    int result = ps_load(ps, error);
    ps->broken = result != SMI_PS_OK;
    pthread_mutex_unlock(&ps->lock);
    return result;
}

int smi_ps_commit(smi_ps *ps, uint64_t epoch, unsigned flags, struct smi_ps_error *error) {
    pthread_mutex_lock(&ps->lock);
    int result = SMI_PS_OK;
    if (!(flags & SMI_PS_QUICK) && !ps->broken && !(ps->flags & SMI_PS_READ_ONLY)) {
        int64_t moved = ps_compact_locked(ps, UINT64_MAX, error);
        result = moved < 0 ? (int)moved : SMI_PS_OK;
    }
    if (result == SMI_PS_OK)
        result = ps_commit_locked(ps, epoch, flags, error);
    pthread_mutex_unlock(&ps->lock);
    return result;
}

int64_t smi_ps_compact(smi_ps *ps, uint64_t max_bytes, unsigned flags, struct smi_ps_error *error) {
    pthread_mutex_lock(&ps->lock);
    int64_t moved;
    if (ps->broken || ps->flags & SMI_PS_READ_ONLY) {
        moved = ps_fail(error, ps->broken ? SMI_PS_BROKEN : SMI_PS_ARGUMENT, ~0ull, 0);
    } else {
        moved = ps_compact_locked(ps, max_bytes, error);
        if (moved > 0 && ps->index.dirty == 0) {
            int result = ps_commit_locked(ps, ps->epoch, flags & ~(unsigned)SMI_PS_QUICK, error);
            if (result != SMI_PS_OK)
                moved = result;
        }
    }
    pthread_mutex_unlock(&ps->lock);
    return moved;
}

int smi_ps_copy(smi_ps *from, smi_ps *to, struct smi_ps_error *error) {
    uint64_t pages[64], next = 0;
    uint8_t data[SMI_PS_PAGE];
    struct smi_ps_stats stats;
    smi_ps_get_stats(from, &stats);
    size_t count;
    while ((count = smi_ps_list(from, next, 0, pages, 64)) > 0) {
        for (size_t i = 0; i < count; i++) {
            int result = smi_ps_get(from, pages[i], data, error);
            if (result == SMI_PS_OK)
                result = smi_ps_put(to, &pages[i], data, 1, NULL, error);
            if (result != SMI_PS_OK)
                return result;
        }
        next = pages[count - 1] + 1;
    }
    return smi_ps_commit(to, stats.epoch, SMI_PS_SYNC, error);
}

void smi_ps_get_stats(smi_ps *ps, struct smi_ps_stats *stats) {
    pthread_mutex_lock(&ps->lock);
    *stats = (struct smi_ps_stats){.epoch = ps->epoch,
                                   .pages = ps->index.pages,
                                   .zero_pages = ps->index.zero_pages,
                                   .contents = ps->index.live_contents,
                                   .live_bytes = ps->live_bytes,
                                   .allocated_bytes = ps_allocated(ps),
                                   .log_end = ps->end,
                                   .pending = ps->index.dirty > 0};
    pthread_mutex_unlock(&ps->lock);
}
