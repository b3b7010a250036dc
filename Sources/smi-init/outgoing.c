// The sending half of a connection.
#define _GNU_SOURCE
#include "connection.h"
#include "log.h"
#include "session.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    OUT_LIMIT = 256 << 10, // bytes queued for a client that does not read
    FINISH_WITHIN = 1000,
    LOG_PIECE = 32 << 10,
};

static void put_header(uint8_t *to, enum frame_type type, int stream, uint64_t value, uint32_t length) {
    put32(to, length);
    to[4] = (uint8_t)type;
    to[5] = (uint8_t)stream;
    put16(to + 6, 0);
    put64(to + 8, value);
}

static uint32_t queued(const struct outgoing *out) {
    return out->end - out->start;
}

static bool make_room(struct outgoing *out, uint32_t count) {
    if (out->capacity - out->end >= count)
        return true;
    uint32_t held = queued(out);
    if (held)
        memmove(out->bytes, out->bytes + out->start, held);
    out->start = 0;
    out->end = held;
    if (out->capacity - held >= count)
        return true;
    uint32_t capacity = (held + count + 1023) & ~1023U;
    uint8_t *larger = capacity > OUT_LIMIT + 2 * MAX_DATA ? NULL : realloc(out->bytes, capacity);
    if (!larger)
        return false;
    out->bytes = larger;
    out->capacity = capacity;
    return true;
}

static bool enqueue(struct outgoing *out, const void *bytes, uint32_t count) {
    if (!count)
        return true;
    if (!make_room(out, count))
        return false;
    memcpy(out->bytes + out->end, bytes, count);
    out->end += count;
    return true;
}

void connection_send(struct connection *connection, enum frame_type type, int stream, uint64_t value,
                     const uint8_t *payload, uint32_t length) {
    if (connection->watch.fd < 0)
        return;
    uint8_t header[HEADER_SIZE];
    put_header(header, type, stream, value, length);
    if (queued(&connection->out) > OUT_LIMIT || !enqueue(&connection->out, header, sizeof header) ||
        !enqueue(&connection->out, payload, length))
        connection_close(connection);
}

void connection_refuse(struct connection *connection, enum refusal code, const char *message) {
    connection_send(connection, FRAME_REFUSED, 0, code, (const uint8_t *)message, (uint32_t)strlen(message));
    connection_finish(connection);
}

void connection_finish(struct connection *connection) {
    if (connection->watch.fd < 0 || connection->state == CONNECTION_CLOSING)
        return;
    struct session *session = connection->session;
    if (session) {
        connection_release_session(connection);
        session_client_gone(session, false);
        if (connection->watch.fd < 0)
            return;
    }
    connection->state = CONNECTION_CLOSING;
    timer_arm(&connection->timer, FINISH_WITHIN);
    connection_pump(connection);
}

// A half-sent data frame is completed from a copy, as the ring belongs to the session.
static bool copy_partial(struct connection *connection) {
    struct partial *partial = &connection->partial;
    if (!partial->header_left && !partial->left)
        return true;
    struct outgoing old = connection->out;
    connection->out = (struct outgoing){0};
    const struct output *output = &connection->session->out[partial->stream - STREAM_OUTPUT];
    struct iovec parts[2];
    int count = ring_parts(&output->ring, partial->offset, partial->left, parts);
    bool copied = enqueue(&connection->out, partial->header + HEADER_SIZE - partial->header_left, partial->header_left);
    for (int i = 0; i < count; i++)
        copied = copied && enqueue(&connection->out, parts[i].iov_base, (uint32_t)parts[i].iov_len);
    copied = copied && enqueue(&connection->out, old.bytes + old.start, queued(&old));
    free(old.bytes);
    *partial = (struct partial){0};
    return copied;
}

void connection_release_session(struct connection *connection) {
    struct session *session = connection->session;
    bool whole = copy_partial(connection);
    connection->session = NULL;
    session->connection = NULL;
    if (!whole)
        connection_close(connection);
}

// Bytes the socket took; 0: it takes no more now. The connection is closed where it is broken: -1.
static ssize_t send_parts(struct connection *connection, struct iovec *parts, int count) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t sent = sendmsg(connection->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM) {
        connection->blocked = true;
        return 0;
    }
    connection_close(connection);
    return -1;
}

