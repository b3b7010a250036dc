#define _GNU_SOURCE
#include "program.h"

#include "config.h"
#include "log.h"
#include "loop.h"
#include "session.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PROGRAM_STOPS_WITHIN = 8000,
    SESSIONS_STOP_WITHIN = 2000,
    LOG_READS = 8, // in a row, before others get their turn
};

struct program program;

static volatile sig_atomic_t child_ended, stop_signals, last_signal;
static enum { RUNNING, PROGRAM_STOPS, SESSIONS_STOP, STOPPED } stop_phase;
static struct timer stop_timer;
static struct watch output = {.fd = -1};

static void on_signal(int number) {
    if (number == SIGCHLD) {
        child_ended = 1;
    } else {
        last_signal = number;
        stop_signals++;
    }
}

void signals_prepare(sigset_t *waiting) {
    struct sigaction handled = {.sa_handler = on_signal}, ignored = {.sa_handler = SIG_IGN};
    const int ours[] = {SIGCHLD, SIGTERM, SIGINT};
    const int others[] = {SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGTSTP};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        sigaction(ours[i], &handled, NULL);
        sigaddset(&blocked, ours[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        sigaction(others[i], &ignored, NULL);
    // Signals arrive only while the loop waits: no handler ever interrupts anything.
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    sigemptyset(waiting);
}

// The pipe holds what the program wrote before it was read: a bounded number of pieces at a time.
static void output_ready(struct watch *watch, uint32_t events) {
    (void)events;
    uint8_t piece[16 << 10];
    for (int i = 0; i < LOG_READS; i++) {
        ssize_t got = read(watch->fd, piece, sizeof piece);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (got <= 0) {
            watch_close(watch);
            break;
        }
        log_append(piece, (size_t)got);
    }
    connections_log_grew();
}

// Waits for the exec: nothing else is to be done before it.
static int wait_for_exec(const struct spawned *child, struct spawn_failure *failure) {
    ssize_t got;
    do
        got = read(child->result, failure, sizeof *failure);
    while (got < 0 && errno == EINTR);
    close(child->result);
    return got == sizeof *failure ? -1 : 0;
}

int program_start(struct spawn_failure *failure) {
    if (!config.argv[0])
        return 0;
    int out[2];
    *failure = (struct spawn_failure){.stage = STAGE_FORK};
    if (pipe2(out, O_CLOEXEC) < 0) {
        failure->code = (uint32_t)errno;
        return -1;
    }
    struct spawn request = {.argv = config.argv, .terminal = -1, .standard = {STDIN_FILENO, out[1], out[1]}};
    struct spawned child;
    failure->code = (uint32_t)spawn(&request, &child);
    close(out[1]);
    if (failure->code || wait_for_exec(&child, failure) < 0) {
        close(out[0]);
        return -1;
    }
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    output = (struct watch){.fd = out[0], .ready = output_ready};
    program = (struct program){.state = PROGRAM_RUNNING, .pid = child.pid, .started = (uint64_t)time(NULL)};
    return watch_set(&output, EPOLLIN) ? 0 : -1;
}

static void program_ended(int status) {
    program.ended = (uint64_t)time(NULL);
    program.state = WIFSIGNALED(status) ? PROGRAM_KILLED : PROGRAM_EXITED;
    program.code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (program.state == PROGRAM_RUNNING && pid == program.pid) {
            program_ended(status);
            continue;
        }
        for (struct session *session = sessions; session; session = session->next)
            if (session->pid == pid && !session->reaped) {
                session_reaped(session, status);
                break;
            }
    }
}

static bool sessions_run(void) {
    for (struct session *session = sessions; session; session = session->next)
        if (!session->reaped)
            return true;
    return false;
}

static void stop_time_over(struct timer *timer) {
    (void)timer;
    stop_phase++;
}

static void stop_sessions(void) {
    stop_phase = SESSIONS_STOP;
    for (struct session *session = sessions; session; session = session->next) {
        session_signal(session, SIGHUP);
        session_signal(session, SIGTERM);
        session_signal(session, SIGCONT);
    }
    timer_arm(&stop_timer, SESSIONS_STOP_WITHIN);
}

static void begin_stop(int number) {
    stop_phase = PROGRAM_STOPS;
    stop_timer.fire = stop_time_over;
    if (program.state == PROGRAM_RUNNING) {
        kill(program.pid, number);
        timer_arm(&stop_timer, PROGRAM_STOPS_WITHIN);
    }
}

static void go_on_stopping(void) {
    if (stop_phase == PROGRAM_STOPS && program.state != PROGRAM_RUNNING)
        stop_sessions();
    // The time for the program was over: its phase has been left by the timer.
    if (stop_phase == SESSIONS_STOP && !stop_timer.armed)
        stop_sessions();
    if (stop_phase == SESSIONS_STOP && program.state != PROGRAM_RUNNING && !sessions_run())
        stop_phase = STOPPED;
}

void signals_handle(void) {
    static int handled;
    if (child_ended) {
        child_ended = 0;
        reap();
    }
    if (stop_signals != handled) {
        // Again while stopping: no more patience.
        if (stop_phase == RUNNING)
            begin_stop(last_signal);
        else
            stop_phase = STOPPED;
        handled = stop_signals;
    }
    if (stop_phase != RUNNING)
        go_on_stopping();
}

bool stopping(void) {
    return stop_phase != RUNNING;
}

bool stopped(int *status) {
    if (stop_phase < STOPPED)
        return false;
    *status = program.state == PROGRAM_KILLED ? 128 + program.code : program.state == PROGRAM_EXITED ? program.code : 0;
    if (program.state == PROGRAM_RUNNING)
        *status = 128 + SIGKILL;
    // What the program wrote last.
    if (output.fd >= 0)
        output_ready(&output, EPOLLIN);
    return true;
}
