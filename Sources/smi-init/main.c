// PID 1 of a sandbox; README.md has the contract.
#define _GNU_SOURCE
#include "config.h"
#include "connection.h"
#include "log.h"
#include "loop.h"
#include "program.h"
#include "session.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Nothing of the host may stay open, and 0 to 2 must be something harmless.
static int replace_descriptors(void) {
    syscall(SYS_close_range, (unsigned)STATUS_FD + 1, ~0U, 0);
    fcntl(CONFIG_FD, F_SETFD, FD_CLOEXEC);
    fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    for (int fd = 0; fd < 3; fd++)
        if (open("/dev/null", O_RDWR | O_NOCTTY) != fd)
            return errno ? errno : EBADF;
    return 0;
}

static int prepare(sigset_t *waiting) {
    signals_prepare(waiting);
    int code = replace_descriptors();
    if (code)
        return code;
    setsid();
    umask(022);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    // Other processes of the sandbox may not read the secret or borrow descriptors.
    prctl(PR_SET_DUMPABLE, 0);
    return loop_prepare() ? 0 : errno;
}

static int exit_status(const struct spawn_failure *failure) {
    if (failure->stage != STAGE_EXEC)
        return 1;
    return failure->code == ENOENT ? 127 : 126;
}

int main(void) {
    sigset_t waiting;
    int code = prepare(&waiting);
    if (code) {
        status_report(STAGE_SETUP, code, 0, 0);
        return 1;
    }
    code = config_read();
    if (code) {
        status_report(STAGE_CONFIG, code, 0, 0);
        return 1;
    }
    code = connections_listen(&config.port);
    if (code) {
        status_report(STAGE_LISTEN, code, 0, 0);
        return 1;
    }
    // A sandbox whose disk is full or read-only still runs, without a log.
    log_open();
    struct spawn_failure failure = {0};
    if (program_start(&failure) < 0) {
        status_report(failure.stage, (int)failure.code, 0, 0);
        return exit_status(&failure);
    }
    status_report(STAGE_RUNNING, 0, program.pid, config.port);

    int status;
    while (!stopped(&status)) {
        loop_turn(&waiting);
        signals_handle();
    }
    return status;
}
