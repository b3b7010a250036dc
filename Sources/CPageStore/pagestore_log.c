// The log: buffered appends, reads, segments and their live bytes, and the codec of data records.
#define _GNU_SOURCE
#include "pagestore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int ps_read(smi_ps *ps, void *buffer, size_t length, uint64_t offset, struct smi_ps_error *error) {
    uint8_t *out = buffer;
    uint64_t at = offset;
    while (length > 0) {
        if (at >= ps->flushed && ps->buffer_used > 0) {
            uint64_t inside = at - ps->flushed;
            if (inside + length > ps->buffer_used)
                return ps_fail(error, SMI_PS_TRUNCATED, ~0ull, offset);
            memcpy(out, ps->buffer + inside, length);
            return SMI_PS_OK;
        }
        size_t part = length;
        if (ps->buffer_used > 0 && at + part > ps->flushed)
            part = ps->flushed - at;
        ssize_t got = ps->io.pread(ps->io.context, out, part, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ps_fail(error, SMI_PS_IO, ~0ull, at);
        if (got == 0)
            return ps_fail(error, SMI_PS_TRUNCATED, ~0ull, offset);
        out += got, at += (uint64_t)got, length -= (size_t)got;
    }
    return SMI_PS_OK;
}

int ps_write(smi_ps *ps, const void *buffer, size_t length, uint64_t offset, struct smi_ps_error *error) {
    const uint8_t *in = buffer;
    while (length > 0) {
        ssize_t put = ps->io.pwrite(ps->io.context, in, length, offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            if (put == 0)
                errno = EIO;
            ps->broken = true;
            return ps_fail(error, SMI_PS_IO, ~0ull, offset);
        }
        in += put, offset += (uint64_t)put, length -= (size_t)put;
    }
    return SMI_PS_OK;
}

int ps_flush(smi_ps *ps, struct smi_ps_error *error) {
    if (ps->buffer_used == 0)
        return SMI_PS_OK;
    int result = ps_write(ps, ps->buffer, ps->buffer_used, ps->flushed, error);
    if (result == SMI_PS_OK) {
        ps->flushed += ps->buffer_used;
        ps->buffer_used = 0;
    }
    return result;
}

// Whatever is buffered leaves where so many bytes more would be more than one write.
static int make_room(smi_ps *ps, uint64_t length, struct smi_ps_error *error) {
    return ps->buffer_used + length > PS_WRITE ? ps_flush(ps, error) : SMI_PS_OK;
}

// Where there is room; zeros without `bytes`.
static void buffer_bytes(smi_ps *ps, const void *bytes, size_t length) {
    if (bytes)
        memcpy(ps->buffer + ps->buffer_used, bytes, length);
    else
        memset(ps->buffer + ps->buffer_used, 0, length);
    ps->buffer_used += length;
    ps->end += length;
}

// Records never cross a segment's end, so that a segment can be given back as a whole.
static int pad_segment(smi_ps *ps, uint64_t needed, struct smi_ps_error *error) {
    uint64_t left = PS_SEGMENT - ps->end % PS_SEGMENT;
    if (needed <= left)
        return SMI_PS_OK;
    int result = make_room(ps, left, error);
    if (result != SMI_PS_OK)
        return result;
    if (left >= sizeof(struct ps_record)) {
        struct ps_record pad = {.type = PS_PAD, .length = (uint32_t)(left - sizeof(pad)), .page = ~0ull};
        ps_seal_record(ps, &pad, ps->end);
        buffer_bytes(ps, &pad, sizeof(pad));
        left -= sizeof(pad);
    }
    buffer_bytes(ps, NULL, left);
    return SMI_PS_OK;
}

int ps_append(smi_ps *ps, struct ps_record record, const void *payload, uint64_t *offset, struct smi_ps_error *error) {
    uint64_t size = ps_record_size(record.length);
    if (ps->end + size + PS_SEGMENT > PS_LOG_LIMIT)
        return ps_fail(error, SMI_PS_FULL, record.page, ps->end);
    int result = pad_segment(ps, size, error);
    if (result == SMI_PS_OK)
        result = make_room(ps, size, error);
    if (result != SMI_PS_OK)
        return result;
    *offset = ps->end;
    ps_seal_record(ps, &record, ps->end);
    buffer_bytes(ps, &record, sizeof(record));
    buffer_bytes(ps, payload, record.length);
    buffer_bytes(ps, NULL, size - sizeof(record) - record.length);
    return ps_segment_add(ps, *offset, size) ? SMI_PS_OK : ps_fail(error, SMI_PS_NOMEM, record.page, *offset);
}

int ps_segment_add(smi_ps *ps, uint64_t offset, uint64_t bytes) {
    size_t segment = offset / PS_SEGMENT;
    if (segment >= ps->segment_capacity) {
        size_t capacity = ps->segment_capacity ? ps->segment_capacity : 64;
        while (capacity <= segment)
            capacity *= 2;
        uint32_t *grown = realloc(ps->segments, capacity * sizeof(*grown));
        if (!grown)
            return 0;
        ps->segments = grown;
        ps->segment_capacity = capacity;
    }
    for (; ps->segment_count <= segment; ps->segment_count++)
        ps->segments[ps->segment_count] = 0;
    if (ps->segments[segment] == PS_PUNCHED) // only while loading, before anything was punched here
        ps->segments[segment] = 0;
    ps->segments[segment] += (uint32_t)bytes;
    ps->live_bytes += bytes;
    return 1;
}

