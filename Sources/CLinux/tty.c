#define _GNU_SOURCE 1
#include "smi_tty.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved, raw;
static atomic_int terminal = -1;

void smi_tty_restore(void) {
    int code = errno;
    int fd = atomic_exchange(&terminal, -1);
    if (fd >= 0)
        // At once (not TCSADRAIN): this must not wait for a terminal that takes no output.
        tcsetattr(fd, TCSANOW, &saved);
    errno = code;
}

static void on_fatal(int number) {
    smi_tty_restore();
    // The handler was installed with SA_RESETHAND: this time the signal does what it always did.
    raise(number);
}

static void restore_before_death(void) {
    static const int fatal[] = {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGQUIT, SIGSYS};
    struct sigaction action = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        sigaction(fatal[i], &action, NULL);
}

static void prepare_restore(void) {
    atexit(smi_tty_restore);
    restore_before_death();
}

int smi_tty_raw(int fd) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (tcgetattr(fd, &saved) < 0)
        return -1;
    pthread_once(&once, prepare_restore);
    raw = saved;
    cfmakeraw(&raw);
    // Before the change: a signal in between finds what to restore.
    atomic_store(&terminal, fd);
    if (tcsetattr(fd, TCSANOW, &raw) < 0) {
        int code = errno;
        atomic_store(&terminal, -1);
        errno = code;
        return -1;
    }
    return 0;
}

void smi_tty_again(void) {
    int fd = atomic_load(&terminal);
    if (fd >= 0)
        tcsetattr(fd, TCSANOW, &raw);
}

int smi_tty_size(int fd, unsigned short *rows, unsigned short *columns) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        return -1;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return 0;
}

enum { MAX_SIGNAL = 65 };

static atomic_int signal_fd = -1;
static struct sigaction earlier[MAX_SIGNAL];
static unsigned char replaced[MAX_SIGNAL];

static void on_signal(int number) {
    int code = errno;
    unsigned char byte = (unsigned char)number;
    // A full pipe holds thousands of signals that nobody has looked at yet: one more tells nothing new.
    ssize_t written = write(atomic_load(&signal_fd), &byte, 1);
    (void)written;
    errno = code;
}

static int replace(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    if (number < 1 || number >= MAX_SIGNAL || sigaction(number, &action, &earlier[number]) < 0)
        return -1;
    replaced[number] = 1;
    return 0;
}

int smi_signals_to(int fd, const int *signals, int count) {
    atomic_store(&signal_fd, fd);
    for (int i = 0; i < count; i++)
        if (replace(signals[i], on_signal) < 0)
            return -1;
    return replace(SIGPIPE, SIG_IGN);
}

void smi_signals_restore(void) {
    for (int number = 1; number < MAX_SIGNAL; number++)
        if (replaced[number]) {
            sigaction(number, &earlier[number], NULL);
            replaced[number] = 0;
        }
    atomic_store(&signal_fd, -1);
}
