// One TCP connection: authentication, frames in, frames out.
#pragma once

#include "loop.h"
#include "protocol.h"

#include <stdbool.h>

struct session;

enum connection_state {
    CONNECTION_HELLO,   // not authenticated: nothing is done for it
    CONNECTION_READY,   // waits for its one request
    CONNECTION_SESSION, // carries a session
    CONNECTION_LOG,     // is being sent the log
    CONNECTION_CLOSING, // has been told why; what it sends is ignored
};

// Bytes that wait for the socket.
struct outgoing {
    uint8_t *bytes;
    uint32_t capacity, start, end;
};

// The data frame that is half sent: its bytes stay in the session's ring.
struct partial {
    uint8_t header[HEADER_SIZE];
    uint32_t header_left;
    uint32_t left;
    uint64_t offset;
    int stream;
};

struct connection {
    struct watch watch;
    struct timer timer;
    enum connection_state state;
    uint8_t head[HELLO_SIZE]; // hello or header being collected
    uint32_t have;
    struct frame in;  // the frame being received, once `receiving`
    uint32_t in_have; // bytes of its payload so far
    bool receiving;
    bool blocked; // the socket took less than it was given
    uint8_t *payload;
    struct outgoing out;
    struct partial partial;
    struct session *session;
    uint64_t log_offset;
    bool log_follow;
    struct connection *next;
    struct garbage garbage;
};

extern struct connection *connections;

// Listens on every address of the sandbox; 0 or an errno. *port: the port in use.
int connections_listen(uint16_t *port);

unsigned connections_count(void);

// Gives the receive buffer's memory back.
void connections_trim(void);

// Queues a frame. A client that takes nothing while it asks for more and more is cut off.
void connection_send(struct connection *connection, enum frame_type type, int stream, uint64_t value,
                     const uint8_t *payload, uint32_t length);

// Tells the client why, and ends the connection once that is sent.
void connection_refuse(struct connection *connection, enum refusal code, const char *message);

// Ends the connection once everything queued is sent (bounded in time).
void connection_finish(struct connection *connection);

// Ends the connection now.
void connection_close(struct connection *connection);

// Takes the session away from the connection, which can go on with its queue.
void connection_release_session(struct connection *connection);

// Sends what there is: queue, then the session's output or the log.
void connection_pump(struct connection *connection);

// Handles one whole frame (request.c). false: the connection is gone or ending.
bool request_frame(struct connection *connection, const struct frame *frame, uint8_t *payload);

// Sends the clients that read the log what is new.
void connections_log_grew(void);
