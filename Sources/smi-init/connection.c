#define _GNU_SOURCE
#include "connection.h"

#include "config.h"
#include "session.h"
#include "wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MAX_CONNECTIONS = 512,
    MAX_STRANGERS = 16, // not authenticated; one more drops the oldest
    HELLO_WITHIN = 2000,
    REQUEST_WITHIN = 30000,
    ACCEPT_AGAIN = 200,
    RECEIVE = 65536,
    ROUNDS = 4, // reads in a row before others get their turn
};

struct connection *connections;
static struct watch listener = {.fd = -1};
static uint8_t scratch[RECEIVE] __attribute__((aligned(4096)));

unsigned connections_count(void) {
    unsigned count = 0;
    for (struct connection *connection = connections; connection; connection = connection->next)
        count++;
    return count;
}

void connections_trim(void) {
    madvise(scratch, sizeof scratch, MADV_DONTNEED);
}

static void unlink_connection(struct connection *connection) {
    struct connection **link = &connections;
    while (*link && *link != connection)
        link = &(*link)->next;
    if (*link)
        *link = connection->next;
}

void connection_close(struct connection *connection) {
    if (connection->watch.fd < 0)
        return;
    struct session *session = connection->session;
    connection->session = NULL;
    watch_close(&connection->watch);
    timer_disarm(&connection->timer);
    unlink_connection(connection);
    free(connection->payload);
    free(connection->out.bytes);
    loop_free(&connection->garbage, connection);
    if (session) {
        session->connection = NULL;
        session_client_gone(session, false);
    }
}

static void connection_expired(struct timer *timer) {
    connection_close(container_of(timer, struct connection, timer));
}

// Every byte is compared, wherever they differ: the time taken says nothing about the secret.
static bool secret_matches(const uint8_t *offered) {
    volatile uint8_t difference = 0;
    for (int i = 0; i < SECRET_SIZE; i++)
        difference |= (uint8_t)(offered[i] ^ config.secret[i]);
    return difference == 0;
}

