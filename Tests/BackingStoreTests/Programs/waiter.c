// Waits in system calls of every restart kind and exits with 0 if none of them noticed anything: waiter UID
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    uid_t user = argc > 1 ? (uid_t)atoi(argv[1]) : 0;
    if (user != 0 && (setgroups(0, NULL) != 0 || setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0))
        return 10;
    signal(SIGTRAP, SIG_IGN);
    int pipes[2], never = 0;
    if (pipe(pipes) != 0)
        return 11;
    sigset_t mask_before, mask_after;
    sigprocmask(SIG_SETMASK, NULL, &mask_before);
    int64_t end = now_ms() + 700;
    int fds_before = dup(0);
    close(fds_before);
    while (now_ms() < end) {
        struct timespec wait = {.tv_nsec = 11000000}, left = {0};
        if (nanosleep(&wait, &left) != 0)
            return 12;
        struct pollfd entry = {.fd = pipes[0], .events = POLLIN};
        int64_t start = now_ms();
        if (poll(&entry, 1, 12) != 0)
            return 13;
        if (now_ms() - start < 11)
            return 14;
        struct timespec limit = {.tv_nsec = 9000000};
        if (syscall(SYS_futex, &never, FUTEX_WAIT, 0, &limit, NULL, 0) != -1 || errno != ETIMEDOUT)
            return 15;
        for (volatile int i = 0; i < 200000; i++)
            ;
    }
    struct sigaction action;
    sigaction(SIGTRAP, NULL, &action);
    sigprocmask(SIG_SETMASK, NULL, &mask_after);
    if (action.sa_handler != SIG_IGN)
        return 16;
    for (int i = 1; i < 64; i++)
        if (sigismember(&mask_before, i) != sigismember(&mask_after, i))
            return 18;
    int fds_after = dup(0);
    return fds_after == fds_before ? 0 : 17;
}
