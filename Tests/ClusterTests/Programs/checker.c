// Memory that checks itself: threads map, write, move, shrink, drop and fork, and know of every page what must be in
// it.
//
// checker THREADS [CHILDREN] FILE: writes "STEPS ERRORS" into FILE, by renaming, every 20 ms; what was wrong is told in
// FILE.wrong. Each thread has one child at times, or, where CHILDREN says so, as many as that at most times.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096ul
#define REGIONS 12
#define MOST_PAGES 192
#define MOST_CHILDREN 8

// What each page of a region holds: version 0 is zeros, any other is words that depend on thread, region and place.
struct region {
    uint64_t *start;
    size_t pages;
    uint64_t name;
    uint32_t version[MOST_PAGES];
};
struct worker {
    uint64_t state;
    uint64_t names;
    struct region regions[REGIONS];
    pid_t children[MOST_CHILDREN];
};

static atomic_ulong steps, errors;
static char story[256];
static int most_children = 1;
// Milliseconds at which this process was forked by a thread.
static long forked;

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 29;
    return x;
}

static uint64_t pick(struct worker *w, uint64_t limit) {
    w->state = mix(w->state + 0x9e3779b97f4a7c15ull);
    return w->state % limit;
}

static uint64_t word(const struct region *r, size_t page, size_t i) {
    return r->version[page] == 0 ? 0 : mix(r->name * 1000003 + page * 521 + i + ((uint64_t)r->version[page] << 40));
}

static void fill(struct region *r, size_t page) {
    r->version[page]++;
    for (size_t i = 0; i < PAGE / 8; i++)
        r->start[page * PAGE / 8 + i] = word(r, page, i);
}

// The version of the page that is there, as far as it is one; -1 for none.
static long found(const struct region *r, size_t page, size_t i) {
    struct region other = *r;
    for (uint32_t version = 0; version <= r->version[page] + 1; version++) {
        other.version[page] = version;
        if (r->start[page * PAGE / 8 + i] == word(&other, page, i))
            return version;
    }
    return -1;
}

static void tell(const struct region *r, size_t page, size_t i, const char *who) {
    FILE *file = fopen(story, "ae");
    if (file == NULL)
        return;
    fprintf(file,
            "%s %d at %ld, forked at %ld, step %lu: page %zu of %zu at %p, word %zu is %llx, of version %ld and not "
            "%u; the "
            "last of %ld\n",
            who, getpid(), now(), forked, atomic_load(&steps), page, r->pages, (void *)r->start, i,
            (unsigned long long)r->start[page * PAGE / 8 + i], found(r, page, i), r->version[page],
            found(r, page, 511));
    fclose(file);
}

static unsigned long wrong(const struct region *r, const char *who) {
    unsigned long count = 0;
    for (size_t page = 0; page < r->pages; page++)
        for (size_t i = 0; i < PAGE / 8; i++)
            if (r->start[page * PAGE / 8 + i] != word(r, page, i)) {
                tell(r, page, i, who);
                count++;
                break;
            }
    return count;
}

static void map_region(struct worker *w, struct region *r) {
    r->pages = 1 + pick(w, MOST_PAGES / 2);
    r->start = mmap(NULL, r->pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->start == MAP_FAILED)
        abort();
    r->name = ++w->names;
    memset(r->version, 0, sizeof(r->version));
    for (size_t page = 0; page < r->pages; page += 1 + pick(w, 3))
        fill(r, page);
}

static void map_anew(struct worker *w, struct region *r) {
    munmap(r->start, r->pages * PAGE);
    map_region(w, r);
}

static void resize(struct worker *w, struct region *r) {
    size_t pages = 1 + pick(w, MOST_PAGES);
    // Something in the way above makes growing a move.
    uint64_t *moved = mremap(r->start, r->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED)
        abort();
    for (size_t page = r->pages; page < pages; page++)
        r->version[page] = 0;
    r->start = moved;
    r->pages = pages;
}

