// libFuzzer target for the page store's reader and for delta frames.
//
// Built twice by scripts/fuzz-page-store: with FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION, where checksums always match
// and the input is the file itself (memory safety behind the checks), and without, where the input is a list of
// changes to a good file whose pages are known (whatever is served must be right).
#include "smi_pagestore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct disk {
    uint8_t *bytes;
    size_t size;
};

static ssize_t disk_pread(void *context, void *buffer, size_t length, uint64_t offset) {
    const struct disk *disk = context;
    if (offset >= disk->size)
        return 0;
    size_t part = length < disk->size - offset ? length : disk->size - offset;
    memcpy(buffer, disk->bytes + offset, part);
    return (ssize_t)part;
}

static ssize_t disk_pwrite(void *context, const void *buffer, size_t length, uint64_t offset) {
    struct disk *disk = context;
    if (offset + length > disk->size) {
        uint8_t *grown = realloc(disk->bytes, offset + length);
        if (!grown) {
            errno = ENOSPC;
            return -1;
        }
        memset(grown + disk->size, 0, offset + length - disk->size);
        disk->bytes = grown;
        disk->size = offset + length;
    }
    memcpy(disk->bytes + offset, buffer, length);
    return (ssize_t)length;
}

static int disk_sync(void *context) {
    (void)context;
    return 0;
}

static int disk_punch(void *context, uint64_t offset, uint64_t length) {
    struct disk *disk = context;
    if (offset < disk->size)
        memset(disk->bytes + offset, 0, length < disk->size - offset ? length : disk->size - offset);
    return 0;
}

static int disk_truncate(void *context, uint64_t length) {
    struct disk *disk = context;
    if (length < disk->size)
        disk->size = length;
    return 0;
}

static int64_t disk_size(void *context) {
    return (int64_t)((struct disk *)context)->size;
}

static void disk_close(void *context) {
    (void)context;
}

static struct smi_ps_io disk_io(struct disk *disk) {
    return (struct smi_ps_io){.context = disk,
                              .pread = disk_pread,
                              .pwrite = disk_pwrite,
                              .sync = disk_sync,
                              .punch = disk_punch,
                              .truncate = disk_truncate,
                              .size = disk_size,
                              .close = disk_close};
}

static void fill(uint8_t *page, uint64_t number, uint64_t version) {
    uint64_t state = number * 1000003 + version * 7919 + 1;
    size_t kept = number % 3 == 0 ? 64 : SMI_PS_PAGE; // some compress, some do not
    memset(page, (int)(number % 5), SMI_PS_PAGE);
    for (size_t i = 0; i < kept; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        page[i] = (uint8_t)(state >> 56);
    }
}

#define PAGES 24
static uint64_t versions[PAGES]; // 0: absent

// A store with several epochs, drops and moves, built once.
static struct disk good_disk(void) {
    struct disk disk = {0};
    smi_ps *ps = smi_ps_create(disk_io(&disk), 42, 0, NULL);
    uint8_t page[SMI_PS_PAGE];
    for (uint64_t epoch = 1; epoch <= 6; epoch++) {
        for (uint64_t n = epoch % 2; n < PAGES; n += epoch) {
            fill(page, n, epoch);
            smi_ps_put(ps, &n, page, 1, NULL, NULL);
            versions[n] = epoch;
        }
        smi_ps_drop(ps, epoch * 3, 1, NULL);
        versions[epoch * 3] = 0;
        smi_ps_commit(ps, epoch, epoch % 2 ? SMI_PS_QUICK : SMI_PS_SYNC, NULL);
    }
    smi_ps_close(ps);
    return disk;
}

static void read_all(smi_ps *ps, int must_match) {
    uint64_t pages[64], first = 0;
    uint8_t held[SMI_PS_PAGE], expected[SMI_PS_PAGE];
    struct smi_ps_error error;
    size_t count, rounds = 0;
    while ((count = smi_ps_list(ps, first, 0, pages, 64)) > 0 && rounds++ < 64) {
        for (size_t i = 0; i < count; i++) {
            int result = smi_ps_get(ps, pages[i], held, &error);
            if (!must_match || result != SMI_PS_OK)
                continue;
            if (pages[i] >= PAGES || versions[pages[i]] == 0)
                abort();
            fill(expected, pages[i], versions[pages[i]]);
            if (memcmp(held, expected, SMI_PS_PAGE) != 0)
                abort();
        }
        first = pages[count - 1] + 1;
    }
}

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION

