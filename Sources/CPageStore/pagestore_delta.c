// Frames of pages between two stores: XOR against the version both hold, copies, whole pages; compressed together.
#include "pagestore_internal.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define PD_MAGIC 0x31445053u // "SPD1"
#define PD_MAX_PAGES 4096u
#define PD_PAGE_BOUND (SMI_PS_PAGE + 16u)
// A XOR longer than this is sent whole: the page is then at least compressed against itself.
#define PD_XOR_LIMIT (SMI_PS_PAGE / 4 * 3)

enum pd_kind { PD_ZERO = 0, PD_XOR = 1, PD_WHOLE = 2, PD_COPY = 3 };

struct pd_header {
    uint32_t magic;
    uint32_t codec;
    uint32_t count;
    uint32_t body_length;
    uint32_t wire_length;
    uint32_t reserved;
    uint64_t content_check; // over the hashes of the pages as they must come out
    uint64_t wire_check;    // over the bytes that follow and the fields before
};

static size_t put_varint(uint8_t *out, uint64_t value) {
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        out[n++] = (uint8_t)(value | 0x80);
    out[n++] = (uint8_t)value;
    return n;
}

static bool get_varint(const uint8_t **in, const uint8_t *end, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && *in < end; shift += 7) {
        uint8_t byte = *(*in)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static uint64_t word_at(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

static size_t equal_run(const uint8_t *a, const uint8_t *b, size_t i) {
    size_t start = i;
    while (i + 8 <= SMI_PS_PAGE && word_at(a + i) == word_at(b + i))
        i += 8;
    while (i < SMI_PS_PAGE && a[i] == b[i])
        i++;
    return i - start;
}

// (equal bytes, changed bytes, the XOR of these)...; what follows the last pair is equal. 0: longer than capacity.
static size_t xor_encode(const uint8_t *base, const uint8_t *page, uint8_t *out, size_t capacity) {
    size_t used = 0, i = 0;
    for (;;) {
        size_t skip = equal_run(base, page, i);
        i += skip;
        if (i == SMI_PS_PAGE)
            return used;
        size_t start = i;
        // A gap shorter than the two numbers that would describe it is not worth ending a run for.
        while (i < SMI_PS_PAGE) {
            size_t same = base[i] == page[i] ? equal_run(base, page, i) : 0;
            if (same > 3 || i + same == SMI_PS_PAGE)
                break;
            i += same ? same : 1;
        }
        if (used + 4 + (i - start) > capacity)
            return capacity + 1;
        used += put_varint(out + used, skip);
        used += put_varint(out + used, i - start);
        for (size_t k = start; k < i; k++)
            out[used++] = base[k] ^ page[k];
    }
}

static bool xor_decode(uint8_t *page, const uint8_t *in, size_t length) {
    const uint8_t *end = in + length;
    size_t i = 0;
    while (in < end) {
        uint64_t skip, run;
        if (!get_varint(&in, end, &skip) || !get_varint(&in, end, &run))
            return false;
        if (skip > SMI_PS_PAGE - i || run > SMI_PS_PAGE - i - skip || run > (uint64_t)(end - in))
            return false;
        i += skip;
        for (uint64_t k = 0; k < run; k++)
            page[i++] ^= *in++;
    }
    return true;
}

size_t smi_pd_bound(size_t count) {
    return sizeof(struct pd_header) + ZSTD_compressBound(count * PD_PAGE_BOUND);
}

static bool shared_version(smi_ps *ps, uint64_t page, uint64_t base_epoch) {
    uint64_t epoch;
    return base_epoch > 0 && smi_ps_page_epoch(ps, page, &epoch) && epoch <= base_epoch;
}

static size_t encode_page(smi_ps *ps, smi_ps *parent, uint64_t page, uint64_t step, const uint8_t *data,
                          uint64_t base_epoch, uint8_t *out) {
    uint8_t base[SMI_PS_PAGE], packed[PD_XOR_LIMIT + 1];
    if (ps_is_zero(data))
        return put_varint(out, step << 2 | PD_ZERO);
    if (shared_version(ps, page, base_epoch) && smi_ps_get(ps, page, base, NULL) == SMI_PS_OK) {
        size_t length = xor_encode(base, data, packed, PD_XOR_LIMIT);
        if (length <= PD_XOR_LIMIT) {
            size_t used = put_varint(out, step << 2 | PD_XOR);
            used += put_varint(out + used, length);
            memcpy(out + used, packed, length);
            return used + length;
        }
    }
    if (parent && smi_ps_get(parent, page, base, NULL) == SMI_PS_OK && memcmp(base, data, SMI_PS_PAGE) == 0)
        return put_varint(out, step << 2 | PD_COPY);
    size_t used = put_varint(out, step << 2 | PD_WHOLE);
    memcpy(out + used, data, SMI_PS_PAGE);
    return used + SMI_PS_PAGE;
}

// Compresses as asked, or leaves the bytes as they are where that is no longer.
static uint32_t pack(uint32_t *codec, int level, const uint8_t *body, size_t length, uint8_t *out, size_t capacity) {
    size_t packed = 0;
    if (*codec == SMI_PD_ZSTD) {
        packed = ZSTD_compress(out, capacity, body, length, level);
        if (ZSTD_isError(packed))
            packed = 0;
    } else if (*codec == SMI_PD_LZ4) {
        int size = LZ4_compress_default((const char *)body, (char *)out, (int)length, (int)capacity);
        packed = size > 0 ? (size_t)size : 0;
    }
    if (packed > 0 && packed < length)
        return (uint32_t)packed;
    *codec = SMI_PD_NONE;
    memcpy(out, body, length);
    return (uint32_t)length;
}

static uint64_t wire_check(const struct pd_header *header, const uint8_t *wire) {
    uint64_t seed = ps_hash(header, offsetof(struct pd_header, wire_check), PD_MAGIC);
    return ps_hash(wire, header->wire_length, seed);
}

ssize_t smi_pd_encode(smi_ps *ps, smi_ps *parent, const uint64_t *pages, const void *data, size_t count,
                      const struct smi_pd_options *options, void *out, size_t capacity, struct smi_ps_error *error) {
    if (count == 0 || count > PD_MAX_PAGES || capacity < smi_pd_bound(count))
        return ps_fail(error, SMI_PS_ARGUMENT, ~0ull, 0);
    uint8_t *body = malloc(count * PD_PAGE_BOUND);
    if (!body)
        return ps_fail(error, SMI_PS_NOMEM, ~0ull, 0);
    struct pd_header header = {.magic = PD_MAGIC, .codec = (uint32_t)options->codec, .count = (uint32_t)count};
    size_t used = 0;
    uint64_t next = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *page = (const uint8_t *)data + i * SMI_PS_PAGE;
        if (pages[i] < next || pages[i] >= PS_PAGE_LIMIT) {
            free(body);
            return ps_fail(error, SMI_PS_ARGUMENT, pages[i], 0);
        }
        header.content_check = ps_hash(page, SMI_PS_PAGE, header.content_check + 1);
        used += encode_page(ps, parent, pages[i], pages[i] - next, page, options->base_epoch, body + used);
        next = pages[i] + 1;
    }
    uint8_t *wire = (uint8_t *)out + sizeof(header);
    header.body_length = (uint32_t)used;
    header.wire_length = pack(&header.codec, options->level, body, used, wire, capacity - sizeof(header));
    header.wire_check = wire_check(&header, wire);
    memcpy(out, &header, sizeof(header));
    free(body);
    return (ssize_t)(sizeof(header) + header.wire_length);
}

static bool unpack(const struct pd_header *header, const uint8_t *wire, uint8_t *body) {
    if (header->codec == SMI_PD_NONE) {
        if (header->wire_length != header->body_length)
            return false;
        memcpy(body, wire, header->body_length);
        return true;
    }
    if (header->codec == SMI_PD_LZ4)
        return LZ4_decompress_safe((const char *)wire, (char *)body, (int)header->wire_length,
                                   (int)header->body_length) == (int)header->body_length;
    return header->codec == SMI_PD_ZSTD &&
           ZSTD_decompress(body, header->body_length, wire, header->wire_length) == header->body_length;
}

// One page of a frame; false where the frame makes no sense.
static int decode_page(smi_ps *ps, smi_ps *parent, const uint8_t **in, const uint8_t *end, uint64_t *next,
                       uint64_t *number, uint8_t *page, struct smi_ps_error *error) {
    uint64_t head, length;
    if (!get_varint(in, end, &head) || (head >> 2) >= PS_PAGE_LIMIT - *next)
        return ps_fail(error, SMI_PS_CORRUPT, *next, 0);
    *number = *next + (head >> 2);
    *next = *number + 1;
    int result = SMI_PS_OK;
    switch (head & 3) {
    case PD_ZERO:
        memset(page, 0, SMI_PS_PAGE);
        return SMI_PS_OK;
    case PD_WHOLE:
        if (end - *in < (ptrdiff_t)SMI_PS_PAGE)
            return ps_fail(error, SMI_PS_CORRUPT, *number, 0);
        memcpy(page, *in, SMI_PS_PAGE);
        *in += SMI_PS_PAGE;
        return SMI_PS_OK;
    case PD_COPY:
        result = parent ? smi_ps_get(parent, *number, page, error) : SMI_PS_ABSENT;
        return result == SMI_PS_ABSENT ? ps_fail(error, SMI_PS_MISMATCH, *number, 0) : result;
    default:
        if (!get_varint(in, end, &length) || length > (uint64_t)(end - *in))
            return ps_fail(error, SMI_PS_CORRUPT, *number, 0);
        result = smi_ps_get(ps, *number, page, error);
        if (result != SMI_PS_OK)
            return result == SMI_PS_ABSENT ? ps_fail(error, SMI_PS_MISMATCH, *number, 0) : result;
        if (!xor_decode(page, *in, length))
            return ps_fail(error, SMI_PS_CORRUPT, *number, 0);
        *in += length;
        return SMI_PS_OK;
    }
}

static ssize_t apply_body(smi_ps *ps, smi_ps *parent, const struct pd_header *header, const uint8_t *wire,
                          uint8_t *body, uint64_t *numbers, uint8_t *data, struct smi_ps_error *error) {
    if (!unpack(header, wire, body))
        return ps_fail(error, SMI_PS_CORRUPT, ~0ull, 0);
    const uint8_t *in = body, *end = body + header->body_length;
    uint64_t next = 0, check = 0;
    for (uint32_t i = 0; i < header->count; i++) {
        uint8_t *page = data + (size_t)i * SMI_PS_PAGE;
        int result = decode_page(ps, parent, &in, end, &next, &numbers[i], page, error);
        if (result != SMI_PS_OK)
            return result;
        check = ps_hash(page, SMI_PS_PAGE, check + 1);
    }
    if (in != end)
        return ps_fail(error, SMI_PS_CORRUPT, numbers[0], 0);
    // The bytes arrived as they were sent, so that a difference means another base version than the sender's.
    if (check != header->content_check)
        return ps_fail(error, SMI_PS_MISMATCH, numbers[0], 0);
    int result = smi_ps_put(ps, numbers, data, header->count, NULL, error);
    return result == SMI_PS_OK ? (ssize_t)header->count : result;
}

ssize_t smi_pd_apply(smi_ps *ps, smi_ps *parent, const void *frame, size_t length, uint64_t *pages,
                     struct smi_ps_error *error) {
    struct pd_header header;
    if (length < sizeof(header))
        return ps_fail(error, SMI_PS_TRUNCATED, ~0ull, length);
    memcpy(&header, frame, sizeof(header));
    const uint8_t *wire = (const uint8_t *)frame + sizeof(header);
    if (header.magic != PD_MAGIC || header.count == 0 || header.count > PD_MAX_PAGES ||
        header.body_length > header.count * PD_PAGE_BOUND || header.wire_length != length - sizeof(header))
        return ps_fail(error, length - sizeof(header) < header.wire_length ? SMI_PS_TRUNCATED : SMI_PS_CORRUPT, ~0ull,
                       length);
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (wire_check(&header, wire) != header.wire_check)
        return ps_fail(error, SMI_PS_CORRUPT, ~0ull, 0);
#endif
    uint8_t *body = malloc(header.body_length + 1);
    uint8_t *data = malloc((size_t)header.count * SMI_PS_PAGE);
    uint64_t *numbers = malloc(header.count * sizeof(*numbers));
    ssize_t result = body && data && numbers ? apply_body(ps, parent, &header, wire, body, numbers, data, error)
                                             : ps_fail(error, SMI_PS_NOMEM, ~0ull, 0);
    if (pages && result > 0)
        memcpy(pages, numbers, (size_t)result * sizeof(*numbers));
    free(body), free(data), free(numbers);
    return result;
}
