// One session: a program with its pipes or terminal, and the bytes of its streams until the client has them.
#pragma once

#include "connection.h"
#include "ring.h"

#include <sys/types.h>

enum {
    MAX_SESSIONS = 256,
    MAX_DEAD = 256,

    INPUT_FIRST = 64 << 10,
    INPUT_LIMIT = 256 << 10,
    OUTPUT_FIRST = 64 << 10,
    OUTPUT_LIMIT = 256 << 10, // exec: more than this unacknowledged stops the program
    TERMINAL_FIRST = 16 << 10,
    TERMINAL_LIMIT = 64 << 10, // a terminal with a client, likewise
    DETACHED_LIMIT = 1 << 20,  // a terminal without one: beyond it the oldest output goes

    DETACH_AFTER = 30 * 1000,  // ms without the client until a terminal counts as detached
    ABANDON_AFTER = 60 * 1000, // ms without the client until an exec is given up
    DRAIN_FOR = 1000,          // ms that output may still come after the program has ended
};

struct input {
    struct ring ring;      // base: everything before has been written to the program
    uint32_t window;       // bytes that the client may send beyond base
    uint64_t limit;        // how far the client has been told that it may send
    uint64_t acknowledged; // the base that the client has been told
    bool ended;            // the client has said so
    bool blocked;          // the program's pipe is full
    bool closed;           // the program takes no more
};

struct output {
    struct session *session;
    struct watch watch;
    struct ring ring;
    uint64_t sent;         // next byte to send to the client
    uint64_t acknowledged; // the client has written everything before
    uint64_t drain_left;   // bytes still to be read once `draining`
    bool draining;
    bool paused; // cannot be read now: no memory, or nobody has the terminal open
    bool ended;
    bool end_sent;
};

struct session {
    uint32_t id;
    enum session_mode mode;
    uint8_t key[KEY_SIZE]; // of the client that owns it
    pid_t pid;
    bool reaped;
    bool detached;  // a terminal whose output may be dropped
    bool abandoned; // an exec whose client never came back
    bool exit_sent;
    uint8_t how, stage; // how it ended
    int32_t code;
    uint64_t signals; // number of the last signal delivered
    uint64_t started; // seconds since 1970
    struct connection *connection;
    struct watch result; // of the exec
    struct watch writer; // stdin; a terminal uses out[0].watch
    struct input input;
    struct output out[2];
    struct timer timer; // the client's absence
    struct timer drain;
    struct session *next;
    struct garbage garbage;
    char title[128];
};

extern struct session *sessions;

// What a client asks for in OPEN.
struct session_request {
    enum session_mode mode;
    const uint8_t *key;
    uint16_t rows, columns;
    char **argv, **environment;
    char *directory;
};

// Starts a program; NULL with *code, an errno.
struct session *session_start(const struct session_request *request, int *code);

struct session *session_with_key(const uint8_t *key);
struct session *session_with_id(uint32_t id);
unsigned sessions_live(void);

// Makes the client with this key the session's owner; a connection that carries it is ended, and another client told.
void session_take(struct session *session, struct connection *connection, const uint8_t *key);

// Gives the session to a connection, whose client has already the output up to `received` (or, fresh, nothing).
void session_attach(struct session *session, struct connection *connection, bool fresh, const uint64_t received[2]);

// The connection is gone: the client may come back (or, detached, need not).
void session_client_gone(struct session *session, bool detached);

// Delivers a signal to the program: its process group, or a terminal's foreground one.
void session_signal(struct session *session, int number);

void session_resize(struct session *session, uint16_t rows, uint16_t columns);

// The program has ended with this wait status.
void session_reaped(struct session *session, int status);

// Moves on when the program and its outputs have ended.
void session_check_end(struct session *session);

void session_free(struct session *session);

// stream_io.c: bytes between the program and the rings.

void stream_prepare(struct session *session);

// Sets what the session's descriptors wait for.
void stream_update(struct session *session);

// Takes input of the client from stream offset `offset`; false: a breach of the protocol or no memory.
bool stream_take_input(struct session *session, uint64_t offset, const uint8_t *bytes, uint32_t count);

// Writes buffered input to the program and tells the client.
void stream_push_input(struct session *session);

// The program takes no more input; what there is of it is dropped.
void stream_end_input(struct session *session);

// The client has written the output before `offset`; false: it cannot have.
bool stream_acknowledge(struct session *session, int index, uint64_t offset);

// Nobody wants this output any more: the program gets SIGPIPE when it writes.
void stream_close_output(struct session *session, int index);

// The program has ended: only what is in its pipes still counts.
void stream_drain(struct session *session);

// Drops all input and output from now on.
void stream_discard(struct session *session);

// Gives idle memory back, in a while.
void stream_trim_later(void);
