#define _GNU_SOURCE 1
#include "smi_unix.h"
#include <stddef.h>
#include <sys/socket.h>

int smi_accept(int listener) {
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

int smi_peer_user(int sock, uid_t *user) {
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return -1;
    *user = credentials.uid;
    return 0;
}
