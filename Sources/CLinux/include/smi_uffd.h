// userfaultfd(2) ioctls. All return 0 or -errno unless they say otherwise.
#pragma once

#include <stdint.h>
#include <sys/types.h>

enum smi_uffd_register_mode { SMI_UFFD_MISSING = 1, SMI_UFFD_WP = 2 };

// UFFDIO_API with asynchronous write protection and no events: nothing in the process ever waits for us.
int smi_uffd_api_async(int uffd);
int smi_uffd_register(int uffd, uint64_t start, uint64_t end, int mode);
int smi_uffd_unregister(int uffd, uint64_t start, uint64_t end);
// Returns the bytes copied, which may be less than asked for where a later page failed, or -errno (first page failed).
int64_t smi_uffd_copy(int uffd, uint64_t address, const void *data, uint64_t length, int write_protect, int wake);
int64_t smi_uffd_zero(int uffd, uint64_t address, uint64_t length, int wake);
// Sets or clears the protection of a registered range.
int smi_uffd_protect(int uffd, uint64_t start, uint64_t end, int protect);
int smi_uffd_wake(int uffd, uint64_t address, uint64_t length);

enum smi_uffd_event_kind {
    SMI_UFFD_FAULT = 1,
    SMI_UFFD_FORK = 2,
    SMI_UFFD_REMAP = 3,
    SMI_UFFD_REMOVE = 4,
    SMI_UFFD_UNMAP = 5,
};
struct smi_uffd_event {
    int kind;
    int fork_fd;     // FORK: the child's userfaultfd, ours to close
    uint64_t start;  // FAULT: address; REMAP: from; REMOVE, UNMAP: start
    uint64_t end;    // REMAP: to; REMOVE, UNMAP: end
    uint64_t length; // REMAP
    int write;       // FAULT: by a write
};
// Reads one event from a non-blocking userfaultfd: 1, 0 (none), or -errno.
int smi_uffd_next_event(int uffd, struct smi_uffd_event *event);

// What smi-pagekeeper is asked and answers (Sources/smi-pagekeeper).
struct smi_keeper_message {
    uint32_t operation;
    int32_t pid;
    uint64_t id;
};

// accept4(2), close-on-exec and non-blocking; the descriptor or -1 with errno.
int smi_accept_nonblocking(int socket);
// eventfd(2), close-on-exec and non-blocking; the descriptor or -1 with errno.
int smi_eventfd(void);
