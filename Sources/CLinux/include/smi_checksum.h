// A checksum against damage on the way; not against forgery, which TLS prevents.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli) of `len` bytes, continued from `crc` (0 to begin). Several GB/s where the processor has it.
uint32_t smi_crc32c(uint32_t crc, const void *_Nullable data, size_t len);
