// Holds duplicates of userfaultfds, so that a page server that dies leaves faults waiting instead of zero-filled.
//
// Standard input is a listening SOCK_SEQPACKET unix socket. A request is one struct message: KEEP comes with two
// descriptors (userfaultfd, journal) and replaces what was kept under the id; DROP closes them; LIST answers with one
// KEEP message for each and a final LIST. Every request is answered by a message of the same operation. The process
// ends when it keeps nothing and nobody is connected.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum operation { KEEP = 1, DROP = 2, LIST = 3 };
struct message {
    uint32_t operation;
    int32_t pid;
    uint64_t id;
};
struct kept {
    struct message label;
    int fds[2];
};

#define MAX_KEPT 4096
#define MAX_CLIENTS 8
static struct kept table[MAX_KEPT];
static int kept_count;

static int send_message(int client, const struct message *message, const int *fds) {
    struct iovec vector = {(void *)message, sizeof(*message)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fds) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        memset(&control, 0, sizeof(control));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, 2 * sizeof(int));
    }
    return sendmsg(client, &header, MSG_NOSIGNAL) == sizeof(*message) ? 0 : -1;
}

static ssize_t receive_message(int client, struct message *message, int fds[2]) {
    struct iovec vector = {message, sizeof(*message)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct msghdr header = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    fds[0] = fds[1] = -1;
    ssize_t size = recvmsg(client, &header, MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = size > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (rights && rights->cmsg_type == SCM_RIGHTS && rights->cmsg_len >= CMSG_LEN(sizeof(int)))
        memcpy(fds, CMSG_DATA(rights), rights->cmsg_len == CMSG_LEN(2 * sizeof(int)) ? 2 * sizeof(int) : sizeof(int));
    return size;
}

static void drop(uint64_t id) {
    for (int i = 0; i < kept_count; i++) {
        if (table[i].label.id != id)
            continue;
        close(table[i].fds[0]);
        close(table[i].fds[1]);
        table[i] = table[--kept_count];
        return;
    }
}

// Returns 0, or -1 if the client must go.
static int serve(int client) {
    struct message message;
    int fds[2];
    if (receive_message(client, &message, fds) != sizeof(message))
        return -1;
    if (message.operation == KEEP && fds[0] >= 0 && fds[1] >= 0) {
        drop(message.id);
        if (kept_count == MAX_KEPT)
            message.operation = 0; // refused
        else {
            table[kept_count++] = (struct kept){message, {fds[0], fds[1]}};
            fds[0] = fds[1] = -1;
        }
    } else if (message.operation == DROP) {
        drop(message.id);
    } else if (message.operation == LIST) {
        for (int i = 0; i < kept_count; i++)
            if (send_message(client, &table[i].label, table[i].fds) != 0)
                return -1;
    }
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return send_message(client, &message, NULL);
}

int main(void) {
    struct pollfd polled[1 + MAX_CLIENTS] = {{.fd = 0, .events = POLLIN}};
    int clients = 0, had_client = 0;
    signal(SIGPIPE, SIG_IGN);
    setsid();
    while (!had_client || clients > 0 || kept_count > 0) {
        polled[0].events = clients < MAX_CLIENTS ? POLLIN : 0;
        if (poll(polled, (nfds_t)(1 + clients), -1) < 0 && errno != EINTR)
            return 1;
        for (int i = clients; i > 0; i--) {
            if (!polled[i].revents || (polled[i].revents & POLLIN && serve(polled[i].fd) == 0))
                continue;
            close(polled[i].fd);
            polled[i] = polled[clients--];
        }
        if (polled[0].revents & POLLIN) {
            int client = accept4(0, NULL, NULL, SOCK_CLOEXEC);
            if (client >= 0) {
                polled[++clients] = (struct pollfd){.fd = client, .events = POLLIN};
                had_client = 1;
            }
        }
    }
    return 0;
}
