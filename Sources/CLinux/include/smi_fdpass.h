#pragma once
#include <stddef.h>
#include <sys/types.h>

/// Sends bytes and descriptors (SCM_RIGHTS, at most 64) over a unix socket; the byte count, or -1 with errno.
ssize_t smi_send_fds(int sock, const void *_Nonnull buf, size_t len, const int *_Nullable fds, int nfds);

/// Receives bytes and descriptors (CLOEXEC); descriptors beyond max_fds are closed. The byte count, or -1 with errno.
ssize_t smi_recv_fds(int sock, void *_Nonnull buf, size_t len, int *_Nonnull fds, int max_fds, int *_Nonnull nfds);

/// An anonymous file, CLOEXEC and sealable; -1 with errno.
int smi_memfd(const char *_Nonnull name);

/// A pipe, both ends CLOEXEC; -1 with errno.
int smi_pipe(int *_Nonnull ends);
