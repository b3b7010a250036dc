// Memory that is rewritten whole faster than a slow link carries it, and checks itself.
//
// rewriter MEGABYTES PAGES-A-SECOND FILE: rewrites all pages in turn with bytes that nothing compresses, each checked
// before; writes "PAGES ERRORS" into FILE, by renaming, every 20 ms.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WORDS 512

static uint64_t *memory;
static uint32_t *version;
static size_t pages;
static unsigned long rate;
static atomic_ulong rewritten, errors;

static uint64_t word(size_t page, size_t i) {
    uint64_t x = page * 1000003 + i + ((uint64_t)version[page] << 40) + 1;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 29;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 32;
}

static void fill(size_t page) {
    version[page]++;
    for (size_t i = 0; i < WORDS; i++)
        memory[page * WORDS + i] = word(page, i);
}

static int is_wrong(size_t page) {
    for (size_t i = 0; i < WORDS; i++)
        if (memory[page * WORDS + i] != word(page, i))
            return 1;
    return 0;
}

static void *rewrite(void *unused) {
    (void)unused;
    for (size_t page = 0;; page = (page + 1) % pages) {
        if (is_wrong(page))
            atomic_fetch_add(&errors, 1);
        fill(page);
        if (atomic_fetch_add(&rewritten, 1) % (rate / 200 + 1) == 0)
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    pages = strtoul(argv[1], NULL, 10) * 256;
    rate = strtoul(argv[2], NULL, 10);
    memory = mmap(NULL, pages * WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    version = calloc(pages, sizeof(*version));
    if (memory == MAP_FAILED || version == NULL)
        return 1;
    for (size_t page = 0; page < pages; page++)
        fill(page);
    pthread_t thread;
    if (pthread_create(&thread, NULL, rewrite, NULL) != 0)
        return 1;
    char fresh[256];
    snprintf(fresh, sizeof(fresh), "%s.new", argv[3]);
    for (;;) {
        FILE *file = fopen(fresh, "we");
        if (file != NULL) {
            fprintf(file, "%lu %lu\n", atomic_load(&rewritten), atomic_load(&errors));
            fclose(file);
            rename(fresh, argv[3]);
        }
        usleep(20000);
    }
}
