// Pages in and out: put, get, drop, retain, list.
#include "pagestore_internal.h"

#include <string.h>

static void mark_dirty(smi_ps *ps, struct ps_block *block, unsigned i) {
    if (!ps_bit(block->dirty, i)) {
        ps_set_bit(block->dirty, i);
        ps->index.dirty++;
    }
}

void ps_release_content(smi_ps *ps, uint32_t id) {
    if (id == PS_ZERO) {
        ps->index.zero_pages--;
        return;
    }
    struct ps_content *content = &ps->index.contents[id];
    if (--content->refs > 0)
        return;
    ps_segment_sub(ps, content->offset, ps_record_size(content->length));
    ps_remove_content(&ps->index, id);
}

void ps_unassign(smi_ps *ps, struct ps_block *block, unsigned i, bool dirty) {
    ps_release_content(ps, block->cells[i].content);
    ps_clear_bit(block->used, i);
    block->cells[i].content = PS_NONE;
    ps->index.pages--;
    if (dirty)
        mark_dirty(ps, block, i);
}

int ps_assign(smi_ps *ps, uint64_t page, uint32_t content, uint64_t epoch, bool dirty) {
    struct ps_block *block = ps_make_block(&ps->index, page / PS_BLOCK);
    if (!block)
        return SMI_PS_NOMEM;
    unsigned i = page % PS_BLOCK;
    if (content == PS_ZERO)
        ps->index.zero_pages++;
    else
        ps->index.contents[content].refs++;
    if (ps_bit(block->used, i))
        ps_release_content(ps, block->cells[i].content);
    else
        ps->index.pages++;
    ps_set_bit(block->used, i);
    block->cells[i] = (struct ps_cell){.content = content, .epoch = epoch};
    if (dirty)
        mark_dirty(ps, block, i);
    return SMI_PS_OK;
}

// An equal content that is already stored, compared byte by byte.
static uint32_t find_duplicate(smi_ps *ps, const void *data, uint64_t hash) {
    size_t cursor;
    uint8_t stored[SMI_PS_PAGE];
    for (uint32_t id = ps_first_content(&ps->index, hash, &cursor); id != PS_NONE;
         id = ps_next_content(&ps->index, hash, &cursor))
        if (ps_read_content(ps, &ps->index.contents[id], ~0ull, stored, NULL) == SMI_PS_OK &&
            memcmp(stored, data, SMI_PS_PAGE) == 0)
            return id;
    return PS_NONE;
}

// Returns an smi_ps_put_result or an error.
static int put_page(smi_ps *ps, uint64_t page, const void *data, struct smi_ps_error *error) {
    struct ps_cell *cell = ps_find_cell(&ps->index, page);
    if (ps_is_zero(data)) {
        if (cell && cell->content == PS_ZERO)
            return SMI_PS_SAME;
        int result = ps_assign(ps, page, PS_ZERO, UINT64_MAX, true);
        return result == SMI_PS_OK ? SMI_PS_ZERO : ps_fail(error, result, page, 0);
    }
    uint64_t hash = ps_hash(data, SMI_PS_PAGE, ps->seed);
    if (cell && cell->content != PS_ZERO && ps->index.contents[cell->content].hash == hash)
        return SMI_PS_SAME;
    int kind = SMI_PS_DUPLICATE;
    uint32_t id = find_duplicate(ps, data, hash);
    if (id == PS_NONE) {
        uint64_t offset;
        uint16_t length;
        int result = ps_store_content(ps, page, data, hash, &offset, &length, error);
        if (result != SMI_PS_OK)
            return result;
        id = ps_add_content(&ps->index, hash, offset, length);
        if (id == PS_NONE) {
            ps->broken = true;
            return ps_fail(error, SMI_PS_NOMEM, page, offset);
        }
        kind = SMI_PS_STORED;
    }
    int result = ps_assign(ps, page, id, UINT64_MAX, true);
    if (result != SMI_PS_OK) {
        ps->broken = true;
        return ps_fail(error, result, page, 0);
    }
    return kind;
}

int smi_ps_put(smi_ps *ps, const uint64_t *pages, const void *data, size_t count, struct smi_ps_put_counts *counts,
               struct smi_ps_error *error) {
    int result = SMI_PS_OK;
    pthread_mutex_lock(&ps->lock);
    if (ps->broken || ps->flags & SMI_PS_READ_ONLY)
        result = ps_fail(error, ps->broken ? SMI_PS_BROKEN : SMI_PS_ARGUMENT, ~0ull, 0);
    for (size_t i = 0; i < count && result == SMI_PS_OK; i++) {
        if (pages[i] >= PS_PAGE_LIMIT) {
            result = ps_fail(error, SMI_PS_ARGUMENT, pages[i], 0);
            break;
        }
        int kind = put_page(ps, pages[i], (const uint8_t *)data + i * SMI_PS_PAGE, error);
        if (kind < 0)
            result = kind;
        else if (counts)
            counts->pages[kind]++;
    }
    pthread_mutex_unlock(&ps->lock);
    return result;
}