static void fuzz_frame(const uint8_t *data, size_t size) {
    struct disk disk = {0};
    smi_ps *ps = smi_ps_create(disk_io(&disk), 42, 0, NULL);
    uint8_t page[SMI_PS_PAGE];
    for (uint64_t n = 0; n < 4; n++) {
        fill(page, n, 1);
        smi_ps_put(ps, &n, page, 1, NULL, NULL);
    }
    struct smi_ps_error error;
    smi_pd_apply(ps, ps, data, size, NULL, &error);
    smi_ps_close(ps);
    free(disk.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    if (data[0] & 1) {
        fuzz_frame(data + 1, size - 1);
        return 0;
    }
    struct disk disk = {malloc(size), size - 1};
    memcpy(disk.bytes, data + 1, size - 1);
    struct smi_ps_error error;
    smi_ps *ps = smi_ps_open(disk_io(&disk), data[0] & 2 ? SMI_PS_READ_ONLY : 0, &error);
    if (ps) {
        read_all(ps, 0);
        if (!(data[0] & 2)) { // and goes on being written
            uint8_t page[SMI_PS_PAGE];
            struct smi_ps_stats stats;
            for (uint64_t n = 0; n < 4; n++) {
                fill(page, n, 9);
                smi_ps_put(ps, &n, page, 1, NULL, &error);
            }
            smi_ps_get_stats(ps, &stats);
            smi_ps_commit(ps, stats.epoch + 1, 0, &error);
            smi_ps_rollback(ps, &error);
        }
        smi_ps_close(ps);
    }
    free(disk.bytes);
    return 0;
}

#else

// The input: (u16 offset / 2, u8 xor, u8 how) ...
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct disk good;
    if (!good.bytes)
        good = good_disk();
    struct disk disk = {malloc(good.size), good.size};
    memcpy(disk.bytes, good.bytes, good.size);
    for (size_t i = 0; i + 4 <= size; i += 4) {
        size_t at = ((size_t)data[i] << 8 | data[i + 1]) * 2 % disk.size;
        if (data[i + 3] < 200)
            disk.bytes[at] ^= data[i + 2];
        else if (data[i + 3] < 240) // a piece of the file in another place
            memmove(disk.bytes + at, disk.bytes + at / 2, disk.size - at < 256 ? disk.size - at : 256);
        else if (data[i + 3] > 253 && at > 0)
            disk.size = at;
    }
    struct smi_ps_error error;
    smi_ps *ps = smi_ps_open(disk_io(&disk), 0, &error);
    if (ps) {
        struct smi_ps_stats stats;
        smi_ps_get_stats(ps, &stats);
        if (stats.epoch == 6)
            read_all(ps, 1);
        smi_ps_close(ps);
    }
    free(disk.bytes);
    return 0;
}

#endif

#ifdef SMI_FUZZ_SEEDS
#include <stdio.h>
// Writes the seed corpus: a good file in each mode, and a frame.
int main(int argc, char **argv) {
    struct disk disk = good_disk();
    char path[4096];
    for (int mode = 0; argc > 1 && mode <= 2; mode++) {
        snprintf(path, sizeof(path), "%s/seed-%d", argv[1], mode);
        FILE *file = fopen(path, "wb");
        if (!file)
            return 1;
        fputc(mode, file);
        if (mode == 1) {
            uint64_t numbers[4] = {1, 2, 4, 9};
            uint8_t data[4 * SMI_PS_PAGE], frame[1 << 16];
            struct disk scratch = {0};
            smi_ps *ps = smi_ps_create(disk_io(&scratch), 42, 0, NULL);
            struct smi_pd_options options = {.base_epoch = 1, .codec = SMI_PD_LZ4};
            for (size_t i = 0; i < 4; i++)
                fill(data + i * SMI_PS_PAGE, numbers[i], 1);
            smi_ps_put(ps, numbers, data, 3, NULL, NULL);
            smi_ps_commit(ps, 1, 0, NULL);
            data[77] ^= 5, data[SMI_PS_PAGE] ^= 9;
            ssize_t length = smi_pd_encode(ps, NULL, numbers, data, 4, &options, frame, sizeof(frame), NULL);
            fwrite(frame, 1, length > 0 ? (size_t)length : 0, file);
        } else {
            fwrite(disk.bytes, 1, disk.size, file);
        }
        fclose(file);
    }
    return 0;
}
#endif
