// A process whose pages come from a page server, handed over as CRIU does, and that checks every one of them.
//
// lazy SOCKET PID-TO-CLAIM PAGES SEED MODE: "churn" checks from threads while it drops, moves, unmaps and forks; "wait"
// checks slowly, so that the server can die meanwhile; "track" asks for asynchronous write protection too and, after
// checking everything, writes 20 pages and waits for a byte; "restless" asks for it too, has four mappings more, and
// writes and drops pages everywhere and forks until it is killed; "moving" also moves pages about. "sweep" is as
// "track", but writes every page once, one each 20 µs. "fork" drops 16 pages after checking everything and, at a byte,
// forks a child that checks all and waits for another byte. 0: all was right.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define BASE 0x100000000000ul
#define SPAN 512ul // pages of each thread's own part

static uint64_t word(uint64_t page, size_t i) {
    return page % 7 == 0 ? 0 : page * 1000003 + (page % 5 == 0 ? 0 : i);
}

static int right(const uint64_t *at, uint64_t page) {
    for (size_t i = 0; i < PAGE / 8; i++)
        if (at[i] != (page ? word(page, i) : 0))
            return 0;
    return 1;
}

static void hand_over(const char *path, int pid, int uffd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    int socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(socket_fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        exit(20);
    int zombie = -(pid + 1);
    if (write(socket_fd, &zombie, 4) != 4 || write(socket_fd, &pid, 4) != 4)
        exit(21);
    char dummy = 0;
    struct iovec vector = {&dummy, 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    memcpy(CMSG_DATA(&control.header), &uffd, sizeof(int));
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    if (sendmsg(socket_fd, &message, 0) != 1)
        exit(22);
    uint32_t mark = 0x52535446;
    if (write(socket_fd, &mark, 4) != 4)
        exit(23);
    close(socket_fd);
    close(uffd);
}

struct part {
    uint64_t first; // page number
    uint64_t seed;
    int failed;
};

static uint64_t next(struct part *p) {
    p->seed ^= p->seed << 13, p->seed ^= p->seed >> 7, p->seed ^= p->seed << 17;
    return p->seed;
}

// Each page of the part is expected to hold the content of a page number, or zeros (0), or to be unmapped (~0).
static void *churn(void *argument) {
    struct part *p = argument;
    uint64_t expected[SPAN];
    uint8_t *at = (uint8_t *)(p->first * PAGE);
    for (size_t i = 0; i < SPAN; i++)
        expected[i] = p->first + i;
    for (int step = 0; step < 400; step++) {
        size_t from = next(p) % SPAN, count = next(p) % 24 + 1;
        if (from + count > SPAN)
            count = SPAN - from;
        switch (next(p) % 8) {
        case 0: // drop
            madvise(at + from * PAGE, count * PAGE, MADV_DONTNEED);
            for (size_t i = from; i < from + count; i++)
                expected[i] = expected[i] == ~0ull ? ~0ull : 0;
            break;
        case 1: { // move elsewhere, check there, move back
            int whole = 1;
            for (size_t i = from; i < from + count; i++)
                whole &= expected[i] != ~0ull;
            if (!whole)
                break;
            void *place = mmap(NULL, count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            uint8_t *moved = mremap(at + from * PAGE, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
            if (moved == MAP_FAILED)
                break; // across two mappings
            for (size_t i = 0; i < count; i += 3)
                if (!right((uint64_t *)(moved + i * PAGE), expected[from + i]))
                    p->failed = 1;
            if (mremap(moved, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + from * PAGE) ==
                MAP_FAILED)
                p->failed = 2;
            break;
        }
        case 2:
            if (count > 4)
                break;
            munmap(at + from * PAGE, count * PAGE);
            for (size_t i = from; i < from + count; i++)
                expected[i] = ~0ull;
            break;
        case 3:
            if (step % 40 == 0) {
                pid_t child = fork();
                if (child == 0) {
                    for (size_t i = 0; i < SPAN; i++)
                        if (expected[i] != ~0ull && !right((uint64_t *)(at + i * PAGE), expected[i]))
                            _exit(1);
                    _exit(0);
                }
                int status = 1;
                waitpid(child, &status, 0);
                if (status != 0)
                    p->failed = 3;
            }
            break;
        default:
            for (size_t i = from; i < from + count; i++)
                if (expected[i] != ~0ull && !right((uint64_t *)(at + i * PAGE), expected[i]))
                    p->failed = 4;
        }
    }
    for (size_t i = 0; i < SPAN; i++)
        if (expected[i] != ~0ull && !right((uint64_t *)(at + i * PAGE), expected[i]))
            p->failed = 5;
    return NULL;
}

static void *empty(uint8_t *at, size_t count) {
    return mmap(at, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

// Moves some pages over others of the same part, and puts empty ones in their place. Across mappings that fails, but
// what was at the new place is gone then.
static void move_within(struct part *p, uint8_t *at, size_t from, size_t count) {
    size_t to = next(p) % SPAN;
    if (to + count > SPAN || (to < from + count && from < to + count))
        return;
    if (mremap(at + from * PAGE, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + to * PAGE) ==
        MAP_FAILED)
        empty(at + to * PAGE, count);
    empty(at + from * PAGE, count);
}

static void write_some(struct part *p, uint8_t *at, size_t pages) {
    for (size_t n = next(p) % 8; n > 0; n--)
        ((uint64_t *)(at + next(p) % pages * PAGE))[next(p) % 512] = next(p);
}

static int may_move;

static void *restless(void *argument) {
    struct part *p = argument;
    uint8_t *at = (uint8_t *)(p->first * PAGE);
    for (unsigned step = 0;; step++, usleep(200)) {
        size_t from = next(p) % SPAN, count = next(p) % 24 + 1;
        if (from + count > SPAN)
            count = SPAN - from;
        uint64_t what = next(p) % 32;
        if (what == 0)
            madvise(at + from * PAGE, count * PAGE, MADV_DONTNEED);
        else if (what == 1 && may_move)
            move_within(p, at, from, count);
        else if (what == 2 && may_move) { // all of it, for good
            void *place = mmap(NULL, SPAN * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            void *moved = mremap(at, SPAN * PAGE, SPAN * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
            if (moved == MAP_FAILED)
                empty(at, SPAN);
            else
                at = moved;
        } else if (what == 3 && step % 4 == 0) {
            pid_t child = fork();
            if (child == 0) {
                write_some(p, at, SPAN);
                _exit(0);
            }
            waitpid(child, NULL, 0);
        } else
            write_some(p, at, SPAN);
    }
    return NULL;
}

static int never_rest(int uffd, char **argv, uint64_t first, uint64_t pages) {
    static struct part parts[5];
    pthread_t thread;
    may_move = strcmp(argv[5], "moving") == 0;
    for (uint64_t i = 0; i < 4; i++) {
        parts[i] = (struct part){.first = first + pages + 16 + i * (SPAN + 16),
                                 .seed = strtoull(argv[4], NULL, 10) * 31 + i + 1};
        void *at = (void *)(parts[i].first * PAGE);
        if (mmap(at, SPAN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
            at)
            return 50;
        struct uffdio_register request = {.range = {parts[i].first * PAGE, SPAN * PAGE},
                                          .mode = UFFDIO_REGISTER_MODE_MISSING};
        if (ioctl(uffd, UFFDIO_REGISTER, &request) != 0)
            return 51;
    }
    hand_over(argv[1], atoi(argv[2]), uffd);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, restless, &parts[i]);
    parts[4] = (struct part){.first = first, .seed = 99};
    for (unsigned step = 0;; step++, usleep(100)) {
        write_some(&parts[4], (uint8_t *)(first * PAGE), pages);
        if (step % 64 == 0)
            madvise((uint8_t *)((first + next(&parts[4]) % (pages - 8)) * PAGE), 8 * PAGE, MADV_DONTNEED);
    }
}

static int64_t nanoseconds(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000ll + at.tv_nsec;
}

// What is missed of it is not written again.
static void sweep(uint64_t first, uint64_t pages) {
    for (uint64_t i = 0; i < pages; i++) {
        int64_t until = nanoseconds() + 20000;
        *(uint64_t *)((first + i) * PAGE) = ~i;
        while (nanoseconds() < until) {
        }
    }
}

// Said by the parent: "checked"; by the child: "forked".
static int fork_when_told(uint64_t first, uint64_t pages) {
    char go;
    madvise((void *)(first * PAGE), 16 * PAGE, MADV_DONTNEED);
    printf("checked\n"), fflush(stdout);
    if (read(0, &go, 1) != 1)
        return 41;
    pid_t child = fork();
    if (child == 0) {
        for (uint64_t i = 0; i < pages; i++)
            if (!right((uint64_t *)((first + i) * PAGE), i < 16 ? 0 : first + i))
                _exit(1);
        printf("forked\n"), fflush(stdout);
        _exit(read(0, &go, 1) != 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    return status != 0 ? 43 : 0;
}

int main(int argc, char **argv) {
    if (argc < 6)
        return 2;
    int rests = strcmp(argv[5], "restless") != 0 && strcmp(argv[5], "moving") != 0;
    uint64_t pages = strtoull(argv[3], NULL, 10), first = BASE / PAGE;
    int sweeps = strcmp(argv[5], "sweep") == 0, track = sweeps || strcmp(argv[5], "track") == 0;
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                         UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                         (track || !rests ? 0xa000 : 0)};
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0)
        return 10;
    if (mmap((void *)BASE, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
             0) == MAP_FAILED)
        return 11;
    struct uffdio_register request = {.range = {BASE, pages * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(uffd, UFFDIO_REGISTER, &request) != 0)
        return 12;
    if (!rests)
        return never_rest(uffd, argv, first, pages);
    hand_over(argv[1], atoi(argv[2]), uffd);
    if (strcmp(argv[5], "churn") == 0) {
        struct part parts[4];
        pthread_t threads[4];
        for (uint64_t i = 0; i < 4 && i < pages / SPAN; i++) {
            parts[i] = (struct part){.first = first + i * SPAN, .seed = strtoull(argv[4], NULL, 10) * 31 + i + 1};
            pthread_create(&threads[i], NULL, churn, &parts[i]);
        }
        for (uint64_t i = 0; i < 4 && i < pages / SPAN; i++) {
            pthread_join(threads[i], NULL);
            if (parts[i].failed)
                return 30 + parts[i].failed;
        }
        return 0;
    }
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t page = first + (i * 7919) % pages;
        if (!right((uint64_t *)(page * PAGE), page))
            return 40;
        if (strcmp(argv[5], "wait") == 0)
            usleep(500);
    }
    if (strcmp(argv[5], "fork") == 0)
        return fork_when_told(first, pages);
    if (track) {
        printf("checked\n"), fflush(stdout);
        char go;
        if (read(0, &go, 1) != 1)
            return 41;
        if (sweeps)
            sweep(first, pages);
        for (uint64_t i = 0; i < 20 && !sweeps; i++)
            *(uint64_t *)((first + i * 3 + 1) * PAGE) = i;
        printf("written\n"), fflush(stdout);
        return read(0, &go, 1) == 1 ? 0 : 42;
    }
    return 0;
}
