// The index in memory: pages in blocks of 512 (2 MB of addresses), contents by hash.
#include "pagestore_internal.h"

#include <stdlib.h>
#include <string.h>

void ps_index_free(struct ps_index *index) {
    for (size_t i = 0; i < index->block_count; i++)
        free(index->blocks[i]);
    free(index->blocks);
    free(index->contents);
    free(index->buckets);
    free(index->moved);
    memset(index, 0, sizeof(*index));
}

// ---- pages ----

size_t ps_lower_block(const struct ps_index *index, uint64_t key) {
    size_t low = 0, high = index->block_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (index->blocks[middle]->key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct ps_block *ps_find_block(struct ps_index *index, uint64_t key) {
    if (index->last < index->block_count && index->blocks[index->last]->key == key)
        return index->blocks[index->last];
    size_t i = ps_lower_block(index, key);
    if (i == index->block_count || index->blocks[i]->key != key)
        return NULL;
    index->last = i;
    return index->blocks[i];
}

struct ps_block *ps_make_block(struct ps_index *index, uint64_t key) {
    struct ps_block *block = ps_find_block(index, key);
    if (block)
        return block;
    if (index->block_count == index->block_capacity) {
        size_t capacity = index->block_capacity ? index->block_capacity * 2 : 16;
        struct ps_block **grown = realloc(index->blocks, capacity * sizeof(*grown));
        if (!grown)
            return NULL;
        index->blocks = grown;
        index->block_capacity = capacity;
    }
    block = calloc(1, sizeof(*block));
    if (!block)
        return NULL;
    block->key = key;
    size_t i = ps_lower_block(index, key);
    memmove(index->blocks + i + 1, index->blocks + i, (index->block_count - i) * sizeof(*index->blocks));
    index->blocks[i] = block;
    index->block_count++;
    index->last = i;
    return block;
}

struct ps_cell *ps_find_cell(struct ps_index *index, uint64_t page) {
    struct ps_block *block = ps_find_block(index, page / PS_BLOCK);
    unsigned i = page % PS_BLOCK;
    return block && ps_bit(block->used, i) ? &block->cells[i] : NULL;
}

// ---- contents ----

static size_t home(const struct ps_index *index, uint64_t hash) {
    return (size_t)(hash ^ hash >> 32) & (index->bucket_count - 1);
}

uint32_t ps_first_content(const struct ps_index *index, uint64_t hash, size_t *cursor) {
    if (index->bucket_count == 0)
        return PS_NONE;
    *cursor = home(index, hash) + index->bucket_count - 1;
    return ps_next_content(index, hash, cursor);
}

uint32_t ps_next_content(const struct ps_index *index, uint64_t hash, size_t *cursor) {
    size_t mask = index->bucket_count - 1;
    for (size_t i = (*cursor + 1) & mask;; i = (i + 1) & mask) {
        uint32_t id = index->buckets[i];
        if (id == PS_NONE)
            return PS_NONE;
        if (index->contents[id].hash == hash) {
            *cursor = i;
            return id;
        }
    }
}

uint32_t ps_find_content(const struct ps_index *index, uint64_t hash, uint64_t offset) {
    size_t cursor;
    uint32_t id = ps_first_content(index, hash, &cursor);
    while (id != PS_NONE && index->contents[id].offset != offset)
        id = ps_next_content(index, hash, &cursor);
    return id;
}

static void bucket_insert(struct ps_index *index, uint32_t id) {
    size_t i = home(index, index->contents[id].hash);
    while (index->buckets[i] != PS_NONE)
        i = (i + 1) & (index->bucket_count - 1);
    index->buckets[i] = id;
}

static bool grow_buckets(struct ps_index *index) {
    size_t count = index->bucket_count ? index->bucket_count * 2 : 256;
    uint32_t *fresh = malloc(count * sizeof(*fresh));
    if (!fresh)
        return false;
    memset(fresh, 0xff, count * sizeof(*fresh));
    uint32_t *old = index->buckets;
    size_t old_count = index->bucket_count;
    index->buckets = fresh;
    index->bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        if (old[i] != PS_NONE)
            bucket_insert(index, old[i]);
    free(old);
    return true;
}

uint32_t ps_add_content(struct ps_index *index, uint64_t hash, uint64_t offset, uint16_t length) {
    if ((index->bucket_used + 1) * 2 > index->bucket_count && !grow_buckets(index))
        return PS_NONE;
    uint32_t id;
    if (index->content_free) {
        id = index->content_free - 1;
        index->content_free = index->contents[id].refs;
    } else {
        if (index->content_count == index->content_capacity) {
            uint32_t capacity = index->content_capacity ? index->content_capacity * 2 : 256;
            struct ps_content *grown = realloc(index->contents, capacity * sizeof(*grown));
            if (!grown)
                return PS_NONE;
            index->contents = grown;
            index->content_capacity = capacity;
        }
        id = index->content_count++;
    }
    index->contents[id] = (struct ps_content){.hash = hash, .offset = offset, .length = length};
    bucket_insert(index, id);
    index->bucket_used++;
    index->live_contents++;
    return id;
}

void ps_remove_content(struct ps_index *index, uint32_t id) {
    size_t mask = index->bucket_count - 1;
    size_t hole = home(index, index->contents[id].hash);
    while (index->buckets[hole] != id)
        hole = (hole + 1) & mask;
    // Close the gap: move back whatever would no longer be found across it.
    for (size_t i = (hole + 1) & mask; index->buckets[i] != PS_NONE; i = (i + 1) & mask) {
        size_t wanted = home(index, index->contents[index->buckets[i]].hash);
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            index->buckets[hole] = index->buckets[i];
            hole = i;
        }
    }
    index->buckets[hole] = PS_NONE;
    index->bucket_used--;
    index->live_contents--;
    index->contents[id].offset = 0;
    index->contents[id].refs = index->content_free;
    index->content_free = id + 1;
}

int ps_note_moved(struct ps_index *index, uint32_t id) {
    if (index->contents[id].moved)
        return 1;
    if (index->moved_count == index->moved_capacity) {
        size_t capacity = index->moved_capacity ? index->moved_capacity * 2 : 64;
        uint32_t *grown = realloc(index->moved, capacity * sizeof(*grown));
        if (!grown)
            return 0;
        index->moved = grown;
        index->moved_capacity = capacity;
    }
    index->moved[index->moved_count++] = id;
    index->contents[id].moved = true;
    return 1;
}
