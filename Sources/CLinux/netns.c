#define _GNU_SOURCE 1
#include "smi_netns.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct job {
    const struct smi_sysctl *sysctls;
    size_t count;
    int netns;
    int socket;
    int domain, type, protocol;
    int error;
};

static int set_parameter(const struct smi_sysctl *s) {
    int fd = open(s->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return s->optional && errno == ENOENT ? 0 : -1;
    ssize_t n = write(fd, s->value, strlen(s->value));
    int error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

/// What is made in the new namespace, with the calling thread in it.
static int furnish(struct job *j) {
    for (size_t i = 0; i < j->count; i++)
        if (set_parameter(&j->sysctls[i]) < 0)
            return -1;
    j->netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (j->netns < 0)
        return -1;
    j->socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (j->socket >= 0)
        return 0;
    int error = errno;
    close(j->netns);
    errno = error;
    return -1;
}

static void *run_socket(void *argument) {
    struct job *j = argument;
    if (setns(j->netns, CLONE_NEWNET) < 0 || (j->socket = socket(j->domain, j->type | SOCK_CLOEXEC, j->protocol)) < 0)
        j->error = errno;
    return NULL;
}

/// The namespace of a thread ends with the thread; the process's stays as it is.
static int on_own_thread(void *(*body)(void *), struct job *j) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, body, j);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    return -j->error;
}

int smi_netns_create(const struct smi_sysctl *sysctls, size_t count, int *route_socket) {
    struct job j = {.sysctls = sysctls, .count = count, .netns = -1, .socket = -1};
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return -errno;
    // On the caller's own thread: starting another one costs more than all else here when processors are busy.
    int result = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
    if (result == 0) {
        result = furnish(&j) < 0 ? -errno : 0;
        // The kernel may be short of memory for a moment; a thread that stayed behind would do harm later.
        while (setns(home, CLONE_NEWNET) < 0)
            sched_yield();
    }
    close(home);
    if (result < 0)
        return result;
    *route_socket = j.socket;
    return j.netns;
}

int smi_netns_socket(int netns, int domain, int type, int protocol) {
    struct job j = {.netns = netns, .socket = -1, .domain = domain, .type = type, .protocol = protocol};
    int result = on_own_thread(run_socket, &j);
    return result < 0 ? result : j.socket;
}

int smi_link_settle(int socket, const char *name) {
    struct ethtool_value value = {.cmd = ETHTOOL_GLINK};
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_data = (void *)&value;
    return ioctl(socket, SIOCETHTOOL, &request);
}
