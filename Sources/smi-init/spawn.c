#define _GNU_SOURCE
#include "spawn.h"

#include "config.h"
#include "environment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

extern char **environ;

static _Noreturn void fail(int report, enum stage stage) {
    struct spawn_failure failure = {.stage = stage, .code = (uint32_t)errno};
    ssize_t written = write(report, &failure, sizeof failure);
    (void)written;
    _exit(127);
}

// Ignored signals and blocked ones survive an exec: the program starts with neither.
static void reset_signals(void) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void take_descriptors(const struct spawn *request, int report) {
    if (request->terminal >= 0 && ioctl(request->terminal, TIOCSCTTY, 0) < 0)
        fail(report, STAGE_FORK);
    // Sources are above 2, as smi-init's own 0 to 2 are always open: no dup2 overwrites a later source.
    for (int i = 0; i < 3; i++)
        if (dup2(request->terminal >= 0 ? request->terminal : request->standard[i], i) < 0)
            fail(report, STAGE_FORK);
}

// A login shell is told so by a dash before its name.
static const char *choose_shell(char **argv, size_t size) {
    const char *shell = environment_get(environ, "SHELL");
    if (!shell || access(shell, X_OK) < 0)
        shell = access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh";
    const char *slash = strrchr(shell, '/');
    snprintf(argv[0], size, "-%s", slash ? slash + 1 : shell);
    setenv("SHELL", shell, 1);
    return shell;
}

static _Noreturn void run(const struct spawn *request, int report) {
    if (setsid() < 0)
        fail(report, STAGE_FORK);
    take_descriptors(request, report);
    environ = environment_merge(config.environment, request->environment);
    if (!environ)
        fail(report, STAGE_FORK);
    const char *directory = request->cwd && *request->cwd ? request->cwd : config.directory;
    if (chdir(*directory ? directory : "/") < 0)
        fail(report, STAGE_DIRECTORY);
    umask(022);
    // Whatever happens before, only 0 to 2 and the report (close-on-exec) reach the program.
    syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    reset_signals();
    if (request->shell) {
        char name[64];
        char *argv[] = {name, NULL};
        const char *shell = choose_shell(argv, sizeof name);
        execv(shell, argv);
    } else {
        execvp(request->argv[0], request->argv);
    }
    fail(report, STAGE_EXEC);
}

int spawn(const struct spawn *request, struct spawned *spawned) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return errno;
    pid_t pid = fork();
    if (pid == 0)
        run(request, report[1]);
    int code = errno;
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return code;
    }
    spawned->pid = pid;
    spawned->result = report[0];
    return 0;
}

int open_terminal(uint16_t rows, uint16_t columns, int *primary, int *replica) {
    *primary = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (*primary < 0)
        return errno;
    int locked = 0;
    struct winsize size = {.ws_row = rows ? rows : 24, .ws_col = columns ? columns : 80};
    // TIOCGPTPEER opens the other end whatever is mounted on /dev/pts.
    if (ioctl(*primary, TIOCSPTLCK, &locked) < 0 || ioctl(*primary, TIOCSWINSZ, &size) < 0 ||
        (*replica = ioctl(*primary, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
        int code = errno;
        close(*primary);
        return code;
    }
    return 0;
}
