// The event loop: descriptors, deadlines, signals, and memory that is freed only when no event can refer to it.
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

// A descriptor with a handler. events == 0 takes it out of epoll, which would report errors without end otherwise.
struct watch {
    int fd; // -1: none
    uint32_t events;
    void (*ready)(struct watch *watch, uint32_t events);
};

struct timer {
    uint64_t deadline; // CLOCK_MONOTONIC, ms
    void (*fire)(struct timer *timer);
    struct timer *next, *previous;
    bool armed;
};

// false, with errno set: no epoll.
bool loop_prepare(void);

// Milliseconds of CLOCK_MONOTONIC, which never jumps, not over a hand-off either.
uint64_t loop_now(void);

// Changes what a descriptor waits for; false: the kernel refused (no memory).
bool watch_set(struct watch *watch, uint32_t events);

// Takes the descriptor out of epoll and closes it; further calls do nothing.
void watch_close(struct watch *watch);

void timer_arm(struct timer *timer, uint64_t milliseconds);
void timer_disarm(struct timer *timer);

// What is to be freed; a member of its own, as the rest is still looked at until the end of the round.
struct garbage {
    struct garbage *next;
    void *memory;
};

// free(3) of the memory that the member belongs to, after the events of this round.
void loop_free(struct garbage *member, void *memory);

// Waits for events and handles them, with the signals of `waiting` deliverable only meanwhile.
void loop_turn(const sigset_t *waiting);
