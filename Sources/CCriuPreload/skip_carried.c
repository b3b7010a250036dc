// Memory that the agent carries itself is left out of a dump, and the walk over all pages for smaps is not made.
//
// SMIRUN_CRIU_CARRY names a directory of the agent's. In it, for a process that is dumped:
//   PID.skip   lines "START-END" (hexadecimal addresses, ascending, disjoint): mappings whose pages the agent has
//   PID.smaps  a copy of /proc/PID/smaps made shortly before the freeze
// Only the one shape of PAGEMAP_SCAN that CRIU 4.2 uses to find a dump's pages is answered; any other goes to the
// kernel, which dumps more than needed but nothing wrong.
#define _GNU_SOURCE
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SCAN_REQUEST 0xc0606610ul          // _IOWR('f', 16, struct scan)
#define CATEGORIES_LEFT_OUT (32ull | 4ull) // zero pages and page cache
#define CATEGORIES_WANTED (8ull | 16ull)   // present, swapped

struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct region {
    uint64_t start, end, categories;
};
struct span {
    uint64_t start, end;
};

// The spans of the process asked about last; CRIU dumps one process after the other.
static struct {
    int pid;
    size_t count;
    struct span *spans;
} carried = {.pid = -1};

static const char *carry_directory(void) {
    const char *directory = getenv("SMIRUN_CRIU_CARRY");
    return directory != NULL && *directory != 0 ? directory : NULL;
}

// The process a file of /proc is about: its path must end in "/PID/NAME"; -1 if it does not.
static int process_of(int fd, const char *name) {
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length <= 0)
        return -1;
    path[length] = 0;
    char *slash = strrchr(path, '/');
    if (slash == NULL || strcmp(slash + 1, name) != 0)
        return -1;
    *slash = 0;
    char *number = strrchr(path, '/');
    char *end = NULL;
    long pid = number != NULL ? strtol(number + 1, &end, 10) : -1;
    return end != NULL && *end == 0 && pid > 0 ? (int)pid : -1;
}

static void forget_spans(int pid) {
    free(carried.spans);
    carried.spans = NULL;
    carried.count = 0;
    carried.pid = pid;
}

// Reads PID.skip; a file that makes no sense counts as empty, so that everything is dumped.
static void load_spans(int pid) {
    char path[4200], line[64];
    forget_spans(pid);
    snprintf(path, sizeof(path), "%s/%d.skip", carry_directory(), pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    size_t capacity = 0;
    uint64_t last = 0;
    while (fgets(line, sizeof(line), file)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) != 2 || start >= end || start < last || (start | end) % 4096 != 0) {
            forget_spans(pid);
            break;
        }
        if (carried.count == capacity) {
            capacity = capacity ? capacity * 2 : 256;
            struct span *grown = realloc(carried.spans, capacity * sizeof(*grown));
            if (grown == NULL) {
                forget_spans(pid);
                break;
            }
            carried.spans = grown;
        }
        carried.spans[carried.count++] = (struct span){start, end};
        last = end;
    }
    fclose(file);
}

// Scans what lies between the carried spans. Returns the number of regions or -errno; *stopped as walk_end.
static long scan_rest(int fd, const struct scan *asked, uint64_t *stopped) {
    uint64_t at = asked->start, found = 0;
    size_t next = 0;
    while (next < carried.count && carried.spans[next].end <= at)
        next++;
    while (at < asked->end) {
        uint64_t gap_end =
            next < carried.count && carried.spans[next].start < asked->end ? carried.spans[next].start : asked->end;
        if (gap_end > at) {
            struct scan part = *asked;
            part.start = at;
            part.end = gap_end;
            part.vec = asked->vec + found * sizeof(struct region);
            part.vec_len = asked->vec_len - found;
            long result = preload_syscall(SYS_ioctl, fd, (long)SCAN_REQUEST, (long)&part, 0, 0, 0);
            if (result < 0)
                return result;
            found += (uint64_t)result;
            if (part.walk_end < gap_end || found == asked->vec_len) {
                *stopped = part.walk_end;
                return (long)found;
            }
        }
        at = gap_end;
        if (next < carried.count && carried.spans[next].start == gap_end)
            at = carried.spans[next++].end;
    }
    *stopped = asked->end;
    return (long)found;
}

