import Glibc

/// A mounted cgroup hierarchy.
package struct CgroupHierarchy: Sendable, Equatable {
    /// Where it is mounted, such as `/sys/fs/cgroup/memory`.
    package let mount: String
    /// Version 1 with these controllers, or version 2.
    package let controllers: [String]
    package let isUnified: Bool

    /// All hierarchies that the caller's mount namespace shows (proc_pid_mountinfo(5)).
    package static func mounted(
        mountinfo: String? = try? FileContents.string(of: "/proc/self/mountinfo")
    ) -> [CgroupHierarchy] {
        var found: [CgroupHierarchy] = []
        for line in (mountinfo ?? "").split(separator: "\n") {
            let halves = line.split(separator: " - ", maxSplits: 1)
            guard halves.count == 2 else { continue }
            let fields = halves[0].split(separator: " ")
            let source = halves[1].split(separator: " ")
            guard fields.count > 5, source.count > 2, source[0] == "cgroup" || source[0] == "cgroup2" else { continue }
            // A read-only mount (of a container, say) can hold no cgroup of ours.
            guard fields[5].split(separator: ",").contains("rw") else { continue }
            let hierarchy = CgroupHierarchy(
                mount: String(fields[4]),
                controllers: source[0] == "cgroup2" ? [] : source[2].split(separator: ",").map(String.init),
                isUnified: source[0] == "cgroup2"
            )
            if !found.contains(where: { $0.mount == hierarchy.mount }) { found.append(hierarchy) }
        }
        return found
    }
}

/// One path, such as `/smirun-lab/host1`, in every cgroup hierarchy that exists: made, emptied and removed in all of
/// them.
package struct CgroupTree: Sendable {
    package let hierarchies: [CgroupHierarchy]
    /// The path below each hierarchy's mount point; starts with a slash.
    package let path: String

    /// The path in the given hierarchies.
    package init(_ path: String, in hierarchies: [CgroupHierarchy] = CgroupHierarchy.mounted()) {
        self.path = path
        self.hierarchies = hierarchies
    }

    /// A cgroup below this one.
    package func child(_ name: String) -> CgroupTree {
        CgroupTree(path + "/" + name, in: hierarchies)
    }

    /// The cgroup's directory in every hierarchy.
    package var directories: [String] { hierarchies.map { $0.mount + path } }

    /// The directory in the version 2 hierarchy; nil where there is none.
    package var unified: String? { hierarchies.first(where: \.isUnified).map { $0.mount + path } }

    /// Makes the cgroup, and those above it, wherever it is missing.
    package func create() throws(SyscallError) {
        for hierarchy in hierarchies {
            var at = hierarchy.mount
            for name in path.split(separator: "/") {
                let parent = at
                at += "/" + name
                if hierarchy.isUnified { Self.delegateControllers(of: parent) }
                guard mkdir(at, 0o755) != 0 else {
                    if hierarchy.controllers.contains("cpuset") { Self.inheritProcessors(from: parent, to: at) }
                    continue
                }
                let code = errno
                if code != EEXIST { throw SyscallError("mkdir", code: code, subject: at) }
            }
        }
    }

    /// Lets the children of a version 2 cgroup have limits.
    ///
    /// A controller that cannot be given on is left out: whoever sets a limit then says so.
    private static func delegateControllers(of directory: String) {
        let wanted: Set<Substring> = ["cpu", "memory", "pids"]
        let there = Set(
            ((try? FileContents.string(of: directory + "/cgroup.controllers")) ?? "").split(
                whereSeparator: \.isWhitespace
            )
        )
        let given = Set(
            ((try? FileContents.string(of: directory + "/cgroup.subtree_control")) ?? "").split(
                whereSeparator: \.isWhitespace
            )
        )
        for controller in wanted.intersection(there).subtracting(given) {
            try? FileContents.write("+\(controller)", to: directory + "/cgroup.subtree_control")
        }
    }

    /// A new version 1 cpuset takes no process before it has processors and memory nodes.
    private static func inheritProcessors(from parent: String, to child: String) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            guard let value = try? FileContents.string(of: parent + "/" + file) else { continue }
            try? FileContents.write(value, to: child + "/" + file)
        }
        try? FileContents.write("1", to: child + "/cgroup.clone_children")
    }

    /// Moves the caller into the cgroup, in every hierarchy, for it to become another program by execve(2).
    ///
    /// In version 1 hierarchies only the calling thread moves, which execve(2) leaves as the only one: moving a whole
    /// process waits for a grace period in each hierarchy, 5 to 20 ms.
    package func enterToExec() throws(SyscallError) {
        for hierarchy in hierarchies {
            let file = hierarchy.isUnified ? "/cgroup.procs" : "/tasks"
            try FileContents.write("0", to: hierarchy.mount + path + file)
        }
    }

    /// Every process in the cgroup and below it, in any hierarchy.
    package func processes() -> Set<Int32> {
        var found: Set<Int32> = []
        for directory in directories {
            for below in Self.subtree(directory) {
                let text = (try? FileContents.string(of: below + "/cgroup.procs")) ?? ""
                found.formUnion(text.split(separator: "\n").compactMap { Int32($0) }.filter { $0 > 0 })
            }
        }
        return found
    }

    /// Whether a process is in the cgroup or below it, in any hierarchy.
    package func contains(_ pid: Int32) -> Bool {
        guard let text = try? FileContents.string(of: "/proc/\(pid)/cgroup") else { return false }
        return text.split(separator: "\n").contains { line in
            let place = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).last ?? ""
            return place == path || place.hasPrefix(path + "/")
        }
    }

    /// Whether the cgroup is there in any hierarchy.
    package var exists: Bool { directories.contains { access($0, F_OK) == 0 } }

    /// The directory and all below it, parents first.
    static func subtree(_ directory: String) -> [String] {
        guard let handle = opendir(directory) else { return [] }
        defer { closedir(handle) }
        var found = [directory]
        while let entry = readdir(handle) {
            guard entry.pointee.d_type == UInt8(DT_DIR) else { continue }
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { found += subtree(directory + "/" + name) }
        }
        return found
    }
}
