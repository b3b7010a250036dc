import CLinux
import Glibc

/// A helper program to start: `criu swrk`, `nft`, `mkfs.erofs`.
///
/// Never used for the programs of a sandbox.
///
/// Everything is prepared before the clone; the child makes raw system calls only, closes every descriptor that was not
/// listed, clears signal handlers and the signal mask, and reports the call that failed.
package struct SpawnRequest: Sendable {
    /// Path of the program; not searched for.
    package var executable: String
    /// `argv`, with the program's name as first element.
    package var arguments: [String]
    /// `NAME=value` entries; the parent's environment is not inherited.
    package var environment: [String]
    /// Working directory; nil keeps the parent's.
    package var directory: String?
    /// Namespaces to enter by setns(2), in this order, such as a sandbox's network namespace.
    package var namespaces: [Descriptor] = []
    /// The cgroup2 directory to start in (CLONE_INTO_CGROUP); nil stays in the parent's.
    package var cgroup: Descriptor?
    /// Directories in cgroup v1 hierarchies to enter before the program starts.
    package var legacyCgroups: [String] = []
    /// Makes a cgroup namespace rooted at the cgroups entered.
    package var newCgroupNamespace = false
    /// Makes a mount namespace, with propagation from and to the parent's cut.
    package var newMountNamespace = false
    /// The child's descriptors by the number they have there; 0, 1 and 2 are /dev/null unless named.
    package var descriptors: [Int32: Descriptor] = [:]
    /// File, made if need be and appended to, that takes standard output and error where `descriptors` names none.
    package var log: String?
    /// Starts a session of its own, so that signals to the parent's group do not reach it.
    package var newSession = true

    /// A program with its arguments (`argv[0]` included).
    package init(_ executable: String, arguments: [String], environment: [String] = SpawnRequest.plainEnvironment) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
    }

    /// A search path and the C locale: what helpers get.
    package static let plainEnvironment = [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
    ]

    /// Starts the program; returns once it has exec'd.
    ///
    /// - Throws: `SyscallError` whose `call` names the step that failed, in the parent or in the child; nothing is left.
    package func start() throws(SyscallError) -> ChildProcess {
        var kept: [Descriptor] = []
        var map = descriptors.map { smi_fd_map(source: $0.value.raw, target: $0.key) }
        if let log {
            let file = try Descriptor(open: log, O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
            kept.append(file)
            for target: Int32 in [1, 2] where descriptors[target] == nil {
                map.append(smi_fd_map(source: file.raw, target: target))
            }
        }
        var procs: [Int32] = []
        for directory in legacyCgroups {
            // Not cgroup.procs: a thread that moves only itself needs no lock that waits for a grace period (5-20 ms each).
            let file = try Descriptor(open: directory + "/tasks", O_WRONLY)
            kept.append(file)
            procs.append(file.raw)
        }
        let child = try withExtendedLifetime((self, kept)) { () throws(SyscallError) -> ChildProcess in
            try start(map: map, procs: procs)
        }
        return child
    }

    private func start(map: [smi_fd_map], procs: [Int32]) throws(SyscallError) -> ChildProcess {
        let argv = CStringArray(arguments)
        let envp = CStringArray(environment)
        let path = CStringArray([executable, directory ?? ""])
        let namespaceNumbers = namespaces.map(\.raw)
        return try procs.withTyped { procs throws(SyscallError) in
            try map.withTyped { map throws(SyscallError) in
                try namespaceNumbers.withTyped { namespaces throws(SyscallError) in
                    var request = smi_spawn(
                        path: path[0],
                        argv: argv.constant,
                        envp: envp.constant,
                        directory: directory == nil ? nil : UnsafePointer(path[1]),
                        clone_flags: newMountNamespace ? UInt64(SMI_NEWNS.rawValue) : 0,
                        unshare_flags: newCgroupNamespace ? UInt64(SMI_NEWCGROUP.rawValue) : 0,
                        cgroup_fd: cgroup?.raw ?? -1,
                        cgroup_tasks: procs.baseAddress,
                        cgroup_tasks_count: procs.count,
                        namespaces: namespaces.baseAddress,
                        namespaces_count: namespaces.count,
                        fds: map.baseAddress,
                        fds_count: map.count,
                        new_session: newSession ? 1 : 0,
                        sandbox: nil
                    )
                    return try ChildProcess.spawn(&request, subject: executable)
                }
            }
        }
    }
}

extension ChildProcess {
    /// Runs smi_spawn; `request` and everything that it points to is complete.
    package static func spawn(
        _ request: inout smi_spawn,
        subject: String
    ) throws(SyscallError) -> ChildProcess {
        var pid: pid_t = 0
        var pidfd: Int32 = -1
        var stage: Int32 = 0
        let code = smi_spawn_start(&request, &pid, &pidfd, &stage)
        guard code == 0 else {
            throw SyscallError(String(cString: smi_stage_name(stage)), code: code, subject: subject)
        }
        return ChildProcess(pid: pid, pidfd: Descriptor(owning: pidfd))
    }
}
