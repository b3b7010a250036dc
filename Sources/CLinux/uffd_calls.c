// userfaultfd(2) ioctls.
#define _GNU_SOURCE
#include "smi_uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

// Newer than the headers of Debian 12.
#define FEATURE_WP_HUGETLBFS_SHMEM (1ull << 12)
#define FEATURE_WP_UNPOPULATED (1ull << 13)
#define FEATURE_WP_ASYNC (1ull << 15)

int smi_uffd_api_async(int uffd) {
    struct uffdio_api api = {.api = UFFD_API,
                             .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED | FEATURE_WP_HUGETLBFS_SHMEM};
    return ioctl(uffd, UFFDIO_API, &api) == 0 ? 0 : -errno;
}

int smi_uffd_register(int uffd, uint64_t start, uint64_t end, int mode) {
    struct uffdio_register request = {.range = {start, end - start}, .mode = (uint64_t)mode};
    return ioctl(uffd, UFFDIO_REGISTER, &request) == 0 ? 0 : -errno;
}

int smi_uffd_unregister(int uffd, uint64_t start, uint64_t end) {
    struct uffdio_range range = {start, end - start};
    return ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0 ? 0 : -errno;
}

int64_t smi_uffd_copy(int uffd, uint64_t address, const void *data, uint64_t length, int write_protect, int wake) {
    struct uffdio_copy request = {.dst = address,
                                  .src = (uint64_t)(uintptr_t)data,
                                  .len = length,
                                  .mode = (write_protect ? UFFDIO_COPY_MODE_WP : 0) |
                                          (wake ? 0 : UFFDIO_COPY_MODE_DONTWAKE)};
    if (ioctl(uffd, UFFDIO_COPY, &request) == 0)
        return (int64_t)length;
    return request.copy > 0 ? request.copy : -errno;
}

int64_t smi_uffd_zero(int uffd, uint64_t address, uint64_t length, int wake) {
    struct uffdio_zeropage request = {.range = {address, length}, .mode = wake ? 0 : UFFDIO_ZEROPAGE_MODE_DONTWAKE};
    if (ioctl(uffd, UFFDIO_ZEROPAGE, &request) == 0)
        return (int64_t)length;
    return request.zeropage > 0 ? request.zeropage : -errno;
}

int smi_uffd_protect(int uffd, uint64_t start, uint64_t end, int protect) {
    struct uffdio_writeprotect request = {.range = {start, end - start},
                                          .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0};
    return ioctl(uffd, UFFDIO_WRITEPROTECT, &request) == 0 ? 0 : -errno;
}

int smi_uffd_wake(int uffd, uint64_t address, uint64_t length) {
    struct uffdio_range range = {address, length};
    return ioctl(uffd, UFFDIO_WAKE, &range) == 0 ? 0 : -errno;
}

int smi_uffd_next_event(int uffd, struct smi_uffd_event *event) {
    struct uffd_msg message;
    memset(event, 0, sizeof(*event));
    event->fork_fd = -1;
    ssize_t got = read(uffd, &message, sizeof(message));
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (got != sizeof(message))
        return -EIO;
    switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
        event->kind = SMI_UFFD_FAULT;
        event->start = message.arg.pagefault.address;
        event->write = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0;
        return 1;
    case UFFD_EVENT_FORK:
        event->kind = SMI_UFFD_FORK;
        event->fork_fd = (int)message.arg.fork.ufd;
        return 1;
    case UFFD_EVENT_REMAP:
        event->kind = SMI_UFFD_REMAP;
        event->start = message.arg.remap.from;
        event->end = message.arg.remap.to;
        event->length = message.arg.remap.len;
        return 1;
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        event->kind = message.event == UFFD_EVENT_REMOVE ? SMI_UFFD_REMOVE : SMI_UFFD_UNMAP;
        event->start = message.arg.remove.start;
        event->end = message.arg.remove.end;
        return 1;
    default:
        return -EPROTO;
    }
}

int smi_accept_nonblocking(int socket) {
    return accept4(socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

int smi_eventfd(void) {
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}