void ps_segment_sub(smi_ps *ps, uint64_t offset, uint64_t bytes) {
    ps->segments[offset / PS_SEGMENT] -= (uint32_t)bytes;
    ps->live_bytes -= bytes;
}

// Gives back segments without a live byte; only ever called when the committed epoch does not need them.
int ps_punch_dead(smi_ps *ps, struct smi_ps_error *error) {
    size_t tail = ps->end / PS_SEGMENT;
    for (size_t first = 0; first < ps->segment_count && first < tail; first++) {
        if (ps->segments[first] != 0)
            continue;
        size_t last = first;
        while (last + 1 < ps->segment_count && last + 1 < tail && ps->segments[last + 1] == 0)
            last++;
        uint64_t start = first == 0 ? PS_LOG_START : (uint64_t)first * PS_SEGMENT;
        uint64_t length = (uint64_t)(last + 1) * PS_SEGMENT - start;
        if (ps->io.punch(ps->io.context, start, length) != 0)
            return ps_fail(error, SMI_PS_IO, ~0ull, start);
        for (size_t i = first; i <= last; i++)
            ps->segments[i] = PS_PUNCHED;
        ps->punched_segments += last + 1 - first;
        first = last;
    }
    return SMI_PS_OK;
}

uint64_t ps_allocated(const smi_ps *ps) {
    uint64_t punched = ps->punched_segments * PS_SEGMENT;
    return ps->end > punched ? ps->end - punched : 0;
}

int ps_decode(const smi_ps *ps, const struct ps_record *record, const uint8_t *payload, void *page) {
    if (record->codec == PS_RAW) {
        if (record->length != SMI_PS_PAGE)
            return SMI_PS_CORRUPT;
        memcpy(page, payload, SMI_PS_PAGE);
    } else if (record->codec != PS_LZ4 ||
               LZ4_decompress_safe((const char *)payload, page, (int)record->length, SMI_PS_PAGE) != SMI_PS_PAGE) {
        return SMI_PS_CORRUPT;
    }
    return ps_hash(page, SMI_PS_PAGE, ps->seed) == record->hash ? SMI_PS_OK : SMI_PS_CORRUPT;
}

int ps_read_content(smi_ps *ps, const struct ps_content *content, uint64_t number, void *page,
                    struct smi_ps_error *error) {
    uint8_t bytes[sizeof(struct ps_record) + SMI_PS_PAGE];
    size_t size = sizeof(struct ps_record) + content->length;
    if (size > sizeof(bytes))
        return ps_fail(error, SMI_PS_CORRUPT, number, content->offset);
    int result = ps_read(ps, bytes, size, content->offset, error);
    if (result != SMI_PS_OK)
        return ps_fail(error, result, number, content->offset);
    struct ps_record record;
    memcpy(&record, bytes, sizeof(record));
    if (!ps_record_valid(ps, &record, content->offset) || record.type != PS_DATA || record.hash != content->hash ||
        record.length != content->length || ps_decode(ps, &record, bytes + sizeof(record), page) != SMI_PS_OK)
        return ps_fail(error, SMI_PS_CORRUPT, number, content->offset);
    return SMI_PS_OK;
}

int ps_store_content(smi_ps *ps, uint64_t page, const void *data, uint64_t hash, uint64_t *offset, uint16_t *length,
                     struct smi_ps_error *error) {
    // Less than an eighth saved does not pay for the decompression at a fault.
    char packed[SMI_PS_PAGE - SMI_PS_PAGE / 8];
    struct ps_record record = {.type = PS_DATA, .codec = PS_RAW, .length = SMI_PS_PAGE, .page = page, .hash = hash};
    const void *payload = data;
    if (!(ps->flags & SMI_PS_NO_COMPRESSION)) {
        int size = LZ4_compress_fast_extState(ps->lz4_state, data, packed, SMI_PS_PAGE, sizeof(packed), 1);
        if (size > 0) {
            record.codec = PS_LZ4;
            record.length = (uint32_t)size;
            payload = packed;
        }
    }
    *length = (uint16_t)record.length;
    return ps_append(ps, record, payload, offset, error);
}

// ---- the calls for a file ----

static int file_fd(void *context) {
    return (int)(intptr_t)context;
}
static ssize_t file_pread(void *context, void *buffer, size_t length, uint64_t offset) {
    return pread(file_fd(context), buffer, length, (off_t)offset);
}
static ssize_t file_pwrite(void *context, const void *buffer, size_t length, uint64_t offset) {
    return pwrite(file_fd(context), buffer, length, (off_t)offset);
}
static int file_sync(void *context) {
    return fdatasync(file_fd(context));
}
static int file_punch(void *context, uint64_t offset, uint64_t length) {
    return fallocate(file_fd(context), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
}
static int file_truncate(void *context, uint64_t length) {
    return ftruncate(file_fd(context), (off_t)length);
}
static int64_t file_size(void *context) {
    struct stat status;
    return fstat(file_fd(context), &status) == 0 ? status.st_size : -1;
}
static void file_close(void *context) {
    close(file_fd(context));
}

struct smi_ps_io smi_ps_file_io(int fd) {
    return (struct smi_ps_io){.context = (void *)(intptr_t)fd,
                              .pread = file_pread,
                              .pwrite = file_pwrite,
                              .sync = file_sync,
                              .punch = file_punch,
                              .truncate = file_truncate,
                              .size = file_size,
                              .close = file_close};
}
