// Compaction: live records move out of sparse segments, which go back to the file system after the next commit.
#include "pagestore_internal.h"

#include <stdlib.h>
#include <string.h>

// The file may hold this much before work starts, and this much after it: 1.6 and 1.4 times what is live, plus a little
// for the tail. Moving costs at most what lies between, so that the file stays below twice the live bytes.
static uint64_t upper_bound(uint64_t live) {
    return live / 10 * 16 + 2 * PS_SEGMENT;
}
static uint64_t lower_bound(uint64_t live) {
    return live / 10 * 14 + PS_SEGMENT;
}

struct candidate {
    uint32_t live;
    uint32_t segment;
};

static int by_live(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->live != y->live ? (x->live < y->live ? -1 : 1) : (x->segment < y->segment ? -1 : 1);
}

// Marks the emptiest segments, enough to come down to the lower bound, no more than max_bytes of live records.
static size_t choose(smi_ps *ps, uint64_t max_bytes, uint8_t *victims) {
    size_t tail = ps->end / PS_SEGMENT, count = 0, chosen = 0;
    uint64_t dead = 0;
    struct candidate *list = malloc((ps->segment_count + 1) * sizeof(*list));
    if (!list)
        return 0;
    for (size_t i = 0; i < ps->segment_count && i < tail; i++) {
        if (ps->segments[i] == 0)
            dead += PS_SEGMENT;
        else if (ps->segments[i] != PS_PUNCHED)
            list[count++] = (struct candidate){ps->segments[i], (uint32_t)i};
    }
    uint64_t held = ps_allocated(ps) - dead, moved = 0;
    if (held > upper_bound(ps->live_bytes)) {
        qsort(list, count, sizeof(*list), by_live);
        for (; chosen < count && held > lower_bound(ps->live_bytes); chosen++) {
            uint64_t live = list[chosen].live;
            if (live > PS_SEGMENT / 8 * 7 || (chosen > 0 && moved + live > max_bytes))
                break;
            victims[list[chosen].segment] = 1;
            moved += live;
            held -= PS_SEGMENT - live;
        }
    }
    free(list);
    return chosen;
}

static int move_content(smi_ps *ps, uint32_t id, uint64_t *moved, struct smi_ps_error *error) {
    struct ps_content *content = &ps->index.contents[id];
    uint8_t bytes[sizeof(struct ps_record) + SMI_PS_PAGE];
    struct ps_record record;
    int result = ps_read(ps, bytes, sizeof(record) + content->length, content->offset, error);
    if (result != SMI_PS_OK)
        return result;
    memcpy(&record, bytes, sizeof(record));
    if (!ps_record_valid(ps, &record, content->offset) || record.type != PS_DATA || record.hash != content->hash ||
        record.length != content->length)
        return ps_fail(error, SMI_PS_CORRUPT, record.page, content->offset);
    uint64_t offset, size = ps_record_size(content->length);
    result = ps_append(ps, record, bytes + sizeof(record), &offset, error);
    if (result != SMI_PS_OK)
        return result;
    if (!ps_note_moved(&ps->index, id))
        return ps_fail(error, SMI_PS_NOMEM, record.page, offset);
    ps_segment_sub(ps, content->offset, size);
    content->offset = offset;
    *moved += size;
    return SMI_PS_OK;
}

int64_t ps_compact_locked(smi_ps *ps, uint64_t max_bytes, struct smi_ps_error *error) {
    uint8_t *victims = calloc(1, ps->segment_count + 1);
    if (!victims)
        return ps_fail(error, SMI_PS_NOMEM, ~0ull, 0);
    uint64_t moved = 0;
    int result = SMI_PS_OK;
    if (choose(ps, max_bytes, victims) > 0) {
        for (uint32_t id = 0; id < ps->index.content_count && result == SMI_PS_OK; id++) {
            uint64_t offset = ps->index.contents[id].offset;
            if (offset != 0 && victims[offset / PS_SEGMENT] == 1)
                result = move_content(ps, id, &moved, error);
            // A damaged record stays where it is, to be refused when it is read; it must not hold up new epochs.
            if (result == SMI_PS_CORRUPT)
                result = SMI_PS_OK;
        }
        // Records of the index cannot move; listing everything anew frees the old ones.
        for (size_t i = 0; i < ps->chain_count; i++)
            if (victims[ps->chain[i].offset / PS_SEGMENT] == 1)
                ps->want_full = true;
        if (moved == 0 && ps->want_full)
            moved = 1;
    }
    free(victims);
    if (result != SMI_PS_OK) {
        ps->broken = true;
        return result;
    }
    return (int64_t)moved;
}
