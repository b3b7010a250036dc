// Looks at a sandbox from inside and prints what it finds, one `key=value` a line; IsolationProbe.swift judges it.
// Static, so that it runs in any image.
#define _GNU_SOURCE 1
#include "probe.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static void print_file(const char *key, const char *path) {
    FILE *f = fopen(path, "re");
    char line[4096];
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        printf("%s=%s\n", key, line);
    }
    if (f)
        fclose(f);
}

static void print_links(const char *key, const char *directory) {
    DIR *d = opendir(directory);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char path[512], target[512];
        if (e->d_name[0] == '.' || (strcmp(key, "fd") == 0 && atoi(e->d_name) == dirfd(d)))
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n < 0)
            continue;
        target[n] = 0;
        printf("%s.%s=%s\n", key, e->d_name, target);
    }
    if (d)
        closedir(d);
}

static void print_processes(void) {
    DIR *d = opendir("/proc");
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char path[300], name[64] = "?";
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/comm", e->d_name);
        FILE *f = fopen(path, "re");
        if (f && fgets(name, sizeof name, f))
            name[strcspn(name, "\n")] = 0;
        if (f)
            fclose(f);
        printf("process.%s=%s\n", e->d_name, name);
    }
    if (d)
        closedir(d);
}

/// Every file of /proc outside of the processes' directories that says it can be written to, and can.
static void print_writable(const char *directory) {
    DIR *d = opendir(directory);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char path[1024];
        struct stat st;
        if (e->d_name[0] == '.' || (strcmp(directory, "/proc") == 0 && e->d_name[0] >= '0' && e->d_name[0] <= '9'))
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (lstat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            print_writable(path);
        if (!S_ISREG(st.st_mode) || !(st.st_mode & 0222))
            continue;
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
            continue;
        printf("writable=%s\n", path);
        close(fd);
    }
    if (d)
        closedir(d);
}

static void print_open(const char *key, const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    printf("%s.%s=%d\n", key, path, fd < 0 ? errno : 0);
    if (fd >= 0)
        close(fd);
}

static void print_read(const char *path) {
    char buffer[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -errno : read(fd, buffer, sizeof buffer);
    printf("read.%s=%zd\n", path, n < 0 && fd >= 0 ? (ssize_t)-errno : n);
    if (fd >= 0)
        close(fd);
}

static void print_devices(void) {
    static const char *const allowed[] = {"null", "zero", "full", "random", "urandom", "ptmx"};
    char path[64];
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        snprintf(path, sizeof path, "/dev/%s", allowed[i]);
        print_open("device", path, O_RDWR);
    }
    DIR *d = opendir("/dev");
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.')
            printf("devname.%s=\n", e->d_name);
    if (d)
        closedir(d);
    IN_CHILD("mknod", "char", mknod("/dev/.probe", S_IFCHR | 0600, makedev(1, 1)));
    IN_CHILD("mknod", "null", mknod("/dev/.probe", S_IFCHR | 0600, makedev(1, 3)));
    IN_CHILD("mknod", "block", mknod("/dev/.probe", S_IFBLK | 0600, makedev(8, 0)));
    IN_CHILD("mknod", "fifo", mknod("/var/log/.probe-fifo", S_IFIFO | 0600, 0));
    unlink("/var/log/.probe-fifo");
}

static void print_all(void) {
    char name[256] = "";
    gethostname(name, sizeof name);
    printf("hostname=%s\n", name);
    print_file("status", "/proc/self/status");
    print_file("mount", "/proc/self/mountinfo");
    print_file("cgroup", "/proc/self/cgroup");
    print_file("resolv", "/etc/resolv.conf");
    print_file("hosts", "/etc/hosts");
    print_links("ns", "/proc/self/ns");
    print_links("fd", "/proc/self/fd");
    print_processes();
    print_writable("/proc");
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    printf("rlimit.core=%llu\n", (unsigned long long)core.rlim_max);
    static const char *const secrets[] = {"/proc/kcore",      "/proc/keys",        "/proc/kallsyms", "/proc/kpageflags",
                                          "/proc/timer_list", "/proc/vmallocinfo", "/proc/kmsg",     "/proc/iomem"};
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        print_read(secrets[i]);
    static const char *const switches[] = {"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
                                           "/proc/sys/kernel/modprobe",     "/proc/sys/kernel/hostname",
                                           "/proc/sys/vm/drop_caches",      "/proc/sys/net/ipv4/ip_forward",
                                           "/proc/irq/default_smp_affinity"};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        print_open("write", switches[i], O_WRONLY);
    print_devices();
    print_denied_calls();
    print_absent_calls();
    print_namespace_calls();
}

