import Glibc
import LinuxSystem

extension SandboxHost {
    /// Everything that this host has of any sandbox: files, processes, links.
    package func survey() async throws -> [SandboxPresence] {
        try await offload { [self] in
            try IsolationError.wrapping("look for sandboxes") {
                var users = Set(Directories.entries(of: paths.state + "/smis"))
                users.formUnion(Directories.entries(of: paths.run + "/smis"))
                users.formUnion(try SandboxCgroup.users(root: paths.cgroupRoot, hierarchies: hierarchies))
                users.formUnion(try SandboxNetwork.links().keys)
                return try users.sorted().map(presence)
            }
        }
    }

    private func presence(_ user: String) throws -> SandboxPresence {
        let cgroup = try cgroup(user)
        return SandboxPresence(
            user: user,
            spec: record(user).spec(),
            processes: cgroup.sandboxed().count,
            frozen: cgroup.isFrozen,
            hasCut: hasWholeCut(user)
        )
    }

    /// Ends what is left of a restore whose daemon died before it was done; a whole cut is kept.
    ///
    /// Such processes cannot be frozen where they wait, in the kernel, for pages that nobody serves any more. Returns whether
    /// there were any.
    package func endUnfinishedRestore(_ user: String) async throws -> Bool {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("end the restore of \(user)") {
                let cgroup = try cgroup(user)
                let processes = cgroup.processes()
                guard !processes.isEmpty, try notedInit(user, cgroup) == nil else { return false }
                // Whoever runs has been noted, before it could run, and has no cut; CRIU itself is in no pid namespace.
                guard hasWholeCut(user) || processes.count > cgroup.sandboxed().count else { return false }
                try end(user, keepCut: true)
                return true
            }
        }
    }

    /// The init that a launch or a whole restore has noted; nil where it does not live.
    private func notedInit(_ user: String, _ cgroup: SandboxCgroup) throws -> ProcessHandle? {
        guard let process = record(user).process(),
            let handle = try ProcessHandle(pid: process.pid, startTime: process.startTime),
            cgroup.tree.contains(process.pid), try !handle.hasEnded(within: 0)
        else { return nil }
        return handle
    }

    /// Takes over a sandbox found by `survey`, running or frozen, without changing which of the two it is.
    ///
    /// - Throws: `sandboxUnknown`; `sandboxDead` where its init has ended.
    package func adopt(_ user: String) async throws -> SandboxProcess {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("adopt \(user)") {
                _ = try knownSpec(user)
                let handle = try runningInit(user)
                var process = record(user).process() ?? SandboxProcess(pid: handle.pid, startTime: handle.startTime)
                if process.pid != handle.pid || process.startTime != handle.startTime {
                    process = SandboxProcess(pid: handle.pid, startTime: handle.startTime)
                    try record(user).write(process)
                }
                open.withLock { $0[user, default: Open()].process = handle }
                return process
            }
        }
    }

    /// The sandbox's init: the one in memory, else the recorded one, else the first process of the pid namespace.
    func runningInit(_ user: String) throws -> ProcessHandle {
        if let handle = open.withLock({ $0[user]?.process }), try !handle.hasEnded(within: 0) { return handle }
        let cgroup = try cgroup(user)
        if let handle = try notedInit(user, cgroup) { return handle }
        for identity in cgroup.sandboxed() where identity.inner == 1 {
            if let handle = try ProcessHandle(pid: identity.outer), cgroup.tree.contains(identity.outer) {
                return handle
            }
        }
        throw IsolationError(
            .sandboxDead,
            cause: "the sandbox of \(user) has no running init on this host",
            remedy: "launch it again"
        )
    }

    /// Returns when the sandbox's init has ended.
    package func waitForExit(_ user: String) async throws {
        let handle = try await offload { [self] in
            try IsolationError.wrapping("watch \(user)") { try runningInit(user) }
        }
        _ = try await offload { try handle.hasEnded(within: -1) }
    }

    /// The numbers of the sandbox's processes.
    package func pids(_ user: String) async throws -> [NamespacedPid] {
        try await offload { [self] in
            try IsolationError.wrapping("list the processes of \(user)") { try cgroup(user).sandboxed() }
        }
    }

    /// The sandbox's processes as the host sees them.
    package func processes(_ user: String) async throws -> [SandboxProcessInfo] {
        try await offload { [self] in
            try IsolationError.wrapping("list the processes of \(user)") {
                let identities = try cgroup(user).sandboxed()
                let inner = Dictionary(identities.map { ($0.outer, $0.inner) }) { first, _ in first }
                return identities.compactMap { SandboxProcessInfo(identity: $0, inner: inner) }
            }
        }
    }
}

extension NamespacedPid {
    /// Reads NSpid of /proc/PID/status; nil for a process that has ended or is in the host's own pid namespace (`swrk`
    /// on its way out, say).
    init?(outer: Int32) {
        guard let status = try? FileContents.string(of: "/proc/\(outer)/status") else { return nil }
        self.init(outer: outer, status: status)
    }

    init?(outer: Int32, status: String) {
        guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("NSpid:") }) else { return nil }
        let numbers = line.dropFirst("NSpid:".count).split(whereSeparator: \.isWhitespace).compactMap { Int32($0) }
        guard numbers.count > 1, let inner = numbers.last else { return nil }
        self.init(outer: outer, inner: inner)
    }
}

extension SandboxCgroup {
    /// The processes in it that live in a pid namespace of their own.
    func sandboxed() -> [NamespacedPid] { processes().compactMap(NamespacedPid.init(outer:)) }

    /// Makes the cgroup that holds all sandboxes of a host.
    static func prepareParent(root: String, hierarchies: [CgroupHierarchy]) throws(SyscallError) {
        try CgroupTree(parent(root), in: relevant(hierarchies)).create()
    }

    /// Users that have a cgroup in any hierarchy.
    static func users(root: String, hierarchies: [CgroupHierarchy]) throws -> Set<String> {
        var users: Set<String> = []
        for directory in CgroupTree(parent(root), in: relevant(hierarchies)).directories {
            for name in Directories.entries(of: directory) {
                var status = stat()
                if lstat(directory + "/" + name, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
                    users.insert(name)
                }
            }
        }
        return users
    }
}

extension SandboxProcessInfo {
    /// Reads /proc; nil for a process that has ended.
    init?(identity: NamespacedPid, inner: [Int32: Int32]) {
        guard let stat = ProcessStat(pid: identity.outer) else { return nil }
        let arguments = (try? FileContents.bytes(of: "/proc/\(identity.outer)/cmdline")) ?? []
        let command = arguments.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
        self.init(
            hostPid: identity.outer,
            pid: identity.inner,
            parent: inner[stat.parent] ?? 0,
            name: stat.name,
            command: command.isEmpty ? "[\(stat.name)]" : command,
            state: String(stat.state),
            rss: Int64(stat.residentBytes)
        )
    }
}