static bool flush_queue(struct connection *connection) {
    struct outgoing *out = &connection->out;
    while (queued(out)) {
        struct iovec part = {out->bytes + out->start, queued(out)};
        ssize_t sent = send_parts(connection, &part, 1);
        if (sent <= 0)
            return false;
        out->start += (uint32_t)sent;
    }
    free(out->bytes);
    *out = (struct outgoing){0};
    return true;
}

static bool flush_partial(struct connection *connection) {
    struct partial *partial = &connection->partial;
    while (partial->header_left || partial->left) {
        struct iovec parts[3] = {{partial->header + HEADER_SIZE - partial->header_left, partial->header_left}};
        const struct output *output = &connection->session->out[partial->stream - STREAM_OUTPUT];
        int count = 1 + ring_parts(&output->ring, partial->offset, partial->left, parts + 1);
        ssize_t sent = send_parts(connection, parts, count);
        if (sent <= 0)
            return false;
        uint32_t of_header = sent < partial->header_left ? (uint32_t)sent : partial->header_left;
        partial->header_left -= of_header;
        partial->offset += (uint64_t)sent - of_header;
        partial->left -= (uint32_t)sent - of_header;
    }
    return true;
}

// Begins a data frame from the output with something to send; false: there is none.
static bool next_data(struct connection *connection) {
    struct session *session = connection->session;
    for (int turn = 0; turn < 2; turn++) {
        // The other stream first, where there was a last one: neither starves.
        int index = (connection->partial.stream == STREAM_OUTPUT) ? 1 - turn : turn;
        struct output *output = &session->out[index];
        uint64_t waiting = ring_end(&output->ring) - output->sent;
        if (waiting && output->sent >= output->ring.base) {
            uint32_t length = waiting < MAX_DATA ? (uint32_t)waiting : MAX_DATA;
            struct partial *partial = &connection->partial;
            partial->stream = STREAM_OUTPUT + index;
            put_header(partial->header, FRAME_DATA, partial->stream, output->sent, length);
            partial->header_left = HEADER_SIZE;
            partial->offset = output->sent;
            partial->left = length;
            output->sent += length;
            return true;
        }
        if (output->ended && !output->end_sent && !waiting) {
            output->end_sent = true;
            connection_send(connection, FRAME_END, STREAM_OUTPUT + index, output->sent, NULL, 0);
            return connection->watch.fd >= 0;
        }
    }
    if (session->reaped && session->out[0].end_sent && session->out[1].end_sent && !session->exit_sent) {
        uint8_t payload[8] = {session->how, session->stage};
        put32(payload + 4, (uint32_t)session->code);
        session->exit_sent = true;
        connection_send(connection, FRAME_EXITED, 0, 0, payload, sizeof payload);
        return connection->watch.fd >= 0;
    }
    return false;
}

static bool next_log(struct connection *connection) {
    uint8_t piece[LOG_PIECE];
    size_t got = log_read(&connection->log_offset, piece, sizeof piece);
    if (got) {
        connection_send(connection, FRAME_LOG_DATA, 0, connection->log_offset, piece, (uint32_t)got);
        connection->log_offset += got;
        return connection->watch.fd >= 0;
    }
    if (!connection->log_follow) {
        uint8_t lost[8];
        put64(lost, log_lost());
        connection_send(connection, FRAME_LOG_END, 0, log_end(), lost, sizeof lost);
        connection_finish(connection);
    }
    return false;
}

static bool next_piece(struct connection *connection) {
    if (connection->state == CONNECTION_SESSION)
        return next_data(connection);
    return connection->state == CONNECTION_LOG && next_log(connection);
}

void connection_pump(struct connection *connection) {
    while (connection->watch.fd >= 0 && !connection->blocked) {
        if (!flush_partial(connection) || !flush_queue(connection))
            break;
        if (!next_piece(connection)) {
            if (connection->watch.fd >= 0 && connection->state == CONNECTION_CLOSING && !queued(&connection->out))
                // The client reads to the end, then closes; closing first could reset what it has not read.
                shutdown(connection->watch.fd, SHUT_WR);
            break;
        }
    }
    if (connection->watch.fd >= 0 && !watch_set(&connection->watch, EPOLLIN | (connection->blocked ? EPOLLOUT : 0)))
        connection_close(connection);
}

void connections_log_grew(void) {
    struct connection *next;
    for (struct connection *connection = connections; connection; connection = next) {
        next = connection->next;
        if (connection->state == CONNECTION_LOG)
            connection_pump(connection);
    }
}
