#define _GNU_SOURCE
#include "log.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Descriptors are kept: whatever becomes of the names, what was written can be read.
struct part {
    int fd;
    uint64_t start; // stream offset of the first byte
    uint64_t size;
};

static struct part current = {.fd = -1};
static struct part previous = {.fd = -1};
static uint64_t lost;

// Only a regular file: a FIFO or a link in its place must not stop or misdirect PID 1.
static int open_regular(const char *path, int flags) {
    int fd = open(path, flags | O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
    struct stat status;
    if (fd >= 0 && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

static void previous_path(char *path, size_t size) {
    snprintf(path, size, "%s.1", config.log);
}

static void make_parent(void) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s", config.log) >= sizeof path)
        return;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
}

// Starts a new file; the one so far becomes the previous part.
static int rotate(void) {
    char old[4096];
    previous_path(old, sizeof old);
    rename(config.log, old);
    if (previous.fd >= 0)
        close(previous.fd);
    previous = current;
    current.start = log_end();
    current.size = 0;
    current.fd = open_regular(config.log, O_CREAT | O_TRUNC);
    return current.fd < 0 ? errno : 0;
}

int log_open(void) {
    if (!*config.log)
        return 0;
    make_parent();
    // What an earlier run of this sandbox left is the beginning of the stream.
    current.fd = open_regular(config.log, 0);
    struct stat status;
    if (current.fd >= 0 && fstat(current.fd, &status) == 0)
        current.size = (uint64_t)status.st_size;
    return rotate();
}

void log_append(const uint8_t *bytes, size_t count) {
    while (count) {
        if (current.fd >= 0 && current.size >= config.log_limit)
            rotate();
        ssize_t written = current.fd < 0 ? -1 : pwrite(current.fd, bytes, count, (off_t)current.size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            // The program must not stop because the disk is full: its output is counted instead.
            lost += count;
            return;
        }
        current.size += (uint64_t)written;
        bytes += written;
        count -= (size_t)written;
    }
}

uint64_t log_end(void) {
    return current.start + current.size;
}

uint64_t log_lost(void) {
    return lost;
}

static size_t read_part(const struct part *part, uint64_t *offset, uint8_t *to, size_t count) {
    uint64_t left = part->start + part->size - *offset;
    if (count > left)
        count = (size_t)left;
    ssize_t got = part->fd < 0 ? -1 : pread(part->fd, to, count, (off_t)(*offset - part->start));
    if (got > 0)
        return (size_t)got;
    // Truncated by somebody inside: nothing more is to be had of this part.
    *offset = part->start + part->size;
    return 0;
}

size_t log_read(uint64_t *offset, uint8_t *to, size_t count) {
    uint64_t oldest = previous.fd >= 0 ? previous.start : current.start;
    if (*offset < oldest)
        *offset = oldest;
    size_t got = 0;
    if (*offset < current.start)
        got = read_part(&previous, offset, to, count);
    if (!got && *offset < log_end())
        got = read_part(&current, offset, to, count);
    return got;
}
