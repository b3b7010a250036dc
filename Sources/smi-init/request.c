// What a client asks for: one function per frame.
#define _GNU_SOURCE
#include "config.h"
#include "connection.h"
#include "log.h"
#include "program.h"
#include "session.h"
#include "string_list.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool refuse(struct connection *connection, enum refusal code, const char *message) {
    connection_refuse(connection, code, message);
    return false;
}

static bool breach(struct connection *connection, const char *message) {
    return refuse(connection, REFUSED_PROTOCOL, message);
}

static bool attach(struct connection *connection, struct session *session, const uint8_t *key, bool fresh,
                   const uint64_t received[2]) {
    if (session->abandoned)
        return refuse(connection, REFUSED_ABANDONED, "the session's client was away for too long");
    session_take(session, connection, key);
    session_attach(session, connection, fresh, received);
    return connection->watch.fd >= 0;
}

static bool start_session(struct connection *connection, const struct session_request *request) {
    if (stopping())
        return refuse(connection, REFUSED_STOPPING, "the sandbox is stopping");
    if (sessions_live() >= MAX_SESSIONS)
        return refuse(connection, REFUSED_TOO_MANY, "the sandbox has 256 sessions, and that is the limit");
    int code;
    struct session *session = session_start(request, &code);
    if (!session) {
        char message[128];
        snprintf(message, sizeof message, "the session cannot be started: %s", strerror(code));
        return refuse(connection, REFUSED_RESOURCES, message);
    }
    const uint64_t nothing[2] = {0, 0};
    session_attach(session, connection, true, nothing);
    return connection->watch.fd >= 0;
}

static bool handle_open(struct connection *connection, struct reader *reader) {
    struct session_request request = {.key = read_bytes(reader, KEY_SIZE)};
    request.mode = read8(reader);
    read_bytes(reader, 3);
    request.rows = read16(reader);
    request.columns = read16(reader);
    request.argv = strings_list(reader);
    request.environment = strings_list(reader);
    request.directory = strings_one(reader);
    bool goes_on;
    if (reader->bad || reader->left || (request.mode != MODE_PIPES && request.mode != MODE_TERMINAL)) {
        goes_on = breach(connection, "the request to open a session is malformed");
    } else {
        // The same request again, because its answer was lost: the program must not be started twice.
        struct session *session = session_with_key(request.key);
        const uint64_t nothing[2] = {0, 0};
        goes_on =
            session ? attach(connection, session, request.key, true, nothing) : start_session(connection, &request);
    }
    strings_free(request.argv);
    strings_free(request.environment);
    free(request.directory);
    return goes_on;
}

static bool resume(struct connection *connection, const uint8_t *key, uint32_t id, const uint64_t received[2]) {
    struct session *session = session_with_key(key);
    if (!session) {
        session = id ? session_with_id(id) : NULL;
        if (session)
            return refuse(connection, REFUSED_TAKEN, "another client has taken the session over");
        return refuse(connection, REFUSED_NO_SESSION, "there is no such session any more");
    }
    for (int i = 0; i < 2; i++)
        if (received[i] > ring_end(&session->out[i].ring))
            return breach(connection, "the client has output that the session never had");
    return attach(connection, session, key, false, received);
}

static bool handle_attach(struct connection *connection, struct reader *reader) {
    const uint8_t *key = read_bytes(reader, KEY_SIZE);
    uint32_t id = read32(reader);
    bool resumes = read8(reader) == 1;
    read_bytes(reader, 3);
    uint16_t rows = read16(reader), columns = read16(reader);
    uint64_t received[2];
    for (int i = 0; i < 2; i++)
        received[i] = read64(reader);
    if (reader->bad || reader->left)
        return breach(connection, "the request to attach is malformed");
    struct session *session;
    if (resumes) {
        if (!resume(connection, key, id, received))
            return false;
        session = connection->session;
    } else {
        session = session_with_id(id);
        if (!session)
            return refuse(connection, REFUSED_NO_SESSION, "there is no such session");
        if (session->mode != MODE_TERMINAL)
            return refuse(connection, REFUSED_NOT_TERMINAL, "the session has no terminal: it belongs to an exec");
        if (!attach(connection, session, key, true, received))
            return false;
    }
    if (session)
        session_resize(session, rows, columns);
    return true;
}

static bool handle_list(struct connection *connection) {
    for (const struct session *session = sessions; session && connection->watch.fd >= 0; session = session->next) {
        uint8_t payload[24 + sizeof session->title] = {(uint8_t)session->mode, session->reaped,
                                                       session->connection != NULL, session->how};
        put32(payload + 4, (uint32_t)session->pid);
        put32(payload + 8, (uint32_t)session->code);
        put64(payload + 12, session->started);
        put32(payload + 20, (uint32_t)strlen(session->title));
        memcpy(payload + 24, session->title, strlen(session->title));
        connection_send(connection, FRAME_SESSION, 0, session->id, payload, 24 + (uint32_t)strlen(session->title));
    }
    connection_send(connection, FRAME_LIST_END, 0, 0, NULL, 0);
    connection_finish(connection);
    return false;
}