int preload_answer_scan(int fd, unsigned long request, void *argument, long *result) {
    struct scan *scan = argument;
    if (request != SCAN_REQUEST || carry_directory() == NULL || scan->size != sizeof(*scan) || scan->flags != 0 ||
        scan->max_pages != 0 || scan->category_inverted != CATEGORIES_LEFT_OUT ||
        scan->category_mask != CATEGORIES_LEFT_OUT || scan->category_anyof_mask != CATEGORIES_WANTED ||
        scan->vec_len == 0)
        return 0;
    int pid = process_of(fd, "pagemap");
    if (pid < 0)
        return 0;
    if (pid != carried.pid)
        load_spans(pid);
    if (carried.count == 0)
        return 0;
    *result = scan_rest(fd, scan, &scan->walk_end);
    return 1;
}

// ---- smaps ----

// The whole of a file; the caller frees it. NULL if it cannot be read.
static char *read_file(const char *path) {
    int fd = (int)preload_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    size_t size = 0, capacity = 1 << 18;
    char *text = fd >= 0 ? malloc(capacity + 1) : NULL;
    while (text != NULL) {
        ssize_t got = read(fd, text + size, capacity - size);
        if (got < 0) {
            free(text);
            text = NULL;
        }
        if (got <= 0)
            break;
        size += (size_t)got;
        if (size == capacity) {
            char *grown = realloc(text, (capacity *= 2) + 1);
            if (grown == NULL)
                free(text);
            text = grown;
        }
    }
    if (fd >= 0)
        close(fd);
    if (text != NULL)
        text[size] = 0;
    return text;
}

static size_t line_length(const char *at) {
    const char *end = strchr(at, '\n');
    return end != NULL ? (size_t)(end - at) + 1 : strlen(at);
}

// A mapping's head line begins with an address, every other line with a capital letter.
static int is_head(const char *line) {
    return (*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f');
}

// The VmFlags line of the mapping with this very head line, from *at on; mappings come in the same order.
static const char *find_flags(const char **at, const char *head, size_t head_length) {
    for (const char *line = *at; *line; line += line_length(line)) {
        if (line_length(line) != head_length || memcmp(line, head, head_length) != 0)
            continue;
        for (line += head_length; *line && !is_head(line); line += line_length(line))
            if (strncmp(line, "VmFlags:", 8) == 0) {
                *at = line;
                return line;
            }
        return NULL;
    }
    return NULL;
}

// The mappings as they are now, with the flags of the copy; -1 where the copy lacks one.
static int compose(const char *maps, const char *copy) {
    int fd = (int)preload_syscall(SYS_memfd_create, (long)"smaps", MFD_CLOEXEC, 0, 0, 0, 0);
    FILE *out = fd >= 0 ? fdopen(dup(fd), "w") : NULL;
    int whole = out != NULL;
    for (const char *head = maps; whole && *head; head += line_length(head)) {
        size_t length = line_length(head);
        const char *flags = find_flags(&copy, head, length);
        whole = flags != NULL && fwrite(head, 1, length, out) == length &&
                fwrite(flags, 1, line_length(flags), out) == line_length(flags);
    }
    if (out != NULL && fclose(out) != 0)
        whole = 0;
    if (fd >= 0 && (!whole || lseek(fd, 0, SEEK_SET) != 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

int preload_open_smaps(int directory, const char *path) {
    if (carry_directory() == NULL || strcmp(path, "smaps") != 0)
        return -1;
    char link[64], place[4096], name[4300];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, place, sizeof(place) - 1);
    const char *number = length > 0 ? (place[length] = 0, strrchr(place, '/')) : NULL;
    int pid = number != NULL ? atoi(number + 1) : 0;
    if (pid <= 0)
        return -1;
    snprintf(name, sizeof(name), "%s/%d.smaps", carry_directory(), pid);
    char *copy = read_file(name);
    snprintf(name, sizeof(name), "%s/maps", place);
    char *maps = copy != NULL ? read_file(name) : NULL;
    int fd = maps != NULL && *maps ? compose(maps, copy) : -1;
    free(copy);
    free(maps);
    return fd;
}
