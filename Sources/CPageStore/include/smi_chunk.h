// Compression of the chunks of a cut's streams.
#pragma once

#include <stddef.h>
#include <sys/types.h>

// Room that the packed form of so many bytes can need.
size_t smi_chunk_bound(size_t length);
// Packs bytes (zstd, level 1); returns the packed length.
size_t smi_chunk_pack(const void *bytes, size_t length, void *out, size_t capacity);
// The length of what was packed, at most limit; -1 where it makes no sense or is longer.
ssize_t smi_chunk_length(const void *packed, size_t length, size_t limit);
// Unpacks into a buffer of exactly the length that smi_chunk_length said; 0, or -1 where it is damaged.
int smi_chunk_unpack(const void *packed, size_t length, void *out, size_t out_length);