static bool handle_status(struct connection *connection) {
    uint8_t payload[64] = {0};
    put32(payload, INIT_VERSION);
    put32(payload + 4, program.state);
    put32(payload + 8, (uint32_t)program.pid);
    put32(payload + 12, (uint32_t)program.code);
    put64(payload + 16, program.started);
    put64(payload + 24, program.ended);
    put32(payload + 32, sessions_live());
    put32(payload + 36, connections_count());
    put64(payload + 40, log_end());
    put64(payload + 48, log_lost());
    put32(payload + 56, stopping());
    connection_send(connection, FRAME_STATUS_REPLY, 0, 0, payload, sizeof payload);
    connection_finish(connection);
    return false;
}

// Every other connection ends at once, so that no socket of theirs is in a dump; what they carried is replayed later.
static bool handle_quiesce(struct connection *connection) {
    struct connection *next;
    for (struct connection *other = connections; other; other = next) {
        next = other->next;
        if (other != connection)
            connection_close(other);
    }
    connection_send(connection, FRAME_QUIESCED, 0, 0, NULL, 0);
    connection_pump(connection);
    connection_close(connection);
    return false;
}

static bool handle_detach(struct connection *connection) {
    struct session *session = connection->session;
    connection_release_session(connection);
    session_client_gone(session, true);
    connection_finish(connection);
    return false;
}

static bool handle_exit_acknowledged(struct connection *connection) {
    if (!connection->session->exit_sent)
        return breach(connection, "the session has not ended");
    session_free(connection->session);
    return false;
}

static bool handle_signal(struct connection *connection, uint64_t sequence, struct reader *reader) {
    struct session *session = connection->session;
    uint32_t number = read32(reader);
    if (reader->bad || number < 1 || number > 64)
        return breach(connection, "there is no such signal");
    // Sent again after a reconnect: once is enough.
    if (sequence > session->signals) {
        session->signals = sequence;
        session_signal(session, (int)number);
    }
    connection_send(connection, FRAME_SIGNAL_ACK, 0, session->signals, NULL, 0);
    return connection->watch.fd >= 0;
}

static bool handle_end(struct connection *connection, const struct frame *frame) {
    struct input *input = &connection->session->input;
    if (frame->stream != STREAM_INPUT || frame->value != ring_end(&input->ring))
        return breach(connection, "the end of the input is out of order");
    input->ended = true;
    return true;
}

static bool is_output(const struct frame *frame) {
    return frame->stream == STREAM_OUTPUT || frame->stream == STREAM_ERROR;
}

static bool session_frame(struct connection *connection, const struct frame *frame, struct reader *reader) {
    struct session *session = connection->session;
    switch (frame->type) {
    case FRAME_END:
        return handle_end(connection, frame);
    case FRAME_ACK:
        if (!is_output(frame) || !stream_acknowledge(session, frame->stream - STREAM_OUTPUT, frame->value))
            return breach(connection, "output is acknowledged that was never sent");
        return true;
    case FRAME_CLOSE:
        if (!is_output(frame))
            return breach(connection, "only outputs can be closed");
        stream_close_output(session, frame->stream - STREAM_OUTPUT);
        return connection->watch.fd >= 0;
    case FRAME_RESIZE:
        session_resize(session, (uint16_t)(frame->value >> 16), (uint16_t)frame->value);
        return true;
    case FRAME_SIGNAL:
        return handle_signal(connection, frame->value, reader);
    case FRAME_DETACH:
        return handle_detach(connection);
    case FRAME_EXIT_ACK:
        return handle_exit_acknowledged(connection);
    default:
        return breach(connection, "the frame is unknown or out of place");
    }
}

static bool first_frame(struct connection *connection, const struct frame *frame, struct reader *reader) {
    switch (frame->type) {
    case FRAME_OPEN:
        return handle_open(connection, reader);
    case FRAME_ATTACH:
        return handle_attach(connection, reader);
    case FRAME_LIST:
        return handle_list(connection);
    case FRAME_STATUS:
        return handle_status(connection);
    case FRAME_LOGS:
        connection->state = CONNECTION_LOG;
        connection->log_offset = frame->value;
        connection->log_follow = frame->stream != 0;
        timer_disarm(&connection->timer);
        return true;
    case FRAME_QUIESCE:
        return handle_quiesce(connection);
    default:
        return breach(connection, "the frame is unknown or out of place");
    }
}

bool request_frame(struct connection *connection, const struct frame *frame, uint8_t *payload) {
    struct reader reader = {.at = payload, .left = frame->length};
    if (frame->type == FRAME_BYE) {
        connection_close(connection);
        return false;
    }
    if (connection->state == CONNECTION_SESSION)
        return session_frame(connection, frame, &reader);
    if (connection->state == CONNECTION_READY)
        return first_frame(connection, frame, &reader);
    return breach(connection, "the connection carries no more requests");
}
