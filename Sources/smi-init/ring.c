#include "ring.h"

#include <string.h>
#include <sys/mman.h>

static uint64_t total; // bytes of all rings

// Mappings of their own, not malloc: memory goes back to the system, so that an idle smi-init stays small in a dump.
static uint8_t *map(uint32_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

bool ring_reserve(struct ring *ring, uint32_t first) {
    if (ring->data)
        return true;
    ring->data = map(first);
    if (!ring->data)
        return false;
    ring->capacity = first;
    ring->index = 0;
    total += first;
    return true;
}

bool ring_grow(struct ring *ring, uint32_t limit) {
    if (ring->capacity >= limit || total + ring->capacity > RING_BUDGET)
        return false;
    uint32_t capacity = ring->capacity * 2 < limit ? ring->capacity * 2 : limit;
    uint8_t *larger = map(capacity);
    if (!larger)
        return false;
    struct iovec parts[2];
    int count = ring_parts(ring, ring->base, ring->length, parts);
    uint32_t filled = 0;
    for (int i = 0; i < count; i++) {
        memcpy(larger + filled, parts[i].iov_base, parts[i].iov_len);
        filled += (uint32_t)parts[i].iov_len;
    }
    munmap(ring->data, ring->capacity);
    total += capacity - ring->capacity;
    ring->data = larger;
    ring->capacity = capacity;
    ring->index = 0;
    return true;
}

int ring_free_parts(const struct ring *ring, struct iovec parts[2]) {
    uint32_t space = ring_space(ring);
    if (!space)
        return 0;
    uint32_t tail = (ring->index + ring->length) % ring->capacity;
    uint32_t first = ring->capacity - tail < space ? ring->capacity - tail : space;
    parts[0] = (struct iovec){ring->data + tail, first};
    parts[1] = (struct iovec){ring->data, space - first};
    return space > first ? 2 : 1;
}

void ring_commit(struct ring *ring, uint32_t count) {
    ring->length += count;
}

void ring_append(struct ring *ring, const uint8_t *bytes, uint32_t count) {
    struct iovec parts[2];
    int free_parts = ring_free_parts(ring, parts);
    uint32_t copied = 0;
    for (int i = 0; i < free_parts && copied < count; i++) {
        uint32_t piece = count - copied < parts[i].iov_len ? count - copied : (uint32_t)parts[i].iov_len;
        memcpy(parts[i].iov_base, bytes + copied, piece);
        copied += piece;
    }
    ring_commit(ring, copied);
}

int ring_parts(const struct ring *ring, uint64_t from, uint32_t count, struct iovec parts[2]) {
    if (from < ring->base || from >= ring_end(ring))
        return 0;
    uint32_t skip = (uint32_t)(from - ring->base);
    if (count > ring->length - skip)
        count = ring->length - skip;
    if (!count)
        return 0;
    uint32_t start = (ring->index + skip) % ring->capacity;
    uint32_t first = ring->capacity - start < count ? ring->capacity - start : count;
    parts[0] = (struct iovec){ring->data + start, first};
    parts[1] = (struct iovec){ring->data, count - first};
    return count > first ? 2 : 1;
}

void ring_drop(struct ring *ring, uint64_t upto) {
    if (upto <= ring->base)
        return;
    uint64_t gone = upto - ring->base;
    ring->base = upto;
    if (gone >= ring->length) {
        // Start over at the front: a ring that keeps up touches few pages.
        ring->length = 0;
        ring->index = 0;
        return;
    }
    ring->index = (uint32_t)((ring->index + gone) % ring->capacity);
    ring->length -= (uint32_t)gone;
}

void ring_release(struct ring *ring) {
    if (!ring->data)
        return;
    munmap(ring->data, ring->capacity);
    total -= ring->capacity;
    ring->data = NULL;
    ring->capacity = 0;
    ring->base += ring->length;
    ring->length = 0;
    ring->index = 0;
}