static void drop(struct worker *w, struct region *r) {
    size_t first = pick(w, r->pages), count = 1 + pick(w, r->pages - first);
    if (madvise((char *)r->start + first * PAGE, count * PAGE, MADV_DONTNEED) != 0)
        abort();
    memset(r->version + first, 0, count * sizeof(*r->version));
}

// Forgets children that have ended, and tells of those that found something wrong. Returns a free place, -1 if none.
static int reap(struct worker *w) {
    int place = -1;
    for (int i = 0; i < most_children; i++) {
        int status = 0;
        if (w->children[i] > 0 && waitpid(w->children[i], &status, WNOHANG) == 0)
            continue;
        if (status != 0) {
            FILE *file = fopen(story, "ae");
            if (file != NULL) {
                fprintf(file, "child %d ended with %x\n", w->children[i], status);
                fclose(file);
            }
            atomic_fetch_add(&errors, 1);
        }
        w->children[i] = 0;
        place = i;
    }
    return place;
}

// A child sees what its parent had, writes to its own copy and sees that too.
static void fork_child(struct worker *w) {
    int place = reap(w);
    if (place < 0)
        return;
    pid_t child = w->children[place] = fork();
    if (child == 0) {
        unsigned long bad = 0;
        forked = now();
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < REGIONS; i++) {
                bad += wrong(&w->regions[i], "child");
                fill(&w->regions[i], (size_t)round % w->regions[i].pages);
            }
            usleep(10000);
        }
        _exit(bad != 0);
    }
    if (child < 0)
        atomic_fetch_add(&errors, 1);
}

static void *work(void *argument) {
    struct worker *w = argument;
    for (int i = 0; i < REGIONS; i++)
        map_region(w, &w->regions[i]);
    for (;;) {
        struct region *r = &w->regions[pick(w, REGIONS)];
        uint64_t what = pick(w, 1000);
        if (what < (most_children > 1 ? 15 : 2))
            fork_child(w);
        else if (what < 20)
            map_anew(w, r);
        else if (what < 40)
            resize(w, r);
        else if (what < 70)
            drop(w, r);
        else
            fill(r, pick(w, r->pages));
        if (what % 16 == 0)
            atomic_fetch_add(&errors, wrong(r, "thread"));
        atomic_fetch_add(&steps, 1);
        usleep(500);
    }
    return NULL;
}

// A program that ends says why: where it was, and at which address.
static void last_words(int signal, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    char text[160];
    int length = snprintf(text, sizeof(text), "signal %d code %d address %p at %llx stack %llx\n", signal,
                          info->si_code, info->si_addr, (unsigned long long)at->uc_mcontext.gregs[REG_RIP],
                          (unsigned long long)at->uc_mcontext.gregs[REG_RSP]);
    if (write(2, text, (size_t)length) < 0)
        _exit(3);
    _exit(3);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    const char *output = argv[argc - 1];
    if (argc > 3)
        most_children = atoi(argv[2]);
    if (most_children < 1 || most_children > MOST_CHILDREN)
        return 2;
    struct sigaction words = {.sa_sigaction = last_words, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        sigaction(signals[i], &words, NULL);
    snprintf(story, sizeof(story), "%s.wrong", output);
    int threads = atoi(argv[1]);
    struct worker *workers = calloc((size_t)threads, sizeof(*workers));
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        workers[i].state = (uint64_t)i * 7919 + 1;
        workers[i].names = (uint64_t)i << 32;
        if (workers == NULL || pthread_create(&thread, NULL, work, &workers[i]) != 0)
            return 1;
    }
    char fresh[256];
    snprintf(fresh, sizeof(fresh), "%s.new", output);
    for (;;) {
        FILE *file = fopen(fresh, "we");
        if (file != NULL) {
            fprintf(file, "%lu %lu\n", atomic_load(&steps), atomic_load(&errors));
            fclose(file);
            rename(fresh, output);
        }
        usleep(20000);
    }
}