static bool is_held(smi_ps *ps, uint64_t page, const void *data) {
    const struct ps_cell *cell = ps_find_cell(&ps->index, page);
    if (!cell)
        return false;
    if (cell->content == PS_ZERO || ps_is_zero(data))
        return cell->content == PS_ZERO && ps_is_zero(data);
    return ps->index.contents[cell->content].hash == ps_hash(data, SMI_PS_PAGE, ps->seed);
}

size_t smi_ps_differing(smi_ps *ps, uint64_t first, const void *data, size_t count, uint64_t *out) {
    size_t found = 0;
    pthread_mutex_lock(&ps->lock);
    for (size_t i = 0; i < count; i++)
        if (!is_held(ps, first + i, (const uint8_t *)data + i * SMI_PS_PAGE))
            out[found++] = first + i;
    pthread_mutex_unlock(&ps->lock);
    return found;
}

int smi_ps_get(smi_ps *ps, uint64_t page, void *buffer, struct smi_ps_error *error) {
    int result = SMI_PS_OK;
    pthread_mutex_lock(&ps->lock);
    const struct ps_cell *cell = ps->broken ? NULL : ps_find_cell(&ps->index, page);
    if (ps->broken)
        result = ps_fail(error, SMI_PS_BROKEN, page, 0);
    else if (!cell)
        result = SMI_PS_ABSENT;
    else if (cell->content == PS_ZERO)
        memset(buffer, 0, SMI_PS_PAGE);
    else
        result = ps_read_content(ps, &ps->index.contents[cell->content], page, buffer, error);
    pthread_mutex_unlock(&ps->lock);
    return result;
}

int64_t ps_drop_locked(smi_ps *ps, uint64_t first, uint64_t end) {
    int64_t dropped = 0;
    if (first >= end)
        return 0;
    for (size_t b = ps_lower_block(&ps->index, first / PS_BLOCK); b < ps->index.block_count; b++) {
        struct ps_block *block = ps->index.blocks[b];
        uint64_t start = block->key * PS_BLOCK;
        if (start >= end)
            break;
        unsigned from = first > start ? (unsigned)(first - start) : 0;
        unsigned to = end - start < PS_BLOCK ? (unsigned)(end - start) : PS_BLOCK;
        for (unsigned i = from; i < to; i++)
            if (ps_bit(block->used, i)) {
                ps_unassign(ps, block, i, true);
                dropped++;
            }
    }
    return dropped;
}

int64_t smi_ps_drop(smi_ps *ps, uint64_t first, uint64_t count, struct smi_ps_error *error) {
    uint64_t end = first + count < first ? UINT64_MAX : first + count;
    pthread_mutex_lock(&ps->lock);
    int64_t result;
    if (ps->broken || ps->flags & SMI_PS_READ_ONLY)
        result = ps_fail(error, ps->broken ? SMI_PS_BROKEN : SMI_PS_ARGUMENT, first, 0);
    else
        result = ps_drop_locked(ps, first, end);
    pthread_mutex_unlock(&ps->lock);
    return result;
}

int64_t smi_ps_retain(smi_ps *ps, const struct smi_ps_range *ranges, size_t count, struct smi_ps_error *error) {
    int64_t result = 0;
    pthread_mutex_lock(&ps->lock);
    if (ps->broken || ps->flags & SMI_PS_READ_ONLY) {
        result = ps_fail(error, ps->broken ? SMI_PS_BROKEN : SMI_PS_ARGUMENT, ~0ull, 0);
    } else {
        uint64_t from = 0;
        for (size_t i = 0; i < count; i++) {
            result += ps_drop_locked(ps, from, ranges[i].first);
            from = ranges[i].end;
        }
        result += ps_drop_locked(ps, from, UINT64_MAX);
    }
    pthread_mutex_unlock(&ps->lock);
    return result;
}

bool smi_ps_page_epoch(smi_ps *ps, uint64_t page, uint64_t *epoch) {
    pthread_mutex_lock(&ps->lock);
    const struct ps_cell *cell = ps_find_cell(&ps->index, page);
    if (cell)
        *epoch = cell->epoch;
    pthread_mutex_unlock(&ps->lock);
    return cell != NULL;
}

size_t smi_ps_list(smi_ps *ps, uint64_t first, uint64_t after_epoch, uint64_t *out, size_t capacity) {
    size_t count = 0;
    pthread_mutex_lock(&ps->lock);
    for (size_t b = ps_lower_block(&ps->index, first / PS_BLOCK); b < ps->index.block_count && count < capacity; b++) {
        const struct ps_block *block = ps->index.blocks[b];
        uint64_t start = block->key * PS_BLOCK;
        for (unsigned i = first > start ? (unsigned)(first - start) : 0; i < PS_BLOCK && count < capacity; i++)
            if (ps_bit(block->used, i) && (after_epoch == 0 || block->cells[i].epoch > after_epoch))
                out[count++] = start + i;
    }
    pthread_mutex_unlock(&ps->lock);
    return count;
}

size_t smi_ps_absent(smi_ps *ps, const uint64_t *pages, size_t count, uint64_t *out) {
    size_t absent = 0;
    pthread_mutex_lock(&ps->lock);
    for (size_t i = 0; i < count; i++)
        if (!ps_find_cell(&ps->index, pages[i]))
            out[absent++] = pages[i];
    pthread_mutex_unlock(&ps->lock);
    return absent;
}
