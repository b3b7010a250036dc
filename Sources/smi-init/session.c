#define _GNU_SOURCE
#include "session.h"

#include "config.h"
#include "spawn.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct session *sessions;
static uint32_t last_id;

static bool ended(const struct session *session) {
    return session->reaped && session->out[0].ended && session->out[1].ended;
}

struct session *session_with_key(const uint8_t *key) {
    struct session *session = sessions;
    while (session && memcmp(session->key, key, KEY_SIZE))
        session = session->next;
    return session;
}

struct session *session_with_id(uint32_t id) {
    struct session *session = sessions;
    while (session && session->id != id)
        session = session->next;
    return session;
}

unsigned sessions_live(void) {
    unsigned count = 0;
    for (struct session *session = sessions; session; session = session->next)
        count += !ended(session);
    return count;
}

void session_free(struct session *session) {
    struct session **link = &sessions;
    while (*link && *link != session)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = session->next;
    if (session->connection) {
        struct connection *connection = session->connection;
        connection_release_session(connection);
        connection_finish(connection);
    }
    watch_close(&session->result);
    watch_close(&session->writer);
    for (int i = 0; i < 2; i++) {
        watch_close(&session->out[i].watch);
        ring_release(&session->out[i].ring);
    }
    ring_release(&session->input.ring);
    timer_disarm(&session->timer);
    timer_disarm(&session->drain);
    loop_free(&session->garbage, session);
}

// What nobody has come back for is kept for a bounded number of sessions.
static void drop_oldest_dead(void) {
    struct session *oldest = NULL;
    unsigned dead = 0;
    for (struct session *session = sessions; session; session = session->next)
        if (ended(session) && !session->connection) {
            dead++;
            oldest = session;
        }
    if (dead > MAX_DEAD)
        session_free(oldest);
}

static void abandon(struct session *session) {
    if (ended(session)) {
        session_free(session);
        return;
    }
    session->abandoned = true;
    stream_discard(session);
    session_signal(session, SIGHUP);
}

static void client_stayed_away(struct timer *timer) {
    struct session *session = container_of(timer, struct session, timer);
    if (session->mode == MODE_PIPES) {
        abandon(session);
        return;
    }
    session->detached = true;
    stream_update(session);
}

void session_client_gone(struct session *session, bool detached) {
    // What came just before the end of the connection is the program's all the same.
    stream_push_input(session);
    if (session->mode == MODE_TERMINAL && detached) {
        timer_disarm(&session->timer);
        session->detached = true;
        stream_update(session);
    } else {
        timer_arm(&session->timer, session->mode == MODE_PIPES ? ABANDON_AFTER : DETACH_AFTER);
    }
    if (ended(session))
        drop_oldest_dead();
}

// The connection that carried the session so far: the same client's is dead, another client is told.
static void displace(struct session *session, struct connection *by, bool same_client) {
    struct connection *old = session->connection;
    if (!old || old == by)
        return;
    connection_release_session(old);
    if (same_client) {
        connection_close(old);
        return;
    }
    connection_send(old, FRAME_TAKEN, 0, 0, NULL, 0);
    connection_finish(old);
}

static void send_opened(struct session *session, bool fresh, uint64_t dropped) {
    uint8_t payload[56] = {(uint8_t)session->mode, fresh};
    session->input.limit = session->input.ring.base + session->input.window;
    session->input.acknowledged = session->input.ring.base;
    put32(payload + 4, (uint32_t)session->pid);
    put64(payload + 8, ring_end(&session->input.ring));
    put64(payload + 16, session->input.limit);
    put64(payload + 24, session->out[0].sent);
    put64(payload + 32, session->out[1].sent);
    put64(payload + 40, dropped);
    put64(payload + 48, session->signals);
    connection_send(session->connection, FRAME_OPENED, 0, session->id, payload, sizeof payload);
}

void session_attach(struct session *session, struct connection *connection, bool fresh, const uint64_t received[2]) {
    uint64_t dropped = 0;
    for (int i = 0; i < 2; i++) {
        struct output *output = &session->out[i];
        uint64_t known = fresh ? output->acknowledged : received[i];
        output->sent = known > output->ring.base ? known : output->ring.base;
        output->end_sent = false;
        dropped += output->sent - known;
    }
    session->exit_sent = false;
    session->detached = false;
    timer_disarm(&session->timer);
    timer_disarm(&connection->timer);
    session->connection = connection;
    connection->session = session;
    connection->state = CONNECTION_SESSION;
    send_opened(session, fresh, dropped);
    stream_push_input(session);
}

void session_take(struct session *session, struct connection *connection, const uint8_t *key) {
    displace(session, connection, memcmp(session->key, key, KEY_SIZE) == 0);
    memcpy(session->key, key, KEY_SIZE);
}

static pid_t signal_target(const struct session *session) {
    pid_t foreground = -1;
    if (session->mode == MODE_TERMINAL && session->out[0].watch.fd >= 0 &&
        ioctl(session->out[0].watch.fd, TIOCGPGRP, &foreground) == 0 && foreground > 0)
        return -foreground;
    return -session->pid;
}

