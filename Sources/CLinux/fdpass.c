#define _GNU_SOURCE 1
#include "smi_fdpass.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 64 };

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
};

ssize_t smi_send_fds(int sock, const void *buf, size_t len, const int *fds, int nfds) {
    union control control;
    if (nfds < 0 || nfds > MAX_FDS) {
        errno = EINVAL;
        return -1;
    }
    struct iovec io = {(void *)buf, len};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    if (nfds > 0) {
        memset(&control, 0, sizeof control);
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

static void take_fds(const struct cmsghdr *c, int *fds, int max_fds, int *nfds) {
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + sizeof(int) * i, sizeof fd);
        if (*nfds < max_fds)
            fds[(*nfds)++] = fd;
        else
            close(fd);
    }
}

ssize_t smi_recv_fds(int sock, void *buf, size_t len, int *fds, int max_fds, int *nfds) {
    union control control;
    struct iovec io = {buf, len};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    *nfds = 0;
    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            take_fds(c, fds, max_fds, nfds);
    return n;
}

int smi_memfd(const char *name) {
    return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

int smi_pipe(int *ends) {
    return pipe2(ends, O_CLOEXEC);
}
