// A thread that counts all the time but for its writes: whatever takes time from it, or makes writes slower, shows as a
// lower count.
#define _GNU_SOURCE 1
#include "workload.h"
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    /// Steps between two looks at the clock: some 20 microseconds.
    STEPS = 16384,
    /// Between pages that are written one after the other; a prime, so that all pages are written in turn.
    STRIDE = 7919,
};

/// What the thread has done at one moment, as it says itself.
static struct {
    uint64_t counts, pages;
    int64_t wall, processor, writing;
} taken;
/// Whether somebody waits for it.
static _Atomic int wanted;
static int pinned;

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    // The call itself, as in now().
    syscall(SYS_clock_gettime, clock, &t);
    return (int64_t)t.tv_sec * NANOSECONDS + t.tv_nsec;
}

/// Keeps the thread on the last processor, where there are two: moving it would be its loss, too.
static void pin(void) {
    cpu_set_t processors;
    if (sched_getaffinity(0, sizeof processors, &processors) || CPU_COUNT(&processors) < 2)
        return;
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &processors))
        last--;
    CPU_ZERO(&processors);
    CPU_SET(last, &processors);
    pinned = sched_setaffinity(0, sizeof processors, &processors) == 0;
}

static uint64_t count_some(uint64_t value) {
    for (int i = 0; i < STEPS; i++)
        value = value * 6364136223846793005u + 1442695040888963407u;
    return value;
}

static void write_page(uint64_t number, uint64_t *random) {
    unsigned char *page = memory.bytes + number * (memory.pages % STRIDE ? STRIDE : 1) % memory.pages * PAGE;
    uint64_t words[2] = {number, *random};
    if (memory.whole)
        fill(page, random);
    else
        memcpy(page, words, sizeof words);
}

/// Writes a page; what it took, faults too, but not the time in which others ran.
static int64_t time_to_write(uint64_t number, uint64_t *random) {
    int64_t before = read_clock(CLOCK_THREAD_CPUTIME_ID);
    write_page(number, random);
    return read_clock(CLOCK_THREAD_CPUTIME_ID) - before;
}

_Noreturn void spin(void) {
    uint64_t random = 88172645463325252u, counts = 0, pages = 0, first = 0;
    volatile uint64_t value = 1;
    int64_t start = 0, writing = 0;
    int active = 0;
    for (;;) {
        if (!atomic_load(&running)) {
            active = 0;
            nap(1000000);
        } else if (!active) {
            // It may have come from another host meanwhile: no restore brings the processor back, or the clocks.
            pin();
            active = 1;
            first = pages;
            start = read_clock(CLOCK_MONOTONIC);
        } else {
            value = count_some(value);
            counts += STEPS;
            double passed = (double)(read_clock(CLOCK_MONOTONIC) - start) / NANOSECONDS;
            double due = memory.active ? passed * (double)memory.rate : 0;
            for (; (double)(pages - first) + 1 <= due; pages++)
                writing += time_to_write(pages, &random);
        }
        if (!atomic_load(&wanted))
            continue;
        taken.counts = counts;
        taken.pages = pages;
        taken.wall = read_clock(CLOCK_MONOTONIC);
        taken.processor = read_clock(CLOCK_THREAD_CPUTIME_ID);
        taken.writing = writing;
        atomic_store(&wanted, 0);
    }
}

int report_counts(char *line, size_t size) {
    if (!counting)
        return snprintf(line, size, "{\"error\":\"nothing is counted\"}\n");
    atomic_store(&wanted, 1);
    while (atomic_load(&wanted))
        nap(200000);
    return snprintf(line, size,
                    "{\"counts\":%" PRIu64 ",\"pages\":%" PRIu64 ",\"wall_ns\":%" PRId64 ",\"processor_ns\":%" PRId64
                    ",\"writing_ns\":%" PRId64 ",\"pinned\":%s}\n",
                    taken.counts, taken.pages, taken.wall, taken.processor, taken.writing, pinned ? "true" : "false");
}
