// Memory that restored tasks inherit from CRIU: the agent has filled it before the freeze.
//
// A restored task's private memory is mapped by CRIU and then filled page by page, through a userfaultfd where it is
// lazy. But the tasks are forks of CRIU. So, while `criu swrk` waits for its request, the agent has it map memory
// (SMIRUN_CRIU_INHERIT names the descriptor of a socket with orders), and writes the replica's pages into it with
// process_vm_writev(2). fork(2) then shares these pages, copy on write, and each task moves what is its own to where
// CRIU wants the mapping: a mapping is moved whole, as a moved part would stay a mapping of its own.
//
// The images directory has a file "inherit-PID" for each task with such memory: a line "total BYTES", and a line
// "LENGTH PROT FLAGS SOURCE" (hexadecimal) for each private mapping of its image, in order: SOURCE is where the memory
// for it lies in CRIU, 0 where there is none. The file "inherit" has lines "PID START LENGTH" (PID decimal): what the
// fork that makes this task has to copy, for it and for its descendants, or nothing, of LENGTH 0; other forks, but for
// CRIU's helpers that tasks come from, copy none of it, as each page takes its time. CRIU 4.2 reserves BYTES, opens
// "pagemap-PID.img", and maps one after the other in what it has reserved. Another total means that the list is of
// something else: nothing is moved then. A mapping that differs from its line, after that, ends the restore.
//
// In the end CRIU stays until the agent closes the socket, a second at most: as long as a page is mapped here, a task
// that has written it shows, by having one of its own. Then it frees all of it in pieces: a process that ends frees its
// memory in one go, which takes a processor for milliseconds, whatever its priority, while the tasks run already.
#define _GNU_SOURCE
#include "../CLinux/include/smi_inherit.h"
#include "preload.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

enum {
    MOST_PATIENCE = 1000, // milliseconds
    LEAST_PRIORITY = 19,  // nice
    PIECE = 1 << 20,      // bytes; some 40 microseconds, as 64 MB take 2.3 ms
    PAUSE = 500000,       // nanoseconds between two pieces
    BRIEF = 10000,        // nanoseconds: a piece that takes less had next to no pages
    MOST_GIVEN = 1024,    // spans; of further ones the end itself takes care
};

struct item {
    size_t length;
    int prot, flags;
    uintptr_t source;
};

// Whether this process, or one that it comes from by fork, has mapped memory to inherit; and has taken some of it.
static int has_memory, has_taken;
// What CRIU has reserved last, and where the mappings of this task go.
static struct reservation {
    uintptr_t start;
    size_t length;
} reserved, area;
// What the forks that make tasks have to copy, as the file "inherit" says.
static struct need {
    int pid;
    long start, length;
} * needs;
static size_t need_count;
// The mappings of the task that this process becomes: those from `next` on are still to be made, the first one at `at`.
static struct {
    struct item *items;
    size_t count, next;
    uintptr_t at;
} plan;

// The socket with orders, and the process that was given them, with what it has mapped for them.
static int orders = -1, giver;
static struct smi_inherit_span given[MOST_GIVEN];
static size_t given_count;

static long map_span(long start, long length) {
    // A huge page would have pages that nobody has written; given back in the task.
    preload_syscall(SYS_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0, 0);
    has_memory = 1;
    long result = preload_syscall(SYS_mmap, start, length, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (result >= 0 && result != start)
        return -EEXIST;
    if (result >= 0 && given_count < MOST_GIVEN)
        given[given_count++] = (struct smi_inherit_span){(uint64_t)start, (uint64_t)length};
    return result < 0 ? result : preload_syscall(SYS_madvise, start, length, MADV_DONTFORK, 0, 0, 0);
}

// Many at a time: process_madvise(2) of 5,000 single pages takes half of what as many calls of madvise(2) take.
static long drop_spans(const struct smi_inherit_span *spans, size_t count) {
    struct iovec some[IOV_MAX];
    int self = (int)preload_syscall(SYS_pidfd_open, preload_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), 0, 0, 0, 0, 0);
    long result = 0;
    for (size_t done = 0; done < count && result >= 0;) {
        size_t n = count - done < IOV_MAX ? count - done : IOV_MAX, bytes = 0;
        for (size_t i = 0; i < n; i++) {
            some[i] = (struct iovec){(void *)(uintptr_t)spans[done + i].start, spans[done + i].length};
            bytes += spans[done + i].length;
        }
        // Older kernels do not do it, not even for the caller itself; one that stops midway is asked for each.
        if (preload_syscall(SYS_process_madvise, self, (long)some, (long)n, MADV_DONTNEED, 0, 0) != (long)bytes)
            for (size_t i = 0; i < n && result >= 0; i++)
                result =
                    preload_syscall(SYS_madvise, (long)some[i].iov_base, (long)some[i].iov_len, MADV_DONTNEED, 0, 0, 0);
        done += n;
    }
    preload_syscall(SYS_close, self, 0, 0, 0, 0, 0);
    return result;
}

