// Chunks as one byte (0: as they are, 1: zstd) and their bytes.
#include "smi_chunk.h"

#include <string.h>
#include <zstd.h>

#define LEVEL 1

size_t smi_chunk_bound(size_t length) {
    return 1 + ZSTD_compressBound(length);
}

size_t smi_chunk_pack(const void *bytes, size_t length, void *out, size_t capacity) {
    unsigned char *packed = out;
    size_t size = ZSTD_compress(packed + 1, capacity - 1, bytes, length, LEVEL);
    packed[0] = !ZSTD_isError(size) && size < length;
    if (packed[0])
        return 1 + size;
    memcpy(packed + 1, bytes, length);
    return 1 + length;
}

ssize_t smi_chunk_length(const void *packed, size_t length, size_t limit) {
    const unsigned char *bytes = packed;
    if (length == 0 || bytes[0] > 1)
        return -1;
    unsigned long long size = bytes[0] ? ZSTD_getFrameContentSize(bytes + 1, length - 1) : length - 1;
    return size <= limit ? (ssize_t)size : -1;
}

int smi_chunk_unpack(const void *packed, size_t length, void *out, size_t out_length) {
    const unsigned char *bytes = packed;
    if (bytes[0])
        return ZSTD_decompress(out, out_length, bytes + 1, length - 1) == out_length ? 0 : -1;
    memcpy(out, bytes + 1, out_length);
    return 0;
}
