// What the benchmarks run inside: see workload.c.
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096, NANOSECONDS = 1000000000 };

/// The memory, and what has been written to each of its pages.
struct memory {
    unsigned char *bytes;
    size_t pages;
    /// How often each page was changed; kept apart from the pages, to find changes that were lost.
    uint64_t *changes;
    /// Pages that are changed, spread evenly over all; the rest is written once, in the beginning.
    size_t active;
    /// Pages to change per second.
    uint64_t rate;
    /// Whether a page is changed as a whole, or 16 bytes of it.
    int whole;
};

/// What the program has seen since it was last asked.
struct seen {
    /// The longest time between two looks at the clock, and when it ended.
    _Atomic int64_t gap;
    _Atomic int64_t gap_end;
    /// How long reading 5 % of the pages took after it, and the longest of these reads.
    _Atomic int64_t touch;
    _Atomic int64_t touch_longest;
    /// Pages changed in the second after it.
    _Atomic uint64_t changed_after;
};

extern struct memory memory;
extern struct seen seen;
/// Whether pages are being changed.
extern _Atomic int running;
/// Whether there is, or soon will be, a thread that counts (spin.c).
extern int counting;

/// Time of day, nanoseconds: the one clock that no time namespace moves, so that it goes on across hosts.
int64_t now(void);
/// Sleeps for so many nanoseconds.
void nap(int64_t nanoseconds);
/// Keeps the writer from changing a page while it is looked at.
void lock_pages(void);
void unlock_pages(void);
/// Pages whose content is not what was written last.
size_t wrong_pages(void);

/// Fills a page with random bytes.
void fill(unsigned char *page, uint64_t *random);
/// Counts without end, and writes pages in turn, each when it is due; those that could not be written in time are made
/// up for.
_Noreturn void spin(void);
/// Says how far it is, as a line of JSON.
int report_counts(char *line, size_t size);

/// Threads: look at the clock without end; read 5 % of the memory after each long gap.
void *watch_clock(void *unused);
void *touch_pages(void *unused);

/// Threads: answer questions on one port, send back what comes on another.
void *serve_questions(void *port);
void *serve_echo(void *port);

#endif
