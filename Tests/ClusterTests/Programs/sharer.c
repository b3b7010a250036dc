// Shared memory that checks itself: a parent and its children write to anonymous shared memory, a mapped memfd, a memfd
// that is only written with write(2), and a System V segment, and know of every page of theirs what must be in it.
//
// sharer MEGABYTES FILE: keeps so much of each kind; writes "STEPS ERRORS" into FILE, by renaming, every 20 ms, and the
// first wrong pages into FILE.wrong.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define WORKERS 3
#define KINDS 4

#define KEY 0x534d49
#define DOOMED 20001 // words; not whole pages

enum kind { ANONYMOUS, MAPPED, WRITTEN, SEGMENT };

struct counters {
    atomic_ulong steps, errors;
};
static struct counters *counters;
static uint64_t *starts[KINDS];
static int mapped, written, segment;
static size_t pages;
static const char *wrong_pages;
// Every worker's own: the version of each page of each kind that is its, and how it was written.
static uint32_t *versions[KINDS];
static uint8_t *ways[KINDS];

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 29;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 32;
}

static uint64_t word(int kind, size_t page, size_t i) {
    return mix(((uint64_t)versions[kind][page] << 40) + (uint64_t)kind * 1000003 + page * 521 + i);
}

static void make(int kind, size_t page, uint64_t *out) {
    for (size_t i = 0; i < PAGE / 8; i++)
        out[i] = word(kind, page, i);
}

static void tell(int kind, size_t page, size_t word) {
    FILE *file = fopen(wrong_pages, "ae");
    if (file == NULL)
        return;
    fprintf(file, "kind %d page %zu from word %zu on, version %u, way %u\n", kind, page, word, versions[kind][page],
            ways[kind][page]);
    fclose(file);
}

static void check(int kind, size_t page) {
    uint64_t bytes[PAGE / 8], *held = kind == WRITTEN ? bytes : starts[kind] + page * PAGE / 8;
    if (kind == WRITTEN && pread(written, bytes, PAGE, (off_t)(page * PAGE)) != PAGE)
        atomic_fetch_add(&counters->errors, 1);
    for (size_t i = 0; i < PAGE / 8; i++)
        if (held[i] != word(kind, page, i)) {
            if (atomic_fetch_add(&counters->errors, 1) < 5)
                tell(kind, page, i);
            return;
        }
}

// A new version of a page, by the way that `how` says.
static void change(int kind, size_t page, unsigned how) {
    uint64_t bytes[PAGE / 8];
    versions[kind][page]++;
    ways[kind][page] = (uint8_t)how;
    make(kind, page, bytes);
    if (kind == WRITTEN || (kind == MAPPED && how == 0)) {
        if (pwrite(kind == MAPPED ? mapped : written, bytes, PAGE, (off_t)(page * PAGE)) != PAGE)
            abort();
    } else if (how == 1) {
        // A child that is gone at once.
        pid_t child = fork();
        if (child == 0) {
            memcpy(starts[kind] + page * PAGE / 8, bytes, PAGE);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (how == 2 && kind != ANONYMOUS) {
        // A mapping that is gone at once.
        void *passing = kind == SEGMENT ? shmat(segment, NULL, 0)
                                        : mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
        memcpy((char *)passing + page * PAGE, bytes, PAGE);
        if (kind == SEGMENT)
            shmdt(passing);
        else
            munmap(passing, pages * PAGE);
    } else {
        memcpy(starts[kind] + page * PAGE / 8, bytes, PAGE);
        if (how == 3)
            madvise(starts[kind] + page * PAGE / 8, PAGE, MADV_DONTNEED);
    }
}

static void work(unsigned me) {
    uint64_t state = me + 1;
    for (int kind = 0; kind < KINDS; kind++) {
        versions[kind] = calloc(pages, sizeof(**versions));
        ways[kind] = calloc(pages, sizeof(**ways));
        for (size_t page = me; page < pages; page += WORKERS)
            change(kind, page, 9);
    }
    for (;;) {
        state = mix(state + 0x9e3779b97f4a7c15ull);
        int kind = (int)(state % KINDS);
        // Some pages change all the time, most hardly ever.
        size_t span = state >> 20 & 3 ? 12 : pages / WORKERS;
        size_t page = (state >> 32) % span * WORKERS + me;
        if (page < pages) {
            change(kind, page, (unsigned)(state >> 8) % 40);
            check(kind, page);
        }
        check((int)(state >> 4 & 3), (size_t)((state >> 16) % (pages / WORKERS)) * WORKERS + me);
        atomic_fetch_add(&counters->steps, 1);
        usleep(1000);
    }
}

static void *share(int fd, size_t size) {
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    if (start == MAP_FAILED)
        abort();
    return start;
}

// A segment that goes with the last process that has it: the kernel takes its key away.
static const uint64_t *make_doomed(void) {
    int id = shmget(KEY + 1, DOOMED * sizeof(uint64_t), IPC_CREAT | 0600);
    uint64_t *words = shmat(id, NULL, 0);
    if (words == (void *)-1 || shmctl(id, IPC_RMID, NULL) != 0)
        exit(1);
    for (uint64_t i = 0; i < DOOMED; i++)
        words[i] = i * 0x9e3779b97f4a7c15ull;
    return words;
}

static int is_right(const uint64_t *words) {
    for (uint64_t i = 0; i < DOOMED; i++)
        if (words[i] != i * 0x9e3779b97f4a7c15ull)
            return 0;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    char told[256];
    snprintf(told, sizeof(told), "%s.wrong", argv[2]);
    wrong_pages = told;
    size_t size = (size_t)atoi(argv[1]) << 20;
    pages = size / PAGE;
    counters = share(-1, PAGE);
    starts[ANONYMOUS] = share(-1, size);
    mapped = memfd_create("mapped", MFD_CLOEXEC);
    written = memfd_create("written", MFD_CLOEXEC);
    if (ftruncate(mapped, (off_t)size) != 0 || ftruncate(written, (off_t)size) != 0)
        return 1;
    starts[MAPPED] = share(mapped, size);
    segment = shmget(KEY, size, IPC_CREAT | 0600);
    starts[SEGMENT] = shmat(segment, NULL, 0);
    if (starts[SEGMENT] == (void *)-1)
        return 1;
    const uint64_t *doomed = make_doomed();
    for (unsigned me = 0; me < WORKERS; me++)
        if (fork() == 0)
            work(me);
    char fresh[256];
    snprintf(fresh, sizeof(fresh), "%s.new", argv[2]);
    for (;;) {
        if (!is_right(doomed))
            atomic_fetch_add(&counters->errors, 1);
        FILE *file = fopen(fresh, "we");
        if (file != NULL) {
            fprintf(file, "%lu %lu\n", atomic_load(&counters->steps), atomic_load(&counters->errors));
            fclose(file);
            rename(fresh, argv[2]);
        }
        usleep(20000);
    }
}
