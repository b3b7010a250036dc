// Little-endian integers, and a reader that never runs past the end.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void put16(uint8_t *to, uint16_t value) {
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static inline void put32(uint8_t *to, uint32_t value) {
    put16(to, (uint16_t)value);
    put16(to + 2, (uint16_t)(value >> 16));
}

static inline void put64(uint8_t *to, uint64_t value) {
    put32(to, (uint32_t)value);
    put32(to + 4, (uint32_t)(value >> 32));
}

static inline uint16_t get16(const uint8_t *from) {
    return (uint16_t)(from[0] | from[1] << 8);
}

static inline uint32_t get32(const uint8_t *from) {
    return (uint32_t)get16(from) | (uint32_t)get16(from + 2) << 16;
}

static inline uint64_t get64(const uint8_t *from) {
    return (uint64_t)get32(from) | (uint64_t)get32(from + 4) << 32;
}

// Reads fields in turn; once something does not fit, `bad` stays set and every further read gives 0 or NULL.
struct reader {
    uint8_t *at;
    size_t left;
    bool bad;
};

static inline uint8_t *read_bytes(struct reader *reader, size_t count) {
    if (reader->bad || reader->left < count) {
        reader->bad = true;
        return NULL;
    }
    uint8_t *bytes = reader->at;
    reader->at += count;
    reader->left -= count;
    return bytes;
}

static inline uint8_t read8(struct reader *reader) {
    const uint8_t *bytes = read_bytes(reader, 1);
    return bytes ? *bytes : 0;
}

static inline uint16_t read16(struct reader *reader) {
    const uint8_t *bytes = read_bytes(reader, 2);
    return bytes ? get16(bytes) : 0;
}

static inline uint32_t read32(struct reader *reader) {
    const uint8_t *bytes = read_bytes(reader, 4);
    return bytes ? get32(bytes) : 0;
}

static inline uint64_t read64(struct reader *reader) {
    const uint8_t *bytes = read_bytes(reader, 8);
    return bytes ? get64(bytes) : 0;
}
