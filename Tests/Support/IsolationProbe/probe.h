#pragma once
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/// Runs a call in a child, so that whatever it does ends with the child; prints its errno, 0, or the signal negated.
#define IN_CHILD(key, name, expression)                                                                                \
    do {                                                                                                               \
        fflush(stdout);                                                                                                \
        pid_t child = fork();                                                                                          \
        if (child == 0) {                                                                                              \
            long result = (expression);                                                                                \
            _exit(result < 0 ? errno : 0);                                                                             \
        }                                                                                                              \
        int status = 0;                                                                                                \
        waitpid(child, &status, 0);                                                                                    \
        printf("%s.%s=%d\n", key, name, WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));                \
    } while (0)

void print_denied_calls(void);
void print_absent_calls(void);
void print_namespace_calls(void);
