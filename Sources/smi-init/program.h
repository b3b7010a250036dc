// The main program, the reaping of every process of the sandbox, and the orderly stop.
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum program_state {
    PROGRAM_NONE = 0,
    PROGRAM_RUNNING = 1,
    PROGRAM_EXITED = 2,
    PROGRAM_KILLED = 3,
};

struct program {
    enum program_state state;
    pid_t pid;
    int32_t code;     // exit status or signal
    uint64_t started; // seconds since 1970
    uint64_t ended;
};

extern struct program program;

struct spawn_failure;

// Installs the handlers; *waiting: the mask under which signals may arrive.
void signals_prepare(sigset_t *waiting);

// Starts the main program, where there is one; returns once it has been exec'd. 0, or failure->stage and code.
int program_start(struct spawn_failure *failure);

// Handles the signals that have arrived.
void signals_handle(void);

bool stopping(void);

// Everything has ended, or the time for it is over: smi-init may exit, with *status.
bool stopped(int *status);
