#pragma once
#include <stddef.h>

/// A kernel parameter (/proc/sys) and its value.
struct smi_sysctl {
    const char *_Nonnull path;
    const char *_Nonnull value;
    int optional; ///< non-zero: its absence is no error
};

/// Makes a network namespace, sets parameters in it and opens a NETLINK_ROUTE socket in it; the calling thread is back
/// in its own namespace then. Returns the namespace's descriptor, which keeps it alive, or -errno.
int smi_netns_create(const struct smi_sysctl *_Nullable sysctls, size_t count, int *_Nonnull route_socket);

/// A socket made inside a network namespace (on a thread of its own): a descriptor, or -errno.
int smi_netns_socket(int netns, int domain, int type, int protocol);

/// Carries out what a change of a link's carrier has left to do (ETHTOOL_GLINK does), in the socket's network
/// namespace; -1 with errno.
int smi_link_settle(int socket, const char *_Nonnull name);
