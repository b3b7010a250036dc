// The benchmarks' program.
//
//   workload stamp
//       writes the time of day in nanoseconds and ends: the first instruction of a launched program
//   workload memory BYTES PAGES-A-SECOND idle|a|b PROCESSES PORT private|shared
//       keeps BYTES of random content, in private or in shared anonymous memory, and changes pages of it: 16 bytes each
//       (a), all of it (b), or none (idle); PROCESSES - 1 idle children; questions on PORT, an echo on PORT + 1
//   workload spin BYTES PAGES-A-SECOND idle|a|b PORT
//       keeps BYTES in private memory, writes its pages in turn, and counts all the rest of the time (spin.c);
//       questions on PORT
#define _GNU_SOURCE 1
#include "workload.h"
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct memory memory;
struct seen seen;
_Atomic int running = 1;
int counting;
static pthread_mutex_t pages_lock = PTHREAD_MUTEX_INITIALIZER;

int64_t now(void) {
    struct timespec t;
    // The call itself and not the C library's shortcut, which a program restored on another host keeps from the first.
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * NANOSECONDS + t.tv_nsec;
}

void nap(int64_t nanoseconds) {
    struct timespec t = {nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS};
    nanosleep(&t, NULL);
}

void lock_pages(void) {
    pthread_mutex_lock(&pages_lock);
}

void unlock_pages(void) {
    pthread_mutex_unlock(&pages_lock);
}

static uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/// The 16 bytes at a page's start say which page it is and which change it saw last.
static void stamp(size_t page) {
    uint64_t words[2] = {page ^ 0x736d6972756e, memory.changes[page]};
    memcpy(memory.bytes + page * PAGE, words, sizeof words);
}

size_t wrong_pages(void) {
    size_t wrong = 0;
    for (size_t page = 0; page < memory.pages; page++) {
        uint64_t words[2];
        memcpy(words, memory.bytes + page * PAGE, sizeof words);
        wrong += words[0] != (page ^ 0x736d6972756e) || words[1] != memory.changes[page];
    }
    return wrong;
}

void fill(unsigned char *page, uint64_t *random) {
    for (size_t at = 0; at < PAGE; at += sizeof(uint64_t)) {
        uint64_t word = next_random(random);
        memcpy(page + at, &word, sizeof word);
    }
}

static void change(size_t page, uint64_t *random) {
    lock_pages();
    memory.changes[page]++;
    if (memory.whole)
        fill(memory.bytes + page * PAGE, random);
    stamp(page);
    unlock_pages();
    if (now() - atomic_load(&seen.gap_end) < NANOSECONDS)
        atomic_fetch_add(&seen.changed_after, 1);
}

/// Changes pages at the wanted rate; time that was lost is not made up for, or a pause would be followed by a burst.
static _Noreturn void change_pages(void) {
    uint64_t random = 88172645463325252u;
    size_t position = 0;
    int64_t before = now();
    double due = 0;
    for (;;) {
        nap(2000000);
        int64_t at = now();
        double passed = (double)(at - before) / NANOSECONDS;
        before = at;
        if (!memory.active || !atomic_load(&running))
            continue;
        due += (passed < 0.02 ? passed : 0.02) * (double)memory.rate;
        for (; due >= 1; due--) {
            change(position * memory.pages / memory.active, &random);
            position = (position + 1) % memory.active;
        }
    }
}

static void allocate(size_t bytes, uint64_t rate, const char *mode, int sharing) {
    memory.pages = (bytes + PAGE - 1) / PAGE;
    memory.bytes = mmap(NULL, memory.pages * PAGE, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    memory.changes = calloc(memory.pages, sizeof *memory.changes);
    if (memory.bytes == MAP_FAILED || !memory.changes) {
        fprintf(stderr, "workload: no memory\n");
        exit(1);
    }
    memory.rate = rate;
    memory.whole = strcmp(mode, "b") == 0;
    if (strcmp(mode, "idle") != 0)
        memory.active = rate < memory.pages ? rate : memory.pages;
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (size_t page = 0; page < memory.pages; page++) {
        fill(memory.bytes + page * PAGE, &random);
        stamp(page);
    }
}

static void start(void *(*thread)(void *), void *argument) {
    pthread_t id;
    if (pthread_create(&id, NULL, thread, argument)) {
        fprintf(stderr, "workload: no thread\n");
        exit(1);
    }
}

static int keep_memory(char **argv) {
    static int ports[2];
    signal(SIGPIPE, SIG_IGN);
    // Children first: they have nothing of the large memory, and one thread.
    for (int left = atoi(argv[3]) - 1; left > 0; left--) {
        if (fork() == 0)
            for (;;)
                pause();
    }
    int sharing = strcmp(argv[5], "shared") == 0 ? MAP_SHARED : MAP_PRIVATE;
    allocate(strtoull(argv[0], NULL, 10), strtoull(argv[1], NULL, 10), argv[2], sharing);
    ports[0] = atoi(argv[4]);
    ports[1] = ports[0] + 1;
    start(watch_clock, NULL);
    start(touch_pages, NULL);
    start(serve_echo, &ports[1]);
    start(serve_questions, &ports[0]);
    change_pages();
}

static _Noreturn void keep_counting(char **argv) {
    static int port;
    signal(SIGPIPE, SIG_IGN);
    allocate(strtoull(argv[0], NULL, 10), strtoull(argv[1], NULL, 10), argv[2], MAP_PRIVATE);
    port = atoi(argv[3]);
    counting = 1;
    start(serve_questions, &port);
    spin();
}

int main(int argc, char **argv) {
    int64_t first = now();
    if (argc == 2 && strcmp(argv[1], "stamp") == 0) {
        printf("%" PRId64 "\n", first);
        return fflush(stdout) ? 1 : 0;
    }
    if (argc == 8 && strcmp(argv[1], "memory") == 0)
        return keep_memory(argv + 2);
    if (argc == 6 && strcmp(argv[1], "spin") == 0)
        keep_counting(argv + 2);
    fprintf(stderr,
            "usage: workload stamp | workload memory BYTES PAGES-A-SECOND idle|a|b PROCESSES PORT private|shared | "
            "workload spin BYTES PAGES-A-SECOND idle|a|b PORT\n");
    return 2;
}
