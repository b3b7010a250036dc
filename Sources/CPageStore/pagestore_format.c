// What the bytes mean: file header, commit slots, record headers, and their checksums.
#include "pagestore_internal.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

int ps_fail(struct smi_ps_error *error, int code, uint64_t page, uint64_t offset) {
    if (error) {
        error->code = code;
        error->sys_errno = code == SMI_PS_IO ? errno : 0;
        error->page = page;
        error->offset = offset;
    }
    return code;
}

uint64_t ps_hash(const void *data, size_t length, uint64_t seed) {
    return XXH3_64bits_withSeed(data, length, seed);
}

bool ps_is_zero(const void *page) {
    const uint64_t *words = page;
    uint64_t any = 0;
    for (size_t i = 0; i < SMI_PS_PAGE / 8; i += 8) {
        any |= words[i] | words[i + 1] | words[i + 2] | words[i + 3];
        any |= words[i + 4] | words[i + 5] | words[i + 6] | words[i + 7];
        if (any)
            return false;
    }
    return true;
}

// With the fuzzer's macro the checks always pass, so that it reaches the code behind them.
static bool same(uint64_t a, uint64_t b) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)a, (void)b;
    return true;
#else
    return a == b;
#endif
}

static uint32_t record_check(const smi_ps *ps, const struct ps_record *record, uint64_t offset) {
    uint64_t seed = ps->seed ^ (offset * 0x9e3779b97f4a7c15ull);
    return (uint32_t)ps_hash(record, offsetof(struct ps_record, check), seed);
}

void ps_seal_record(const smi_ps *ps, struct ps_record *record, uint64_t offset) {
    record->magic = PS_RECORD_MAGIC;
    record->check = record_check(ps, record, offset);
}

bool ps_record_valid(const smi_ps *ps, const struct ps_record *record, uint64_t offset) {
    return record->magic == PS_RECORD_MAGIC && record->type >= PS_DATA && record->type <= PS_PAD &&
           record->length <= PS_SEGMENT && same(record->check, record_check(ps, record, offset));
}

static uint64_t slot_check(const smi_ps *ps, const struct ps_slot *slot) {
    return ps_hash(slot, offsetof(struct ps_slot, check), ps->seed);
}

void ps_seal_slot(const smi_ps *ps, struct ps_slot *slot) {
    slot->magic = PS_SLOT_MAGIC;
    slot->check = slot_check(ps, slot);
}

bool ps_slot_valid(const smi_ps *ps, const struct ps_slot *slot) {
    return slot->magic == PS_SLOT_MAGIC && same(slot->check, slot_check(ps, slot)) && slot->end >= PS_LOG_START &&
           slot->end <= PS_LOG_LIMIT && slot->end % 8 == 0 && slot->commit_offset < slot->end &&
           (slot->commit_offset == 0 || slot->commit_offset >= PS_LOG_START);
}

int ps_write_header(smi_ps *ps, struct smi_ps_error *error) {
    static const uint8_t zero[PS_LOG_START];
    struct ps_file_header header = {
        .magic = PS_FILE_MAGIC, .version = PS_VERSION, .page_size = SMI_PS_PAGE, .seed = ps->seed};
    header.check = ps_hash(&header, offsetof(struct ps_file_header, check), 0);
    struct ps_slot slot = {.end = PS_LOG_START};
    ps_seal_slot(ps, &slot);
    int result = ps_write(ps, zero, sizeof(zero), 0, error);
    if (result == SMI_PS_OK)
        result = ps_write(ps, &slot, sizeof(slot), PS_SLOT_A, error);
    // Last, so that a file that was cut short while being made is foreign rather than empty.
    if (result == SMI_PS_OK)
        result = ps_write(ps, &header, sizeof(header), 0, error);
    return result;
}

int ps_read_header(smi_ps *ps, struct smi_ps_error *error) {
    struct ps_file_header header;
    int result = ps_read(ps, &header, sizeof(header), 0, error);
    if (result == SMI_PS_TRUNCATED)
        return ps_fail(error, SMI_PS_FOREIGN, ~0ull, 0);
    if (result != SMI_PS_OK)
        return result;
    uint64_t check = ps_hash(&header, offsetof(struct ps_file_header, check), 0);
    if (header.magic != PS_FILE_MAGIC || header.version != PS_VERSION || header.page_size != SMI_PS_PAGE ||
        !same(header.check, check))
        return ps_fail(error, SMI_PS_FOREIGN, ~0ull, 0);
    ps->seed = header.seed;
    return SMI_PS_OK;
}
