#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64,
    LATE = 1000, // ms: more than a busy machine explains
};

static int epoll_fd = -1;
static struct timer *timers;
static struct garbage *garbage;

bool loop_prepare(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return epoll_fd >= 0;
}

uint64_t loop_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool watch_set(struct watch *watch, uint32_t events) {
    if (watch->fd < 0 || watch->events == events)
        return true;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int operation = !events ? EPOLL_CTL_DEL : watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(epoll_fd, operation, watch->fd, &event) < 0)
        return false;
    watch->events = events;
    return true;
}

void watch_close(struct watch *watch) {
    if (watch->fd < 0)
        return;
    // Explicitly, before the close: a child between fork and exec may still hold the open file.
    watch_set(watch, 0);
    close(watch->fd);
    watch->fd = -1;
    watch->events = 0;
}

void timer_arm(struct timer *timer, uint64_t milliseconds) {
    timer->deadline = loop_now() + milliseconds;
    if (timer->armed)
        return;
    timer->armed = true;
    timer->previous = NULL;
    timer->next = timers;
    if (timers)
        timers->previous = timer;
    timers = timer;
}

void timer_disarm(struct timer *timer) {
    if (!timer->armed)
        return;
    timer->armed = false;
    if (timer->previous)
        timer->previous->next = timer->next;
    else
        timers = timer->next;
    if (timer->next)
        timer->next->previous = timer->previous;
}

void loop_free(struct garbage *member, void *memory) {
    *member = (struct garbage){.next = garbage, .memory = memory};
    garbage = member;
}

static void collect_garbage(void) {
    while (garbage) {
        struct garbage *next = garbage->next;
        free(garbage->memory);
        garbage = next;
    }
}

static uint64_t first_deadline(void) {
    uint64_t first = UINT64_MAX;
    for (struct timer *timer = timers; timer; timer = timer->next)
        if (timer->deadline < first)
            first = timer->deadline;
    return first;
}

static int timeout(void) {
    uint64_t first = first_deadline();
    if (first == UINT64_MAX)
        return -1;
    uint64_t now = loop_now();
    return first <= now ? 0 : first - now > 3600000 ? 3600000 : (int)(first - now);
}

// A sandbox that was frozen finds its deadlines long gone: nobody could keep them, so all get that time back.
static void forgive_freeze(uint64_t now) {
    uint64_t first = first_deadline();
    if (first == UINT64_MAX || now < first + LATE)
        return;
    for (struct timer *timer = timers; timer; timer = timer->next)
        timer->deadline += now - first;
}

static void fire_timers(void) {
    uint64_t now = loop_now();
    forgive_freeze(now);
    struct timer *timer = timers;
    while (timer) {
        if (timer->deadline > now) {
            timer = timer->next;
            continue;
        }
        timer_disarm(timer);
        timer->fire(timer);
        // The list may have changed at any place: start over. A timer armed while firing lies in the future.
        timer = timers;
    }
}

void loop_turn(const sigset_t *waiting) {
    struct epoll_event events[BATCH];
    int count = epoll_pwait(epoll_fd, events, BATCH, timeout(), waiting);
    for (int i = 0; i < count; i++) {
        struct watch *watch = events[i].data.ptr;
        // Closed, or no longer interested, by a handler earlier in this round.
        if (watch->fd >= 0 && watch->events)
            watch->ready(watch, events[i].events);
    }
    if (timers)
        fire_timers();
    collect_garbage();
}
