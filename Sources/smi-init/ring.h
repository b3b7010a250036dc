// A stream's bytes between two 64-bit offsets, in a ring that grows up to a limit and gives its memory back when idle.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct ring {
    uint8_t *data; // NULL: nothing allocated
    uint32_t capacity;
    uint32_t index;  // where the byte at `base` is
    uint32_t length; // bytes held
    uint64_t base;   // stream offset of the first byte held
};

enum {
    // Above this total (bytes, all rings) a ring stays at its first size.
    RING_BUDGET = 32 << 20,
};

static inline uint64_t ring_end(const struct ring *ring) {
    return ring->base + ring->length;
}

static inline uint32_t ring_space(const struct ring *ring) {
    return ring->capacity - ring->length;
}

// Makes the ring at least `first` bytes large; false: no memory.
bool ring_reserve(struct ring *ring, uint32_t first);

// Doubles the ring, up to `limit`; false: at the limit, over budget, or no memory.
bool ring_grow(struct ring *ring, uint32_t limit);

// Where to put new bytes: fills up to two entries, returns how many.
int ring_free_parts(const struct ring *ring, struct iovec parts[2]);

// Counts bytes that were put into ring_free_parts.
void ring_commit(struct ring *ring, uint32_t count);

// Appends bytes that are known to fit.
void ring_append(struct ring *ring, const uint8_t *bytes, uint32_t count);

// The bytes from stream offset `from` on, at most `count`: fills up to two entries, returns how many.
int ring_parts(const struct ring *ring, uint64_t from, uint32_t count, struct iovec parts[2]);

// Forgets everything before stream offset `upto`.
void ring_drop(struct ring *ring, uint64_t upto);

// Gives the memory back; the ring must be empty for nothing to be lost.
void ring_release(struct ring *ring);