static bool greet(struct connection *connection) {
    const uint8_t *hello = connection->head;
    if (memcmp(hello, "SMI1", 4) || !secret_matches(hello + 8))
        return false;
    uint16_t lowest = get16(hello + 4), highest = get16(hello + 6);
    bool common = lowest <= PROTOCOL_VERSION && highest >= PROTOCOL_VERSION;
    uint8_t welcome[WELCOME_SIZE] = "SMI1";
    put16(welcome + 4, common ? PROTOCOL_VERSION : 0);
    put32(welcome + 8, INIT_VERSION);
    // A new socket's buffer takes 16 bytes at once, or the connection is broken.
    if (send(connection->watch.fd, welcome, sizeof welcome, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof welcome || !common)
        return false;
    connection->state = CONNECTION_READY;
    timer_arm(&connection->timer, REQUEST_WITHIN);
    return true;
}

static bool acceptable(const struct connection *connection, const struct frame *frame) {
    if (frame->type == FRAME_DATA)
        return frame->length <= MAX_DATA && connection->session;
    return frame->length <= (frame->type == FRAME_OPEN ? MAX_REQUEST : MAX_SMALL);
}

static bool begin_frame(struct connection *connection) {
    const uint8_t *head = connection->head;
    connection->in = (struct frame){
        .length = get32(head),
        .type = head[4],
        .stream = head[5],
        .value = get64(head + 8),
    };
    connection->in_have = 0;
    connection->have = 0;
    if (!acceptable(connection, &connection->in)) {
        connection_refuse(connection, REFUSED_PROTOCOL, "a frame is too long or out of place");
        return false;
    }
    if (connection->in.type != FRAME_DATA && connection->in.length) {
        connection->payload = malloc(connection->in.length);
        if (!connection->payload) {
            connection_close(connection);
            return false;
        }
    }
    connection->receiving = true;
    return true;
}

static bool end_frame(struct connection *connection) {
    uint8_t *payload = connection->payload;
    connection->payload = NULL;
    connection->receiving = false;
    bool goes_on = connection->in.type == FRAME_DATA || request_frame(connection, &connection->in, payload);
    free(payload);
    return goes_on;
}

// Takes a piece of the payload: a data frame's goes straight to the session.
static bool take_payload(struct connection *connection, const uint8_t *bytes, uint32_t count) {
    const struct frame *frame = &connection->in;
    if (frame->type == FRAME_DATA) {
        if (frame->stream != STREAM_INPUT ||
            !stream_take_input(connection->session, frame->value + connection->in_have, bytes, count)) {
            connection_refuse(connection, REFUSED_PROTOCOL, "input is out of order or beyond its limit");
            return false;
        }
    } else {
        memcpy(connection->payload + connection->in_have, bytes, count);
    }
    connection->in_have += count;
    return true;
}

static bool feed(struct connection *connection, const uint8_t *bytes, size_t count) {
    while (count || (connection->receiving && connection->in_have == connection->in.length)) {
        if (connection->receiving) {
            uint32_t left = connection->in.length - connection->in_have;
            uint32_t piece = count < left ? (uint32_t)count : left;
            if (piece && !take_payload(connection, bytes, piece))
                return false;
            bytes += piece;
            count -= piece;
            if (connection->in_have == connection->in.length && !end_frame(connection))
                return false;
            continue;
        }
        uint32_t size = connection->state == CONNECTION_HELLO ? HELLO_SIZE : HEADER_SIZE;
        uint32_t piece = size - connection->have < count ? size - connection->have : (uint32_t)count;
        memcpy(connection->head + connection->have, bytes, piece);
        connection->have += piece;
        bytes += piece;
        count -= piece;
        if (connection->have < size)
            break;
        if (connection->state == CONNECTION_HELLO) {
            connection->have = 0;
            if (!greet(connection)) {
                connection_close(connection);
                return false;
            }
        } else if (!begin_frame(connection)) {
            return false;
        }
    }
    return true;
}

static void receive(struct connection *connection) {
    for (int round = 0; round < ROUNDS; round++) {
        // A stranger is read a hello's length and no more.
        size_t most = connection->state == CONNECTION_HELLO ? HELLO_SIZE - connection->have : sizeof scratch;
        ssize_t got = recv(connection->watch.fd, scratch, most, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (got <= 0) {
            connection_close(connection);
            return;
        }
        if (connection->state == CONNECTION_CLOSING)
            continue;
        if (!feed(connection, scratch, (size_t)got))
            return;
        if ((size_t)got < most)
            break;
    }
    if (connection->session)
        stream_push_input(connection->session);
    connection_pump(connection);
    stream_trim_later();
}

static void connection_ready(struct watch *watch, uint32_t events) {
    struct connection *connection = container_of(watch, struct connection, watch);
    if (events & EPOLLOUT) {
        connection->blocked = false;
        connection_pump(connection);
    }
    if (watch->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(connection);
}

static void drop_oldest_stranger(void) {
    struct connection *oldest = NULL;
    unsigned strangers = 0;
    // New ones are put in front: the last one found is the oldest.
    for (struct connection *connection = connections; connection; connection = connection->next)
        if (connection->state == CONNECTION_HELLO) {
            strangers++;
            oldest = connection;
        }
    if (strangers >= MAX_STRANGERS)
        connection_close(oldest);
}

static void prepare_socket(int fd) {
    int yes = 1, idle = 15, interval = 5, probes = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    // A client that vanished without a word, e.g. because its host did, is noticed within half a minute.
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static void listen_again(struct timer *timer) {
    (void)timer;
    watch_set(&listener, EPOLLIN);
}

static void accept_ready(struct watch *watch, uint32_t events) {
    static struct timer pause = {.fire = listen_again};
    (void)events;
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        // Out of descriptors or memory: the connection stays pending, and must not keep the loop spinning.
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            watch_set(watch, 0);
            timer_arm(&pause, ACCEPT_AGAIN);
        }
        return;
    }
    drop_oldest_stranger();
    struct connection *connection = connections_count() < MAX_CONNECTIONS ? calloc(1, sizeof *connection) : NULL;
    if (!connection) {
        close(fd);
        return;
    }
    prepare_socket(fd);
    connection->watch = (struct watch){.fd = fd, .ready = connection_ready};
    connection->timer.fire = connection_expired;
    connection->next = connections;
    connections = connection;
    timer_arm(&connection->timer, HELLO_WITHIN);
    if (!watch_set(&connection->watch, EPOLLIN))
        connection_close(connection);
}

static int open_listener(int family, const struct sockaddr *address, socklen_t length) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int yes = 1, no = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(fd, address, length) < 0 || listen(fd, 64) < 0) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    return fd;
}

int connections_listen(uint16_t *port) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(*port)};
    listener.fd = open_listener(AF_INET6, (struct sockaddr *)&six, sizeof six);
    if (listener.fd < 0 && errno != EADDRINUSE) {
        // No IPv6 here.
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(*port)};
        listener.fd = open_listener(AF_INET, (struct sockaddr *)&four, sizeof four);
    }
    if (listener.fd < 0)
        return errno;
    socklen_t length = sizeof six;
    if (getsockname(listener.fd, (struct sockaddr *)&six, &length) < 0)
        return errno;
    *port = ntohs(six.sin6_port); // at the same place in both kinds of address
    listener.ready = accept_ready;
    return watch_set(&listener, EPOLLIN) ? 0 : errno;
}