void session_signal(struct session *session, int number) {
    if (session->reaped)
        return;
    // A child that has not yet made its own process group is reached by its pid.
    if (kill(signal_target(session), number) < 0)
        kill(session->pid, number);
}

void session_resize(struct session *session, uint16_t rows, uint16_t columns) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (session->mode == MODE_TERMINAL && session->out[0].watch.fd >= 0 && rows && columns)
        ioctl(session->out[0].watch.fd, TIOCSWINSZ, &size);
}

static void result_ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct session *session = container_of(watch, struct session, result);
    struct spawn_failure failure;
    ssize_t got = read(watch->fd, &failure, sizeof failure);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got == sizeof failure) {
        session->how = EXIT_NOT_STARTED;
        session->stage = (uint8_t)failure.stage;
        session->code = (int32_t)failure.code;
    }
    watch_close(watch);
}

static void drain_over(struct timer *timer) {
    struct session *session = container_of(timer, struct session, drain);
    stream_drain(session);
}

void session_reaped(struct session *session, int status) {
    if (session->result.fd >= 0)
        result_ready(&session->result, 0);
    session->reaped = true;
    if (session->how != EXIT_NOT_STARTED) {
        session->how = WIFSIGNALED(status) ? EXIT_SIGNAL : EXIT_STATUS;
        session->code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    }
    // A terminal that looked hung up is now read to its end; children that keep pipes open get a moment.
    for (int i = 0; i < 2; i++)
        session->out[i].paused = false;
    stream_update(session);
    if (ended(session))
        session_check_end(session);
    else
        timer_arm(&session->drain, DRAIN_FOR);
}

void session_check_end(struct session *session) {
    if (!ended(session)) {
        if (session->connection)
            connection_pump(session->connection);
        return;
    }
    timer_disarm(&session->drain);
    stream_end_input(session);
    if (session->abandoned)
        session_free(session);
    else if (session->connection)
        connection_pump(session->connection);
    else
        drop_oldest_dead();
}

static void set_title(struct session *session, char *const *argv) {
    size_t used = 0;
    for (; argv && *argv && used < sizeof session->title - 1; argv++)
        used += (size_t)snprintf(session->title + used, sizeof session->title - used, used ? " %s" : "%s", *argv);
    if (!used)
        snprintf(session->title, sizeof session->title, "login shell");
}

static void close_all(int *descriptors, int count) {
    for (int i = 0; i < count; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
}

static int keep_open(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static int start_piped(struct session *session, struct spawn *spawn_request, struct spawned *child) {
    int fds[6] = {-1, -1, -1, -1, -1, -1};
    for (int i = 0; i < 3; i++)
        if (pipe2(fds + 2 * i, O_CLOEXEC) < 0) {
            int code = errno;
            close_all(fds, 6);
            return code;
        }
    spawn_request->standard[0] = fds[0];
    spawn_request->standard[1] = fds[3];
    spawn_request->standard[2] = fds[5];
    int code = spawn(spawn_request, child);
    int theirs[3] = {fds[0], fds[3], fds[5]};
    int ours[3] = {fds[1], fds[2], fds[4]};
    close_all(theirs, 3);
    if (code) {
        close_all(ours, 3);
        return code;
    }
    session->writer.fd = keep_open(ours[0]);
    session->out[0].watch.fd = keep_open(ours[1]);
    session->out[1].watch.fd = keep_open(ours[2]);
    return 0;
}

static int start_terminal(struct session *session, const struct session_request *request, struct spawn *spawn_request,
                          struct spawned *child) {
    int primary, replica;
    int code = open_terminal(request->rows, request->columns, &primary, &replica);
    if (code)
        return code;
    spawn_request->terminal = replica;
    code = spawn(spawn_request, child);
    close(replica);
    if (code)
        close(primary);
    else
        session->out[0].watch.fd = primary;
    return code;
}

struct session *session_start(const struct session_request *request, int *code) {
    struct session *session = calloc(1, sizeof *session);
    if (!session) {
        *code = ENOMEM;
        return NULL;
    }
    session->writer.fd = session->result.fd = session->out[0].watch.fd = session->out[1].watch.fd = -1;
    struct spawn spawn_request = {
        .argv = request->argv,
        .environment = request->environment,
        .cwd = request->directory,
        .shell = !request->argv || !request->argv[0],
        .terminal = -1,
    };
    struct spawned child;
    *code = request->mode == MODE_TERMINAL ? start_terminal(session, request, &spawn_request, &child)
                                           : start_piped(session, &spawn_request, &child);
    if (*code) {
        free(session);
        return NULL;
    }
    session->id = ++last_id;
    session->mode = request->mode;
    session->pid = child.pid;
    session->started = (uint64_t)time(NULL);
    session->timer.fire = client_stayed_away;
    session->drain.fire = drain_over;
    session->result = (struct watch){.fd = keep_open(child.result), .ready = result_ready};
    memcpy(session->key, request->key, KEY_SIZE);
    set_title(session, request->argv);
    session->next = sessions;
    sessions = session;
    watch_set(&session->result, EPOLLIN);
    stream_prepare(session);
    return session;
}
