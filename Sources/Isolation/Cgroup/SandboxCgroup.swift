import Glibc
import LinuxSystem

/// A sandbox's cgroup: limits in whichever hierarchy has the controller; freezing, killing and devices in version 2.
package struct SandboxCgroup: Sendable {
    /// The path in every hierarchy used.
    package let tree: CgroupTree
    /// The directory in the version 2 hierarchy.
    package let unified: String

    /// The cgroup of one user below the host's root.
    package init(user: String, root: String, hierarchies: [CgroupHierarchy]) throws(IsolationError) {
        let tree = CgroupTree(Self.parent(root) + "/" + user, in: Self.relevant(hierarchies))
        guard let unified = tree.unified else {
            throw IsolationError(
                .hostUnsuitable,
                cause: "no cgroup version 2 hierarchy is mounted read-write",
                remedy: "mount one, e.g. `mount -t cgroup2 none /sys/fs/cgroup/unified`"
            )
        }
        self.tree = tree
        self.unified = unified
    }

    /// The cgroup that holds all sandboxes of a host.
    package static func parent(_ root: String) -> String { root + "/smis" }

    /// The hierarchies that a sandbox is put into: each one more costs time at launch.
    package static func relevant(_ hierarchies: [CgroupHierarchy]) -> [CgroupHierarchy] {
        hierarchies.filter { $0.isUnified || $0.controllers.contains { ["memory", "cpu", "pids"].contains($0) } }
    }

    /// Makes the cgroup in all hierarchies, with its limits and devices.
    package func create(limits: ResourceLimits, devices: DevicePolicy) throws {
        for directory in tree.directories where mkdir(directory, 0o755) != 0 {
            let code = errno
            if code == ENOENT {
                try tree.create()
            } else if code != EEXIST {
                throw SyscallError("mkdir", code: code, subject: directory)
            }
        }
        try setLimits(limits)
        let directory = try descriptor()
        try devices.attach(to: directory, path: unified)
    }

    /// The version 2 directory, for CLONE_INTO_CGROUP.
    package func descriptor() throws(SyscallError) -> Descriptor {
        try Descriptor(open: unified, O_RDONLY | O_DIRECTORY)
    }

    /// The directories in version 1 hierarchies.
    package var legacyDirectories: [String] {
        tree.hierarchies.filter { !$0.isUnified }.map { $0.mount + tree.path }
    }

    private func setLimits(_ limits: ResourceLimits) throws {
        try set("memory", legacy: [("memory.limit_in_bytes", "\(limits.memory)")], [("memory.max", "\(limits.memory)")])
        try setProcessors(limits.cpus)
        try set("pids", legacy: [("pids.max", "\(limits.pids)")], [("pids.max", "\(limits.pids)")])
    }

    /// Limits the processor time to so many processors' (1.5 is one and a half).
    package func setProcessors(_ cpus: Double) throws {
        // The kernel takes no quota below 1 ms: less than 1 % is a longer period.
        let quota = max(1000, Int(cpus * 100_000))
        let period = min(max(100_000, Int(1000 / max(cpus, 0.001))), 1_000_000)
        try set(
            "cpu",
            legacy: [("cpu.cfs_period_us", "\(period)"), ("cpu.cfs_quota_us", "\(quota)")],
            [("cpu.max", "\(quota) \(period)")]
        )
    }

    /// Lets the processes run as much as they like: those that are to end must not have to wait until processor time that
    /// others took inside the kernel has been made up for (seen on 6.18: two minutes).
    private func liftProcessors() throws {
        try set("cpu", legacy: [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max 100000")])
    }

    /// Processor time that its processes have taken so far, seconds.
    package var processorTime: Double {
        // The version 2 hierarchy counts it whether or not it has the controller.
        let bytes = (try? FileContents.bytes(of: unified + "/cpu.stat")) ?? []
        return Double(Self.value(of: "usage_usec", in: bytes) ?? 0) / 1e6
    }

    private func set(
        _ controller: String,
        legacy: [(String, String)],
        _ current: [(String, String)]
    ) throws {
        if let hierarchy = tree.hierarchies.first(where: { $0.controllers.contains(controller) }) {
            for (file, value) in legacy { try FileContents.write(value, to: hierarchy.mount + tree.path + "/" + file) }
            return
        }
        for (file, value) in current {
            do {
                try FileContents.write(value, to: unified + "/" + file)
            } catch {
                guard error.code == ENOENT else { throw error }
                throw IsolationError(
                    .hostUnsuitable,
                    cause: "the cgroup controller \(controller) is in no hierarchy that \(unified) could use",
                    remedy: "enable it in cgroup.subtree_control of the cgroups above, or boot with it"
                )
            }
        }
    }

    // MARK: State

    /// Whether the cgroup exists in the version 2 hierarchy.
    package var exists: Bool { Directories.exists(unified) }

    /// Host pids of the processes in it.
    package func processes() -> [Int32] {
        let text = (try? FileContents.string(of: unified + "/cgroup.procs")) ?? ""
        return text.split(separator: "\n").compactMap { Int32($0) }
    }

    /// Whether all its processes are frozen.
    package var isFrozen: Bool {
        event("frozen") == 1
    }

    /// Freezes all processes and waits until they are, at most `timeout`.
    package func freeze(timeout: Duration = .seconds(10)) throws {
        try FileContents.write("1", to: unified + "/cgroup.freeze")
        guard try wait(for: "frozen", value: 1, timeout: timeout) else {
            try thaw()
            throw IsolationError(
                .timedOut,
                cause: "the processes of \(tree.path) did not freeze within \(timeout)",
                remedy: "look for one in uninterruptible sleep (state D) with `smirun ps`"
            )
        }
    }

    /// Lets the processes go on.
    package func thaw() throws(SyscallError) {
        try FileContents.write("0", to: unified + "/cgroup.freeze")
    }

    /// Kills all processes, frozen or not, and waits until they are gone.
    package func kill(timeout: Duration = .seconds(10)) throws {
        guard exists else { return }
        try? liftProcessors()
        try FileContents.write("1", to: unified + "/cgroup.kill")
        guard try wait(for: "populated", value: 0, timeout: timeout) else {
            throw IsolationError(
                .timedOut,
                cause: "processes of \(tree.path) did not end within \(timeout) of SIGKILL",
                remedy: "look for one in uninterruptible sleep (state D) with `smirun ps`"
            )
        }
    }

    /// Removes the directories; false if a hierarchy still sees a process that is on its way out after `timeout`.
    package func remove(timeout: Duration = .seconds(5)) -> Bool {
        tree.remove(before: .now + timeout).isEmpty
    }

    /// Waits on cgroup.events, which wakes its poller when a value changes.
    private func wait(for key: String, value: Int, timeout: Duration) throws(SyscallError) -> Bool {
        let deadline = ContinuousClock.now + timeout
        let path = unified + "/cgroup.events"
        let events: Descriptor
        do {
            events = try Descriptor(open: path, O_RDONLY)
        } catch {
            if error.code == ENOENT && value == 0 { return true }
            throw error
        }
        while true {
            lseek(events.raw, 0, SEEK_SET)
            if Self.value(of: key, in: try FileContents.bytes(of: events, path: path)) == value { return true }
            let left = deadline.millisecondsLeft
            if left <= 0 { return false }
            var file = pollfd(fd: events.raw, events: Int16(POLLPRI), revents: 0)
            poll(&file, 1, left)
        }
    }

    private func event(_ key: String) -> Int? {
        guard let bytes = try? FileContents.bytes(of: unified + "/cgroup.events") else { return nil }
        return Self.value(of: key, in: bytes)
    }

    /// The value of a line `key value`.
    static func value(of key: String, in bytes: [UInt8]) -> Int? {
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let parts = line.split(separator: " ")
            if parts.count == 2, parts[0] == key { return Int(parts[1]) }
        }
        return nil
    }
}
