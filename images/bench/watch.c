// The clock reader, and the reads of memory after a pause.
#include "workload.h"

enum {
    /// Between two looks at the clock: what the measured pause can be too long by.
    LOOK_EVERY = 200000,
    /// The same while the program pauses: it leaves the processors to what is measured meanwhile.
    LOOK_PAUSED = 20000000,
    /// A gap from which on memory is read: longer than what a busy machine makes, shorter than any hand-off.
    LONG_GAP = 8000000,
};

/// Counts the long gaps that were the longest so far.
static _Atomic unsigned episode;

void *watch_clock(void *unused) {
    (void)unused;
    int64_t before = now();
    for (;;) {
        if (!atomic_load(&running)) {
            nap(LOOK_PAUSED);
            before = now();
            continue;
        }
        nap(LOOK_EVERY);
        int64_t at = now();
        int64_t gap = at - before;
        before = at;
        if (gap <= atomic_load(&seen.gap))
            continue;
        atomic_store(&seen.gap, gap);
        if (gap < LONG_GAP)
            continue;
        atomic_store(&seen.changed_after, 0);
        atomic_store(&seen.gap_end, at);
        atomic_fetch_add(&episode, 1);
    }
    return 0;
}

/// Reads every twentieth page in an order that no read-ahead knows.
static void touch_some(void) {
    size_t count = memory.pages / 20;
    // What is asked for before the end must not be what an earlier gap left.
    atomic_store(&seen.touch, 0);
    atomic_store(&seen.touch_longest, 0);
    int64_t start = now(), longest = 0, before = start;
    for (size_t i = 0; i < count; i++) {
        size_t page = i * 7919 % count * 20;
        (void)*(volatile unsigned char *)(memory.bytes + page * PAGE);
        int64_t at = now();
        if (at - before > longest)
            longest = at - before;
        before = at;
    }
    atomic_store(&seen.touch, before - start);
    atomic_store(&seen.touch_longest, longest);
}

void *touch_pages(void *unused) {
    (void)unused;
    unsigned done = 0;
    for (;;) {
        nap(atomic_load(&running) ? LOOK_EVERY : LOOK_PAUSED);
        unsigned wanted = atomic_load(&episode);
        if (wanted == done)
            continue;
        done = wanted;
        touch_some();
    }
    return 0;
}
