// /proc/PID/maps as an array.
#define _GNU_SOURCE
#include "smi_pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *read_text(pid_t pid, size_t *size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t capacity = 1 << 16;
    char *text = fd < 0 ? NULL : malloc(capacity + 1);
    *size = 0;
    while (text) {
        ssize_t got = read(fd, text + *size, capacity - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int saved = errno;
            free(text);
            text = NULL;
            errno = saved;
        }
        if (got <= 0)
            break;
        *size += (size_t)got;
        if (*size == capacity) {
            char *grown = realloc(text, (capacity *= 2) + 1);
            if (!grown)
                free(text);
            text = grown;
        }
    }
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    if (text)
        text[*size] = 0;
    return text;
}

static uint64_t number(const char **at, int base, char stop) {
    uint64_t value = 0;
    for (; **at && **at != stop; (*at)++) {
        char c = **at;
        value = value * (uint64_t)base + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (**at)
        (*at)++;
    return value;
}

static bool starts(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

// "start-end rwxp offset major:minor inode   name\n"; the line's end becomes a NUL.
static const char *parse_line(const char *line, const char *text, struct smi_vma *vma) {
    const char *at = line;
    *vma = (struct smi_vma){0};
    vma->start = number(&at, 16, '-');
    vma->end = number(&at, 16, ' ');
    if (strlen(at) < 5)
        return NULL;
    vma->flags =
        (at[1] == 'w' ? SMI_VMA_WRITE : 0) | (at[2] == 'x' ? SMI_VMA_EXECUTE : 0) | (at[3] == 's' ? SMI_VMA_SHARED : 0);
    at += 5;
    vma->offset = number(&at, 16, ' ');
    vma->major = (uint32_t)number(&at, 16, ':');
    vma->minor = (uint32_t)number(&at, 16, ' ');
    while (*at >= '0' && *at <= '9')
        vma->inode = vma->inode * 10 + (uint64_t)(*at++ - '0');
    while (*at == ' ')
        at++;
    if (*at)
        vma->name_offset = (uint32_t)(at - text);
    if (vma->inode)
        vma->flags |= SMI_VMA_FILE;
    if (starts(at, "[vdso]") || starts(at, "[vvar") || starts(at, "[vsyscall]") || starts(at, "[uprobes]") ||
        starts(at, "/anon_hugepage"))
        vma->flags |= SMI_VMA_SPECIAL;
    return at;
}

ssize_t smi_maps_read(pid_t pid, struct smi_vma **vmas, char **text) {
    size_t size, count = 0, lines = 0;
    *vmas = NULL;
    *text = read_text(pid, &size);
    if (!*text)
        return errno ? -errno : -ENOMEM;
    for (size_t i = 0; i < size; i++)
        lines += (*text)[i] == '\n';
    *vmas = malloc((lines + 1) * sizeof(**vmas));
    if (!*vmas) {
        smi_maps_free(NULL, *text);
        return -ENOMEM;
    }
    for (char *line = *text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (parse_line(line, *text, &(*vmas)[count]))
            count++;
    }
    return (ssize_t)count;
}

void smi_maps_free(struct smi_vma *vmas, char *text) {
    free(vmas);
    free(text);
}

// struct procmap_query and PROCMAP_QUERY of Linux 6.11's <linux/fs.h>.
struct vma_query {
    uint64_t size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};

int smi_maps_has(int maps, uint64_t start, uint64_t end) {
    struct vma_query query = {.size = sizeof(query), .query_addr = start};
    if (ioctl(maps, _IOWR('f', 17, struct vma_query), &query) < 0)
        return errno == ENOENT ? 0 : -errno;
    return query.vma_start == start && query.vma_end == end;
}

int smi_same_memory(pid_t a, pid_t b) {
    const int kcmp_vm = 1;
    long result = syscall(SYS_kcmp, a, b, kcmp_vm, 0, 0);
    return result < 0 ? -errno : result == 0;
}