// MARK: Single probes

static socklen_t parse_address(const char *text, const char *port, struct sockaddr_storage *out) {
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((unsigned short)atoi(port));
        return sizeof *v4;
    }
    inet_pton(AF_INET6, text, &v6->sin6_addr);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((unsigned short)atoi(port));
    return sizeof *v6;
}

/// Prints 0 where a connection came about, else the errno (ETIMEDOUT: no answer at all).
static int probe_connect(const char *address, const char *port) {
    struct sockaddr_storage to;
    socklen_t length = parse_address(address, port, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = 0;
    if (connect(fd, (struct sockaddr *)&to, length) < 0 && (error = errno) == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        socklen_t size = sizeof error;
        if (poll(&p, 1, 700) <= 0)
            error = ETIMEDOUT;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    printf("connect=%d\n", error);
    return 0;
}

/// Sends a datagram, from another address where one is given (IP_FREEBIND needs no privilege).
static int probe_send(const char *address, const char *port, const char *source) {
    struct sockaddr_storage to, from;
    socklen_t length = parse_address(address, port, &to);
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1, error = 0;
    if (source) {
        socklen_t from_length = parse_address(source, "0", &from);
        setsockopt(fd, to.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, to.ss_family == AF_INET ? 15 : 78, &one,
                   sizeof one);
        if (bind(fd, (struct sockaddr *)&from, from_length) < 0)
            error = errno;
    }
    if (!error && sendto(fd, "probe", 5, 0, (struct sockaddr *)&to, length) < 0)
        error = errno;
    printf("send=%d\n", error);
    return 0;
}

static int probe_pids(void) {
    int count = 0, p[2], error = 0;
    if (pipe(p) < 0)
        return 1;
    for (; count < 100000; count++) {
        pid_t child = fork();
        if (child < 0) {
            error = errno;
            break;
        }
        if (child == 0) {
            char c;
            close(p[1]);
            _exit(read(p[0], &c, 1) < 0);
        }
    }
    printf("forked=%d\nerror=%d\n", count, error);
    fflush(stdout);
    close(p[1]);
    while (wait(NULL) > 0)
        ;
    return 0;
}

static int probe_memory(size_t bytes) {
    pid_t child = fork();
    if (child == 0) {
        char *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED)
            _exit(1);
        for (size_t i = 0; i < bytes; i += 4096)
            m[i] = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("memory=%d\n", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    return 0;
}

/// The classical way out of a chroot, tried against the sandbox's own root.
static int probe_escape(const char *path) {
    mkdir("/var/log/.probe-root", 0700);
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (chroot("/var/log/.probe-root") == 0 && fchdir(fd) == 0) {
        for (int i = 0; i < 64; i++)
            if (chdir("..") < 0)
                break;
        if (chroot(".") < 0)
            perror("chroot");
    }
    printf("escape=%d\n", access(path, F_OK) == 0 ? 0 : errno);
    rmdir("/var/log/.probe-root");
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    signal(SIGSEGV, SIG_DFL);
    if (argc >= 2 && strcmp(argv[1], "all") == 0)
        return print_all(), 0;
    if (argc >= 4 && strcmp(argv[1], "connect") == 0)
        return probe_connect(argv[2], argv[3]);
    if (argc >= 4 && strcmp(argv[1], "send") == 0)
        return probe_send(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    if (argc >= 3 && strcmp(argv[1], "open") == 0)
        return print_open("open", argv[2], O_RDONLY), 0;
    if (argc >= 2 && strcmp(argv[1], "pids") == 0)
        return probe_pids();
    if (argc >= 3 && strcmp(argv[1], "memory") == 0)
        return probe_memory(strtoull(argv[2], NULL, 10));
    if (argc >= 3 && strcmp(argv[1], "escape") == 0)
        return probe_escape(argv[2]);
    return 2;
}
