import Foundation
import LinuxSystem

/// Hosts on one machine: each with namespaces, state, configuration and a daemon of its own, joined by shaped links.
///
/// The demo, the integration tests and the benchmarks run on it. Nothing in the product knows that it runs in a lab.
///
/// All methods block; call them through `offload` from async code.
package struct Lab: Sendable {
    package let layout: LabLayout
    /// The binary that the hosts run as their daemon.
    package let binary: String
    /// The binary that runs `lab supervise` and `lab delay-link`; the same one but in tests.
    package let supervisor: String
    /// What a long command is doing, for whoever watches.
    package let progress: @Sendable (String) -> Void

    /// A lab in a layout; the binary is the caller's own unless given.
    package init(
        layout: LabLayout = LabLayout(),
        binary: String? = nil,
        supervisor: String? = nil,
        progress: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "smirun"
        self.layout = layout
        self.binary = binary ?? own
        self.supervisor = supervisor ?? binary ?? own
        self.progress = progress
    }

    /// Everything that the lab runs is in this cgroup.
    var tree: CgroupTree { CgroupTree(layout.cgroup) }

    /// The lab that is up; an error if there is none.
    func record() throws(LabError) -> LabRecord {
        guard let record = LabRecord.load(layout), record.isOfThisBoot, record.phase != .failed else { throw .notUp }
        return record
    }

    /// Runs one command that changes the lab at a time.
    func exclusively<Value>(_ body: (FileLock) throws(LabError) -> Value) throws(LabError) -> Value {
        try requireRoot()
        try makeDirectories(layout.state)
        let lock = try during("locking the lab") { () throws(SyscallError) in
            try FileLock.take(layout.lock, before: .now + .seconds(20))
        }
        guard let lock else {
            let holder = FileLock.holder(layout.lock).map { " (process \($0))" } ?? ""
            throw LabError(
                .busy,
                cause: "another command is changing the lab\(holder)",
                remedy: "wait for it or end it, then try again"
            )
        }
        defer { lock.release() }
        return try body(lock)
    }

    /// Refuses other users than root: namespaces, links and the lab's directories are root's.
    package func requireRoot() throws(LabError) {
        if geteuid() == 0 { return }
        throw LabError(
            .notRoot,
            cause: "the lab is made of namespaces and links, which only root can make and see",
            remedy: "run the command as root"
        )
    }

    /// What must be there before anything is made.
    func requireTools(_ plan: LabPlan) throws(LabError) {
        let packages = [
            "ip": "iproute2", "tc": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux",
            "mount": "mount", "sh": "dash", "sleep": "coreutils", "rm": "coreutils",
        ]
        let missing = packages.keys.sorted().filter { HelperCommand.locate($0) == nil }
        if let first = missing.first {
            throw LabError(
                .toolMissing,
                cause: "\(missing.joined(separator: ", ")) not found on this machine",
                remedy: "apt-get install \(packages[first] ?? first)"
            )
        }
        guard tree.unified != nil else {
            throw LabError(
                .hostUnsuitable,
                cause: "no cgroup2 hierarchy is mounted",
                remedy: "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
            )
        }
        if plan.delay > 0, access("/dev/net/tun", R_OK | W_OK) != 0 {
            throw LabError(
                .hostUnsuitable,
                cause: "links cannot be delayed: /dev/net/tun is missing",
                remedy: "load the module: modprobe tun"
            )
        }
        try requireVisibleBinaries()
    }

    private func requireVisibleBinaries() throws(LabError) {
        for path in Set([binary, supervisor]).sorted() {
            guard access(path, X_OK) == 0 else {
                throw LabError(.badArgument, cause: "\(path) is no program", remedy: "build smirun first: make build")
            }
            let hidden = ["/run", layout.state, layout.configuration].first { path.hasPrefix($0 + "/") }
            guard let hidden else { continue }
            throw LabError(
                .badArgument,
                cause: "\(path) cannot be seen inside the hosts, which have a \(hidden) of their own",
                remedy: "move it elsewhere"
            )
        }
    }
}

/// Makes a directory, mode 0700, and those above it; returns those that were missing.
@discardableResult
func makeDirectories(_ path: String) throws(LabError) -> [String] {
    var made: [String] = []
    var at = ""
    for name in path.split(separator: "/") {
        at += "/" + name
        if mkdir(at, 0o700) == 0 {
            made.append(at)
        } else if errno != EEXIST {
            throw LabError(SyscallError("mkdir", subject: at), while: "making the lab's directories")
        }
    }
    return made
}
