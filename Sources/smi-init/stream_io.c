// Bytes between a session's program and its rings, with back-pressure both ways.
#define _GNU_SOURCE
#include "session.h"
#include "wire.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

enum {
    ROUNDS = 4,
    DROP = 4096, // a full ring of a detached terminal makes room for this much
    TRIM_AFTER = 1000,
};

static uint8_t scratch[16 << 10] __attribute__((aligned(4096)));

static bool is_terminal(const struct session *session) {
    return session->mode == MODE_TERMINAL;
}

static struct watch *input_watch(struct session *session) {
    return is_terminal(session) ? &session->out[0].watch : &session->writer;
}

static uint32_t output_limit(const struct session *session) {
    if (!is_terminal(session))
        return OUTPUT_LIMIT;
    return session->detached ? DETACHED_LIMIT : TERMINAL_LIMIT;
}

static bool can_take(const struct session *session, const struct output *output) {
    if (output->paused)
        return false;
    const struct ring *ring = &output->ring;
    return session->abandoned || session->detached || !ring->data || ring_space(ring) ||
           ring->capacity < output_limit(session);
}

void stream_update(struct session *session) {
    bool writes = session->input.blocked && !session->input.closed;
    for (int i = 0; i < 2; i++) {
        struct output *output = &session->out[i];
        uint32_t events = can_take(session, output) ? EPOLLIN : 0;
        if (writes && &output->watch == input_watch(session))
            events |= EPOLLOUT;
        if (!watch_set(&output->watch, events))
            output->paused = true;
    }
    if (!watch_set(&session->writer, writes ? EPOLLOUT : 0))
        stream_trim_later();
}

static void end_output(struct output *output) {
    struct session *session = output->session;
    watch_close(&output->watch);
    output->ended = true;
    if (is_terminal(session))
        stream_end_input(session);
    session_check_end(session);
}

// Makes room for at least one byte; false: not now.
static bool make_space(struct output *output) {
    struct session *session = output->session;
    struct ring *ring = &output->ring;
    if (!ring_reserve(ring, is_terminal(session) ? TERMINAL_FIRST : OUTPUT_FIRST)) {
        output->paused = true;
        stream_trim_later();
        return false;
    }
    if (ring_space(ring) || ring_grow(ring, output_limit(session)))
        return true;
    if (session->detached) {
        ring_drop(ring, ring->base + DROP);
        return true;
    }
    // Full, over the memory budget or at the limit: an acknowledgement goes on.
    watch_set(&output->watch, output->watch.events & ~(uint32_t)EPOLLIN);
    return false;
}

static ssize_t read_piece(struct output *output) {
    struct iovec parts[2] = {{scratch, sizeof scratch}};
    int count = output->session->abandoned ? 1 : ring_free_parts(&output->ring, parts);
    ssize_t got = readv(output->watch.fd, parts, count);
    if (got > 0 && !output->session->abandoned)
        ring_commit(&output->ring, (uint32_t)got);
    if (got > 0 && output->draining)
        output->drain_left -= (uint64_t)got < output->drain_left ? (uint64_t)got : output->drain_left;
    return got;
}

// The other end is closed, or the terminal is hung up.
static void output_stopped(struct output *output, ssize_t got) {
    struct session *session = output->session;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (is_terminal(session) && !session->reaped) {
        // Nobody has the terminal open just now; the program may open it again (/dev/tty).
        output->paused = true;
        stream_trim_later();
        return;
    }
    end_output(output);
}

static void read_output(struct output *output) {
    struct session *session = output->session;
    for (int round = 0; round < ROUNDS && output->watch.fd >= 0; round++) {
        if (output->draining && !output->drain_left) {
            end_output(output);
            break;
        }
        if (!session->abandoned && !make_space(output))
            break;
        ssize_t got = read_piece(output);
        if (got <= 0) {
            output_stopped(output, got);
            break;
        }
    }
}

static void output_ready(struct watch *watch, uint32_t events) {
    struct output *output = container_of(watch, struct output, watch);
    struct session *session = output->session;
    if (events & EPOLLOUT && is_terminal(session)) {
        session->input.blocked = false;
        stream_push_input(session);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && watch->fd >= 0)
        read_output(output);
    stream_update(session);
    if (session->connection)
        connection_pump(session->connection);
    stream_trim_later();
}

static void writer_ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct session *session = container_of(watch, struct session, writer);
    session->input.blocked = false;
    stream_push_input(session);
    if (session->connection)
        connection_pump(session->connection);
}

void stream_prepare(struct session *session) {
    session->input.window = is_terminal(session) ? TERMINAL_FIRST : INPUT_FIRST;
    session->input.limit = session->input.window;
    session->writer.ready = writer_ready;
    for (int i = 0; i < 2; i++) {
        session->out[i].session = session;
        session->out[i].watch.ready = output_ready;
        session->out[i].ended = session->out[i].watch.fd < 0;
    }
    stream_update(session);
}

