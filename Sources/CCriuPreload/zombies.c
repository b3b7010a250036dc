// The exit status of a restored zombie.
//
// CRIU restores a zombie as a process that ends with `(exit_code >> 8) & 0x7f`: a status above 127 loses its highest
// bit (seen: 193 became 65). Its parent opens its core image right before the fork; what the image says is noted then,
// and used when the process with that number ends.
#define _GNU_SOURCE
#include "preload.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TASK_DEAD 2

static struct {
    int pid;
    unsigned status;
} zombie = {.pid = -1};

// One field of a protobuf message: its number, and its value where it is a varint, or its bytes.
struct field {
    unsigned number;
    uint64_t value;
    const unsigned char *bytes;
    size_t length;
};

static int read_varint(const unsigned char **at, const unsigned char *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        unsigned char byte = *(*at)++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

static int next_field(const unsigned char **at, const unsigned char *end, struct field *field) {
    uint64_t key;
    if (!read_varint(at, end, &key))
        return 0;
    *field = (struct field){.number = (unsigned)(key >> 3)};
    unsigned type = key & 7;
    if (type == 0)
        return read_varint(at, end, &field->value);
    uint64_t length = type == 1 ? 8 : 4;
    if (type == 2 && !read_varint(at, end, &length))
        return 0;
    if ((type != 1 && type != 2 && type != 5) || length > (uint64_t)(end - *at))
        return 0;
    field->bytes = *at;
    field->length = (size_t)length;
    *at += length;
    return 1;
}

// core.proto: core_entry.tc = 3; task_core_entry.task_state = 1, exit_code = 2.
static void note_core(int pid, const unsigned char *at, const unsigned char *end) {
    struct field field, inner;
    while (next_field(&at, end, &field)) {
        if (field.number != 3 || field.bytes == NULL)
            continue;
        const unsigned char *task = field.bytes;
        uint64_t state = 0, code = 0;
        while (next_field(&task, field.bytes + field.length, &inner)) {
            if (inner.number == 1)
                state = inner.value;
            else if (inner.number == 2)
                code = inner.value;
        }
        // One that a signal ended is ended by that signal again.
        if (state == TASK_DEAD && (code & 0x7f) == 0) {
            zombie.pid = pid;
            zombie.status = (unsigned)(code >> 8) & 0xff;
        }
        return;
    }
}

void preload_note_image(const char *path, int fd) {
    int pid, length = 0;
    if (sscanf(path, "core-%d.img%n", &pid, &length) != 1 || length == 0 || path[length] != 0)
        return;
    zombie.pid = -1;
    // Two magic numbers and the length come first. A zombie has no registers: its entry is short.
    unsigned char image[4096];
    long count = preload_syscall(SYS_pread64, fd, (long)image, sizeof(image), 0, 0, 0);
    if (count > 12)
        note_core(pid, image + 12, image + count);
}

int preload_exit_status(int status) {
    if (zombie.pid != getpid() || status != (int)(zombie.status & 0x7f))
        return status;
    return (int)zombie.status;
}
