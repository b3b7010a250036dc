// Memory that processes share without a file of a mounted file system: shared anonymous memory, memfd, System V
// segments. All of it is files of the kernel's own tmpfs, known by one device number.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// The device of all such objects, major << 32 | minor; 0 where it cannot be found out.
uint64_t smi_shared_device(void);

// What tells whether an object was changed by other means than a write through a mapping that we watch.
struct smi_shared_state {
    uint64_t inode, size;
    int64_t accessed, modified, changed; // nanoseconds; mmap(2) of an object sets the first
};
// State of an open object: 0, -ENOENT where it is something else, or -errno.
int smi_shared_look(int fd, struct smi_shared_state *state);
int smi_shared_look_at(const char *path, struct smi_shared_state *state);
// Opens an object for reading that leaves its access time alone: the descriptor (close-on-exec) or -errno.
int smi_shared_open(const char *path);
// CLOCK_REALTIME in nanoseconds, the clock of the times above.
int64_t smi_realtime(void);

struct smi_span { // page numbers
    uint64_t first, end;
};
// Pages of an open object that exist, from page *from on, in order; *from is where to go on, ~0 at the end. Returns how
// many spans, or -errno.
ssize_t smi_shared_present(int fd, uint64_t *from, struct smi_span *out, size_t capacity);
// Reads pages first ... first+count; pages behind the end are zero. 0 or -errno.
int smi_shared_read(int fd, uint64_t first, size_t count, void *buffer);

// A memfd of a size; seals can be added where `sealable`. The descriptor (close-on-exec) or -errno.
int smi_shared_create(const char *name, uint64_t size, int sealable);
// Writes pages first ... first+count; pages behind the end are left out. 0, or -1 with errno.
int smi_shared_write(int fd, uint64_t first, size_t count, const void *buffer);
// Makes a hole of pages first ... end. 0, or -1 with errno.
int smi_shared_drop(int fd, uint64_t first, uint64_t end);
