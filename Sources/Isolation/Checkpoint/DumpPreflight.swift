import CLinux
import Glibc
import LinuxSystem

/// Finds, from outside and without stopping anything, what in a sandbox CRIU cannot dump.
///
/// Each rule was tried against CRIU 4.2.1. What only passes by (a connection not accepted yet) is not listed.
package enum DumpPreflight {
    /// One obstacle.
    package struct Finding: Sendable, Equatable {
        package let hostPid: Int32
        /// The number inside the sandbox.
        package let pid: Int32
        package let name: String
        /// Words that follow the process's name, e.g.
        ///
        /// `holds an io_uring instance (descriptor 4)`.
        package let reason: String
    }

    /// All obstacles in the sandbox whose init this is, by process.
    ///
    /// Takes about 0.1 ms a process.
    package static func findings(sandbox root: Int32) -> [Finding] {
        guard let first = SandboxedProcess(hostPid: root) else { return [] }
        let mounts = mountIdentifiers(of: root)
        let namespaces = namespaceLinks(of: first)
        var found: [Finding] = []
        for hostPid in SandboxedProcess.tree(of: root) {
            guard let process = SandboxedProcess(hostPid: hostPid) else { continue }
            let reasons =
                traced(process) + nested(process, in: namespaces) + descriptors(of: process, mounts: mounts)
                + terminals(of: process)
            found += reasons.map {
                Finding(hostPid: hostPid, pid: process.pid, name: process.name, reason: $0)
            }
        }
        return found
    }

    /// Waits until no connection waits to be accepted in the sandbox's network namespace, or the deadline is over.
    static func waitUntilAccepted(in pid: Int32, before deadline: ContinuousClock.Instant) {
        // The kernel has no event for "the queue of a listening socket is empty"; 2 ms are short beside a dump.
        while hasPendingConnection(in: pid), ContinuousClock.now < deadline { poll(nil, 0, 2) }
    }

    /// Whether a listening TCP socket has a connection in its queue (the rx_queue column of /proc/PID/net/tcp).
    static func hasPendingConnection(in pid: Int32) -> Bool {
        ["tcp", "tcp6"].contains { table in
            let text = (try? FileContents.string(of: "/proc/\(pid)/net/\(table)")) ?? ""
            return text.split(separator: "\n").dropFirst().contains { line in
                let fields = line.split(separator: " ")
                guard fields.count > 4, fields[3] == "0A" else { return false }
                return fields[4].split(separator: ":").last.flatMap { UInt32($0, radix: 16) } ?? 0 > 0
            }
        }
    }

    // MARK: Rules

    private static func traced(_ process: SandboxedProcess) -> [String] {
        process.tracer == 0 ? [] : ["is being traced, as by strace or a debugger"]
    }

    private static func terminals(of process: SandboxedProcess) -> [String] {
        TerminalDescriptors(of: process).aliases.filter { $0.other == nil }.map {
            "holds its terminal as /dev/tty (descriptor \($0.number)) and by no other name"
        }
    }

    private static let nestedKinds = ["pid", "pid_for_children", "user", "time", "time_for_children"]

    private static func namespaceLinks(of process: SandboxedProcess) -> [String: String] {
        var links: [String: String] = [:]
        for kind in nestedKinds { links[kind] = process.link("ns/" + kind) }
        return links
    }

    private static func nested(_ process: SandboxedProcess, in namespaces: [String: String]) -> [String] {
        let own = namespaceLinks(of: process)
        var kinds: [String] = []
        for kind in nestedKinds where own[kind] != nil && own[kind] != namespaces[kind] {
            let word = kind.split(separator: "_")[0]
            if !kinds.contains(String(word)) { kinds.append(String(word)) }
        }
        return kinds.map { "has a \($0) namespace of its own" }
    }

    private static func descriptors(of process: SandboxedProcess, mounts: Set<Int>) -> [String] {
        Directories.entries(of: "/proc/\(process.hostPid)/fd").compactMap { Int($0) }.sorted().compactMap { number in
            guard let target = process.link("fd/\(number)"),
                let reason = obstacle(target, number: number, of: process, mounts: mounts)
            else { return nil }
            return "holds \(reason) (descriptor \(number))"
        }
    }

    private static func obstacle(
        _ target: String,
        number: Int,
        of process: SandboxedProcess,
        mounts: Set<Int>
    ) -> String? {
        let path = "/proc/\(process.hostPid)/fd/\(number)"
        if target.hasPrefix("anon_inode:") { return anonymous(String(target.dropFirst("anon_inode:".count))) }
        if target.hasPrefix("socket:") { return socket(path) }
        guard target.hasPrefix("/") else { return nil }
        if target == "/dev/net/tun" { return "a TUN device" }
        if target.hasPrefix("/memfd:") || target.hasPrefix("/SYSV") || target.hasPrefix("/dev/zero") { return nil }
        if let mount = mountIdentifier(of: number, in: process), !mounts.contains(mount) {
            return "\(target), a file outside the sandbox's file systems"
        }
        var status = stat()
        guard stat(path, &status) == 0, status.st_nlink == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        let size = Int(status.st_blocks) * 512
        return size > CriuLimits.ghostFile ? "the deleted file \(target) of \(size) bytes" : nil
    }

    private static let dumpableAnonymous: Set<String> = [
        "[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]", "[pidfd]",
    ]

    private static func anonymous(_ name: String) -> String? {
        if dumpableAnonymous.contains(name) { return nil }
        if name == "[io_uring]" { return "an io_uring instance" }
        if name.hasPrefix("bpf") { return "a BPF object" }
        return "a \(name.filter { $0 != "[" && $0 != "]" }) object"
    }

    private static let dumpableProtocols: Set<String> = [
        "TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6", "UNIX", "UNIX-STREAM", "NETLINK",
        "PACKET",
    ]

    private static func socket(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 64)
        let count = smi_get_xattr(path, "system.sockprotoname", &buffer, buffer.count)
        guard count > 0 else { return nil }
        let name = String(decoding: buffer[..<count].prefix { $0 != 0 }, as: UTF8.self)
        return dumpableProtocols.contains(name) ? nil : "a socket of protocol \(name)"
    }

    private static func mountIdentifiers(of pid: Int32) -> Set<Int> {
        let text = (try? FileContents.string(of: "/proc/\(pid)/mountinfo")) ?? ""
        return Set(text.split(separator: "\n").compactMap { $0.split(separator: " ").first.flatMap { Int($0) } })
    }

    private static func mountIdentifier(of number: Int, in process: SandboxedProcess) -> Int? {
        let text = try? FileContents.string(of: "/proc/\(process.hostPid)/fdinfo/\(number)")
        let line = text?.split(separator: "\n").first { $0.hasPrefix("mnt_id:") }
        return line.flatMap { Int($0.dropFirst("mnt_id:".count).drop { $0 == "\t" || $0 == " " }) }
    }
}
