#define _GNU_SOURCE 1
#include "smi_pty.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int smi_pty_open(int *master, int *slave) {
    int own = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (own < 0)
        return -errno;
    char name[64];
    if (grantpt(own) < 0 || unlockpt(own) < 0 || ptsname_r(own, name, sizeof name) != 0) {
        int code = errno;
        close(own);
        return -code;
    }
    int other = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (other < 0) {
        int code = errno;
        close(own);
        return -code;
    }
    *master = own;
    *slave = other;
    return 0;
}
