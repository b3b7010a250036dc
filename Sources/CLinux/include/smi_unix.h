#pragma once
#include <sys/types.h>

/// The next waiting connection of a listening socket, CLOEXEC; -1 with errno.
int smi_accept(int listener);

/// The user id at the other end of a unix socket (SO_PEERCRED); -1 with errno.
int smi_peer_user(int sock, uid_t *_Nonnull user);
