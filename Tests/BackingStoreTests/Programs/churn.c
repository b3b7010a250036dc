// A program whose memory never rests: threads and children that map, write, move, shrink, drop, fork and exec.
//
// churn SEED THREADS MICROSECONDS-BETWEEN-STEPS [child]
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define REGIONS 24

struct region {
    uint8_t *start;
    size_t pages;
};
struct worker {
    uint64_t state;
    struct region regions[REGIONS];
    int children;
};

static char **arguments;
static unsigned pause_us;
static int is_child;

static uint64_t next(struct worker *w) {
    w->state ^= w->state >> 12, w->state ^= w->state << 25, w->state ^= w->state >> 27;
    return w->state * 2685821657736338717ull;
}

static void write_page(struct worker *w, uint8_t *page) {
    uint64_t mark = (uint64_t)(uintptr_t)page ^ next(w);
    size_t at = next(w) % (PAGE / 16) * 16;
    memcpy(page + at, &mark, sizeof(mark));
    if (next(w) % 4 == 0)
        for (size_t i = 0; i < PAGE; i += 8)
            memcpy(page + i, &(uint64_t){mark + i}, 8);
}

static void write_some(struct worker *w, struct region *r) {
    for (size_t n = next(w) % 20 + 1; n > 0 && r->pages > 0; n--)
        write_page(w, r->start + next(w) % r->pages * PAGE);
}

static void map_region(struct worker *w, struct region *r) {
    size_t pages = next(w) % 128 + 1;
    int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (next(w) % 5 == 0) {
        fd = open(arguments[0], O_RDONLY | O_CLOEXEC);
        flags = MAP_PRIVATE;
        pages = 3; // of the program's own file
    }
    if (next(w) % 20 == 0 && fd < 0)
        pages = 1024; // room for huge pages
    void *start = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (fd >= 0)
        close(fd);
    if (start == MAP_FAILED)
        return;
    *r = (struct region){start, pages};
    if (pages == 1024)
        madvise(start, pages * PAGE, MADV_HUGEPAGE);
    write_some(w, r);
}

static void change_region(struct worker *w, struct region *r) {
    size_t part = next(w) % r->pages;
    void *moved;
    switch (next(w) % 7) {
    case 0:
        madvise(r->start + part * PAGE, (r->pages - part) * PAGE, MADV_DONTNEED);
        break;
    case 1: // shrink at the end
        if (part > 0) {
            munmap(r->start + part * PAGE, (r->pages - part) * PAGE);
            r->pages = part;
        }
        break;
    case 2: // grow or move
        moved = mremap(r->start, r->pages * PAGE, (r->pages + 8) * PAGE, MREMAP_MAYMOVE);
        if (moved != MAP_FAILED)
            *r = (struct region){moved, r->pages + 8};
        break;
    case 3: // move over a fresh place
        moved = mmap(NULL, r->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (moved != MAP_FAILED &&
            mremap(r->start, r->pages * PAGE, r->pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved) != MAP_FAILED)
            r->start = moved;
        break;
    case 4: // new memory at an old place
        moved =
            mmap(r->start, (part + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        break;
    case 5: // reading what is not there
        for (size_t i = 0; i < r->pages; i++)
            (void)*(volatile uint8_t *)(r->start + i * PAGE);
        break;
    default:
        munmap(r->start, r->pages * PAGE);
        r->pages = 0;
    }
}

static void churn(struct worker *w, int steps);

static void make_child(struct worker *w) {
    while (waitpid(-1, NULL, WNOHANG) > 0)
        w->children--;
    if (w->children >= 2 || is_child)
        return;
    uint64_t seed = next(w);
    int how = (int)(seed % 4);
    pid_t pid = how == 3 ? vfork() : fork();
    if (pid == 0) {
        char number[32];
        if (how >= 2) {
            snprintf(number, sizeof(number), "%lu", (unsigned long)(seed % 100000));
            execl(arguments[0], arguments[0], number, "1", arguments[3], "child", (char *)NULL);
            _exit(1);
        }
        is_child = 1;
        w->state = seed | 1;
        churn(w, (int)(seed % 2000) + 20);
        _exit(0);
    }
    if (pid > 0)
        w->children++;
}

static void churn(struct worker *w, int steps) {
    for (int i = 0; steps == 0 || i < steps; i++) {
        struct region *r = &w->regions[next(w) % REGIONS];
        if (r->pages == 0)
            map_region(w, r);
        else if (next(w) % 4 == 0)
            change_region(w, r);
        else
            write_some(w, r);
        if (next(w) % 40 == 0) {
            uint8_t *top = sbrk(PAGE * 4);
            if (top != (void *)-1 && next(w) % 2 == 0)
                write_page(w, (uint8_t *)((uintptr_t)top & ~(PAGE - 1)) + PAGE);
            if (next(w) % 3 == 0)
                sbrk(-(intptr_t)PAGE * 8);
        }
        if (next(w) % 60 == 0)
            make_child(w);
        if (pause_us > 0)
            usleep(pause_us);
    }
}

static void *work(void *argument) {
    static struct worker workers[16];
    struct worker *w = &workers[(uintptr_t)argument % 16];
    w->state = (strtoull(arguments[1], NULL, 10) + (uintptr_t)argument) * 7919 + 1;
    churn(w, is_child ? 1500 : 0);
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    arguments = argv;
    is_child = argc > 4;
    pause_us = (unsigned)atoi(argv[3]);
    int threads = atoi(argv[2]);
    pthread_t thread;
    for (intptr_t i = 1; i < threads; i++)
        pthread_create(&thread, NULL, work, (void *)i);
    work(NULL);
    return 0;
}