void stream_end_input(struct session *session) {
    struct input *input = &session->input;
    input->closed = true;
    input->blocked = false;
    ring_release(&input->ring);
    watch_close(&session->writer);
}

static void finish_input(struct session *session) {
    struct input *input = &session->input;
    if (is_terminal(session)) {
        struct termios settings;
        uint8_t end = 4;
        if (tcgetattr(session->out[0].watch.fd, &settings) == 0)
            end = settings.c_cc[VEOF];
        ssize_t written = write(session->out[0].watch.fd, &end, 1);
        if (written < 0 && errno == EAGAIN) {
            input->blocked = true;
            return;
        }
    }
    stream_end_input(session);
}

static void write_input(struct session *session) {
    struct input *input = &session->input;
    while (input->ring.length) {
        struct iovec parts[2];
        int count = ring_parts(&input->ring, input->ring.base, input->ring.length, parts);
        ssize_t written = writev(input_watch(session)->fd, parts, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EAGAIN) {
            input->blocked = true;
            return;
        }
        if (written < 0) {
            stream_end_input(session);
            return;
        }
        ring_drop(&input->ring, input->ring.base + (uint64_t)written);
    }
    if (input->ended)
        finish_input(session);
}

static void acknowledge_input(struct session *session) {
    struct input *input = &session->input;
    uint64_t news = input->ring.base - input->acknowledged;
    bool larger =
        input->ring.base + input->window > input->limit && input->ring.base + input->window - input->limit > news;
    if (!session->connection || !(news >= input->window / 4 || (news && !input->ring.length) || larger))
        return;
    input->acknowledged = input->ring.base;
    input->limit = input->ring.base + input->window;
    uint8_t payload[8];
    put64(payload, input->limit);
    connection_send(session->connection, FRAME_ACK, STREAM_INPUT, input->acknowledged, payload, sizeof payload);
}

void stream_push_input(struct session *session) {
    struct input *input = &session->input;
    if (!input->closed && !input->blocked)
        write_input(session);
    acknowledge_input(session);
    stream_update(session);
}

bool stream_take_input(struct session *session, uint64_t offset, const uint8_t *bytes, uint32_t count) {
    struct input *input = &session->input;
    uint64_t received = ring_end(&input->ring);
    if (offset > received)
        return false;
    uint64_t known = received - offset;
    if (known >= count)
        return true;
    bytes += known;
    count -= (uint32_t)known;
    if (received + count > input->limit || (input->ended && !input->closed))
        return false;
    if (input->closed) {
        input->ring.base += count;
        return true;
    }
    if (!ring_reserve(&input->ring, input->window) || ring_space(&input->ring) < count)
        return false;
    ring_append(&input->ring, bytes, count);
    // The client fills its window before the program empties it: a larger one keeps both busy.
    if (!is_terminal(session) && input->ring.length > input->window / 2 && ring_grow(&input->ring, INPUT_LIMIT))
        input->window = input->ring.capacity;
    return true;
}

bool stream_acknowledge(struct session *session, int index, uint64_t offset) {
    struct output *output = &session->out[index];
    const struct connection *connection = session->connection;
    uint64_t sent = output->sent;
    if (connection && connection->partial.left && connection->partial.stream == STREAM_OUTPUT + index)
        sent = connection->partial.offset;
    if (offset > sent)
        return false;
    ring_drop(&output->ring, offset);
    if (offset > output->acknowledged)
        output->acknowledged = offset;
    stream_update(session);
    return true;
}

void stream_close_output(struct session *session, int index) {
    struct output *output = &session->out[index];
    if (is_terminal(session) || output->ended)
        return;
    watch_close(&output->watch);
    output->ended = true;
    session_check_end(session);
}

void stream_drain(struct session *session) {
    for (int i = 0; i < 2; i++) {
        struct output *output = &session->out[i];
        if (output->ended)
            continue;
        int waiting = 0;
        if (ioctl(output->watch.fd, FIONREAD, &waiting) < 0 || waiting < 0)
            waiting = 0;
        output->draining = true;
        output->drain_left = (uint64_t)waiting;
        if (!waiting)
            end_output(output);
    }
}

void stream_discard(struct session *session) {
    stream_end_input(session);
    for (int i = 0; i < 2; i++) {
        ring_release(&session->out[i].ring);
        session->out[i].paused = false;
    }
    stream_update(session);
}

static void trim(struct timer *timer) {
    (void)timer;
    struct session *next;
    for (struct session *session = sessions; session; session = next) {
        next = session->next;
        if (!session->input.ring.length)
            ring_release(&session->input.ring);
        for (int i = 0; i < 2; i++) {
            if (!session->out[i].ring.length)
                ring_release(&session->out[i].ring);
            session->out[i].paused = false;
        }
        stream_update(session);
    }
    madvise(scratch, sizeof scratch, MADV_DONTNEED);
    connections_trim();
}

void stream_trim_later(void) {
    static struct timer timer = {.fire = trim};
    if (!timer.armed)
        timer_arm(&timer, TRIM_AFTER);
}
