// Starts programs inside the sandbox.
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct spawn {
    char **argv;        // at least one entry, unless shell
    char **environment; // added to the sandbox's; may be NULL
    const char *cwd;    // "" or NULL: the sandbox's
    int shell;          // a login shell instead of argv
    int terminal;       // descriptor of the terminal, which becomes the controlling one; -1: the three below are used
    int standard[3];    // stdin, stdout, stderr; only while terminal is -1
};

struct spawned {
    pid_t pid;
    int result; // readable: EOF once the program has been exec'd, or one struct spawn_failure
};

// What a child writes when it could not exec.
struct spawn_failure {
    uint32_t stage; // STAGE_DIRECTORY, STAGE_EXEC or STAGE_FORK
    uint32_t code;  // errno
};

// 0, or the errno of pipe or fork. The child is leader of a session and of a process group of its own.
int spawn(const struct spawn *request, struct spawned *spawned);

// A new pseudo-terminal; 0 or an errno.
int open_terminal(uint16_t rows, uint16_t columns, int *primary, int *replica);