static long carry_out(const struct smi_inherit_order *order, size_t size) {
    if (size < 2 * sizeof(uint32_t) || order->count > SMI_INHERIT_MOST_SPANS ||
        size != 2 * sizeof(uint32_t) + order->count * sizeof(order->spans[0]))
        return -EINVAL;
    if (order->operation == SMI_INHERIT_DROP)
        return drop_spans(order->spans, order->count);
    long result = order->operation == SMI_INHERIT_MAP ? 0 : -EINVAL;
    for (uint32_t i = 0; i < order->count && result >= 0; i++)
        result = map_span((long)order->spans[i].start, (long)order->spans[i].length);
    return result;
}

// Whether the socket has no more to say.
static int serve_order(int socket) {
    static struct smi_inherit_order order;
    long size = preload_syscall(SYS_recvfrom, socket, (long)&order, sizeof(order), 0, 0, 0);
    if (size == -EINTR)
        return 0;
    if (size <= 0)
        return 1;
    int64_t result = carry_out(&order, (size_t)size);
    preload_syscall(SYS_sendto, socket, (long)&result, sizeof(result), MSG_NOSIGNAL, 0, 0);
    return 0;
}

void preload_await_request(int fd, int flags) {
    static int is_over;
    const char *number = getenv("SMIRUN_CRIU_INHERIT");
    if (is_over || number == NULL || *number == 0 || !(flags & MSG_PEEK))
        return;
    struct pollfd files[] = {{.fd = fd, .events = POLLIN}, {.fd = atoi(number), .events = POLLIN}};
    while (files[0].revents == 0 && files[1].fd >= 0) {
        long ready = preload_syscall(SYS_poll, (long)files, 2, -1, 0, 0, 0);
        if (ready < 0 && ready != -EINTR)
            break;
        if (ready > 0 && files[1].revents != 0 && serve_order(files[1].fd))
            files[1].fd = -1;
    }
    // Nothing is ordered any more once there is a request: the agent waits for the answers before it sends one.
    is_over = 1;
    orders = atoi(number);
    giver = (int)preload_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void free_in_pieces(const struct smi_inherit_span *span) {
    for (uint64_t at = span->start, end = at + span->length; at < end; at += PIECE) {
        int64_t begun = nanoseconds();
        preload_syscall(SYS_madvise, (long)at, (long)(end - at < PIECE ? end - at : PIECE), MADV_DONTNEED, 0, 0, 0);
        if (nanoseconds() - begun >= BRIEF)
            nanosleep(&(struct timespec){.tv_nsec = PAUSE}, NULL);
    }
}

__attribute__((destructor)) static void stay(void) {
    struct pollfd file = {.fd = orders, .events = POLLIN};
    if (!has_memory || giver != (int)preload_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0))
        return;
    preload_syscall(SYS_poll, (long)&file, 1, MOST_PATIENCE, 0, 0, 0);
    // The machine runs: it does not wait for this.
    preload_syscall(SYS_setpriority, PRIO_PROCESS, 0, LEAST_PRIORITY, 0, 0, 0);
    for (size_t i = 0; i < given_count; i++)
        free_in_pieces(&given[i]);
}

