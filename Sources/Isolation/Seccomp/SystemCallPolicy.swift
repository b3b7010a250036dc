/// Which system calls a sandbox may make.
///
/// Whatever is neither allowed here nor unknown is denied with EPERM.
package enum SystemCallPolicy {
    /// Allowed whatever their arguments, but for mremap of nothing (`SeccompFilter`).
    package static let allowed: [String] = [
        // Files
        "access", "chdir", "chmod", "chown", "chroot", "close", "close_range", "copy_file_range", "creat", "dup",
        "dup2",
        "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2",
        "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr",
        "fstat", "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "ioctl",
        "lchown", "lgetxattr", "link", "linkat", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr",
        "lstat", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "openat2",
        "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink",
        "readlinkat", "readv", "removexattr", "rename", "renameat", "renameat2", "rmdir", "sendfile", "setxattr",
        "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "tee",
        "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimes", "vmsplice", "write", "writev",
        // Events and waiting
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
        "epoll_wait_old", "eventfd", "eventfd2", "inotify_add_watch", "inotify_init", "inotify_init1",
        "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit", "poll",
        "ppoll", "pselect6", "select", "signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime",
        // Memory
        "brk", "get_mempolicy", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall",
        "mmap", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_free", "pkey_mprotect",
        "process_madvise", "process_mrelease", "process_vm_readv", "process_vm_writev", "remap_file_pages",
        // Processes, users, limits
        "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_waitv",
        "get_robust_list", "get_thread_area", "getcpu", "getegid", "geteuid", "getgid", "getgroups", "getpgid",
        "getpgrp", "getpid", "getppid", "getpriority", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid",
        "gettid", "getuid", "ioprio_get", "ioprio_set", "kcmp", "kill", "pause", "pidfd_getfd", "pidfd_open",
        "pidfd_send_signal", "prctl", "prlimit64", "ptrace", "restart_syscall", "rseq", "rt_sigaction",
        "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
        "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr",
        "sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list", "set_thread_area", "set_tid_address",
        "setfsgid", "setfsuid", "setgid", "setgroups", "setpgid", "setpriority", "setregid", "setresgid", "setresuid",
        "setreuid", "setrlimit", "setsid", "setuid", "sigaltstack", "sysinfo", "tgkill", "times", "tkill", "uname",
        "vfork", "wait4", "waitid",
        // Time
        "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday", "nanosleep",
        "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime",
        // Communication
        "accept", "accept4", "bind", "connect", "getpeername", "getrandom", "getsockname", "getsockopt", "listen",
        "msgctl", "msgget", "msgrcv", "msgsnd", "pipe", "pipe2", "recvfrom", "recvmmsg", "recvmsg", "semctl", "semget",
        "semop", "semtimedop", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shmat", "shmctl", "shmdt", "shmget",
        "shutdown", "socketpair",
    ]

    /// Answered as if the kernel did not have them, so that programs fall back to what can be filtered and moved:
    /// clone3's flags lie in memory, io_uring passes by the filter and cannot be dumped, Landlock would be lost by a
    /// hand-off without a sign.
    package static let absent: [String] = [
        "clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "landlock_create_ruleset",
        "landlock_add_rule", "landlock_restrict_self",
    ]

    /// Denied with EPERM; listed for the reader and the tests, as this is the answer to everything else that is known.
    package static let denied: [String] = [
        // Mounts, names and namespaces
        "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
        "mount_setattr", "setns", "sethostname", "setdomainname", "open_by_handle_at", "fanotify_init", "fanotify_mark",
        // The kernel
        "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "bpf",
        "perf_event_open", "syslog", "iopl", "ioperm", "modify_ldt", "lookup_dcookie", "acct", "swapon", "swapoff",
        "quotactl", "quotactl_fd", "vhangup", "uselib", "ustat", "sysfs", "_sysctl", "nfsservctl",
        // Time
        "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
        // Keys, other processes' memory, NUMA placement
        "add_key", "request_key", "keyctl", "userfaultfd", "memfd_secret", "pkey_alloc", "move_pages", "migrate_pages",
        "mbind", "set_mempolicy", "set_mempolicy_home_node",
        // Cannot be dumped
        "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr",
    ]

    /// The highest number answered by name; above it everything is unknown (fchmodat2, Linux 6.6).
    package static let highestKnown: UInt32 = 452
    /// Numbers below it that some C libraries' names do not cover: cachestat.
    package static let absentNumbers: [Int32] = [451]

    /// CLONE_NEW* in clone(2)'s flags: user, pid, net, mnt, uts, ipc, cgroup.
    package static let cloneNamespaces: UInt64 = 0x7e02_0000
    /// The same in unshare(2)'s, and time.
    package static let unshareNamespaces: UInt64 = 0x7e02_0080
    /// SECCOMP_FILTER_FLAG_NEW_LISTENER: such a descriptor cannot be dumped.
    package static let seccompListener: UInt64 = 8
    /// personality(2): query, Linux and no address randomisation, in 64 and 32 bits.
    package static let personalities: [UInt64] = [0, 8, 0x20000, 0x20008, 0xffff_ffff]
}
