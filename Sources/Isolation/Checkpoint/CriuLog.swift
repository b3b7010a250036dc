import Glibc
import LinuxSystem

/// What CRIU's log says of a failure.
///
/// CRIU writes errors only (log level 1).
struct CriuLog: Equatable {
    /// The log's lines without those that are always there.
    let lines: [String]

    /// Reads the end of a log, at most 64 KB; empty where there is none.
    init(path: String) {
        let bytes = (try? FileContents.bytes(of: path)) ?? []
        self.init(text: String(decoding: bytes.suffix(65536), as: UTF8.self))
    }

    init(text: String) {
        // Without CAP_SYS_RESOURCE CRIU cannot raise its own limit of open files, which it does not need.
        lines = text.split(separator: "\n").map(String.init).filter { !$0.contains("setup RLIMIT_NOFILE for self") }
    }

    /// The last lines, for the error's log.
    var tail: String { lines.suffix(40).joined(separator: "\n") }

    /// The process, by its pid on the host, at which a dump failed.
    var culprit: Int32? {
        for marker in ["(pid: ", "Unseizable non-zombie ", "namespace for "] {
            for line in lines {
                guard let range = line.firstRange(of: marker) else { continue }
                if let pid = Int32(line[range.upperBound...].prefix { $0.isNumber }) { return pid }
            }
        }
        return nil
    }

    /// Whether the obstacle is a connection that no one has accepted yet.
    var connectionPending: Bool { lines.contains { $0.contains("In-flight connection (") } }

    /// The reason in words that fit after `process 7 (name)`; CRIU's own where nothing better is known.
    var reason: String {
        for line in lines {
            if let known = Self.explain(line) { return known }
        }
        guard let first = lines.first(where: { $0.hasPrefix("Error") }) else { return "CRIU gave no reason" }
        return "CRIU says: " + Self.message(of: first)
    }

    /// The text after `Error (file:line): `.
    private static func message(of line: String) -> String {
        guard let end = line.firstRange(of: "): ") else { return line }
        return String(line[end.upperBound...])
    }

    private static func explain(_ line: String) -> String? {
        let message = message(of: line)
        if message.hasPrefix("Unseizable") { return "is being traced, as by strace or a debugger" }
        if message.contains("nested time_for_children") { return "has a time namespace of its own" }
        if let kind = message.firstMatch(of: /Can't dump nested (\w+) namespace/) {
            return "has a \(kind.1) namespace of its own"
        }
        if let ghost = message.firstMatch(of: /ghost file (.+) of (\d+) size/) {
            return
                "holds the deleted file \(ghost.1) of \(ghost.2) bytes open; at most \(CriuLimits.ghostFile) can move"
        }
        if let file = message.firstMatch(of: /Can't dump file (\d+) of that type .*\(.* (?:anon_inode:)?(.+)\)/) {
            return "holds \(file.2) (descriptor \(file.1))"
        }
        if let file = message.firstMatch(of: /Can't lookup mount=\d+ for fd=(\d+) path=(.+)/) {
            return "holds \(file.2) (descriptor \(file.1)), a file outside the sandbox's root"
        }
        if let protocolNumber = message.firstMatch(of: /Unsupported proto (\d+) for socket/) {
            return "holds a socket of protocol \(protocolNumber.1), which cannot be moved"
        }
        if let family = message.firstMatch(of: /Unknown socket collected \(family (\d+)\)/) {
            return "holds a socket of address family \(family.1), which cannot be moved"
        }
        if message.contains("send_fds failed") { return "holds a descriptor that cannot be passed on (io_uring)" }
        if message.contains("to dump tun link") { return "holds a TUN device" }
        return nil
    }
}