// Reads the file "inherit"; without it, or room for it, no fork copies anything.
static void read_needs(int images) {
    char *list = preload_read_list(images, "inherit");
    size_t lines = 0;
    for (char *at = list; at != NULL && (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    needs = calloc(lines + 1, sizeof(*needs));
    for (char *line = list; needs != NULL && need_count < lines; line = strchr(line, '\n') + 1) {
        struct need *need = &needs[need_count];
        if (sscanf(line, "%d %lx %lx", &need->pid, &need->start, &need->length) != 3)
            break;
        need_count++;
    }
    free(list);
}

// Reads a list; false where it makes no sense.
static int parse(char *list) {
    unsigned long total, length, prot, flags, source, sum = 0;
    size_t lines = 0;
    if (sscanf(list, "total %lx", &total) != 1 || total != area.length)
        return 0;
    for (char *at = list; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    free(plan.items);
    memset(&plan, 0, sizeof(plan));
    plan.items = calloc(lines + 1, sizeof(*plan.items));
    if (plan.items == NULL)
        return 0;
    for (char *line = strchr(list, '\n'); line != NULL && line[1] != 0; line = strchr(line + 1, '\n')) {
        if (sscanf(line + 1, "%lx %lx %lx %lx", &length, &prot, &flags, &source) != 4)
            return 0;
        plan.items[plan.count++] = (struct item){length, (int)prot, (int)flags, source};
        sum += length;
    }
    plan.at = area.start;
    return sum <= total;
}

void preload_begin_inheriting(int images, const char *image) {
    int pid;
    char name[32];
    // It is read before any task is made.
    if (has_memory && needs == NULL && strcmp(image, "pstree.img") == 0)
        read_needs(images);
    if (!has_memory || sscanf(image, "pagemap-%d.img", &pid) != 1)
        return;
    area = reserved;
    snprintf(name, sizeof(name), "inherit-%d", pid);
    char *list = preload_read_list(images, name);
    if (list == NULL || !parse(list))
        plan.count = plan.next = 0;
    free(list);
    // CRIU asks for it again where the task had it so.
    preload_syscall(SYS_prctl, PR_SET_THP_DISABLE, 0, 0, 0, 0, 0);
}

void preload_note_reservation(long start, size_t length, int prot, int flags) {
    if (start >= 0 && prot == PROT_NONE && flags == (MAP_PRIVATE | MAP_ANONYMOUS)) {
        reserved.start = (uintptr_t)start;
        reserved.length = length;
    }
}

static int is_in_area(uintptr_t start) {
    return start >= area.start && start - area.start < area.length;
}

// Advises of what the fork of a process has to copy: of all, if `any`. Whether there is something of the process.
static int advise_of(int pid, int any, int advice) {
    int found = 0;
    for (size_t i = 0; i < need_count; i++) {
        if (!any && needs[i].pid != pid)
            continue;
        found = 1;
        // What has been taken is not there any more: ENOMEM, and the rest is done.
        preload_syscall(SYS_madvise, needs[i].start, needs[i].length, advice, 0, 0, 0);
    }
    return found;
}

// CRIU makes helpers, too, from which tasks are forked that have lost their parent.
static void advise(int pid, int advice) {
    if (!advise_of(pid, 0, advice))
        advise_of(pid, 1, advice);
}

// The kernel's struct clone_args.
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

long preload_clone(const void *arguments, size_t size) {
    const struct clone_arguments *asked = arguments;
    const int *pids = size >= sizeof(*asked) - sizeof(asked->cgroup) && asked->set_tid_size > 0
                          ? (const int *)(uintptr_t)asked->set_tid
                          : NULL;
    int pid = pids != NULL ? pids[0] : 0;
    if (pid > 0)
        advise(pid, MADV_DOFORK);
    long result = preload_syscall(SYS_clone3, (long)arguments, (long)size, 0, 0, 0, 0);
    // Here, and in the task, whose helpers need none of it either.
    if (pid > 0)
        advise(pid, MADV_DONTFORK);
    return result;
}

static long move_in(const struct item *item) {
    long start = (long)plan.at, length = (long)item->length;
    int prot = item->prot | PROT_WRITE;
    preload_syscall(SYS_madvise, (long)item->source, length, MADV_DOFORK, 0, 0, 0);
    long result =
        preload_syscall(SYS_mremap, (long)item->source, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, start, 0);
    has_taken = 1;
    // What is not there is not inherited: CRIU's mapping, which may be gone by now, as it was, and its pages come in.
    if (result < 0)
        return preload_syscall(SYS_mmap, start, length, prot, item->flags | MAP_FIXED, -1, 0);
    if (prot != (PROT_READ | PROT_WRITE))
        result = preload_syscall(SYS_mprotect, start, length, prot, 0, 0, 0);
    return result < 0 ? result : start;
}

// The mapping at `plan.at` has been made: it is given its memory, and the next one's turn comes.
static long take_place(const struct item *item) {
    long result = item->source != 0 ? move_in(item) : (long)plan.at;
    plan.at += item->length;
    plan.next++;
    return result;
}

long preload_inherit_mapping(long start, size_t length, int prot, int flags) {
    if (!(flags & MAP_FIXED) || !is_in_area((uintptr_t)start) || plan.next == plan.count)
        return start;
    const struct item *item = &plan.items[plan.next];
    // CRIU maps the ring of asynchronous I/O as anonymous memory.
    int same = ((item->flags | MAP_FIXED) & ~MAP_ANONYMOUS) == (flags & ~MAP_ANONYMOUS);
    if ((uintptr_t)start != plan.at || length != item->length || prot != (item->prot | PROT_WRITE) || !same)
        return -EINVAL;
    return take_place(item);
}

long preload_inherit_moved(long start, size_t length) {
    if (!is_in_area((uintptr_t)start))
        return start;
    // CRIU has it from the parent, and does not know of what that has inherited. What CRIU knows of it compares, and
    // reads where it differs.
    if (has_taken) {
        long result = preload_syscall(SYS_madvise, start, (long)length, MADV_DONTNEED, 0, 0, 0);
        if (result < 0)
            return result;
    }
    if (plan.next == plan.count)
        return start;
    const struct item *item = &plan.items[plan.next];
    if ((uintptr_t)start != plan.at || length != item->length)
        return -EINVAL;
    return take_place(item);
}
