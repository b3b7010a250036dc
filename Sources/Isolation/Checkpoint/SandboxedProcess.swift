import Glibc
import LinuxSystem

/// A process of a sandbox, as /proc of the host shows it.
struct SandboxedProcess: Equatable {
    let hostPid: Int32
    /// The number inside the sandbox.
    let pid: Int32
    let name: String
    /// The host's number of the process that traces it; 0 for none.
    let tracer: Int32

    /// Reads /proc/PID/status; nil where there is no such process.
    init?(hostPid: Int32) {
        guard let text = try? FileContents.string(of: "/proc/\(hostPid)/status") else { return nil }
        var fields: [Substring: Substring] = [:]
        for line in text.split(separator: "\n") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon]] = line[line.index(after: colon)...].drop { $0 == "\t" || $0 == " " }
        }
        self.hostPid = hostPid
        self.name = fields["Name"].map(String.init) ?? "?"
        self.pid = fields["NSpid"]?.split(separator: "\t").last.flatMap { Int32($0) } ?? hostPid
        self.tracer = fields["TracerPid"].flatMap { Int32($0) } ?? 0
    }

    /// A process and all below it, parents first.
    static func tree(of root: Int32) -> [Int32] {
        var found = [root]
        var next = 0
        while next < found.count {
            let pid = found[next]
            next += 1
            for thread in Directories.entries(of: "/proc/\(pid)/task") {
                let text = (try? FileContents.string(of: "/proc/\(pid)/task/\(thread)/children")) ?? ""
                found += text.split(separator: " ").compactMap { Int32($0) }
            }
        }
        return found
    }

    /// Where one of /proc/PID's links points, such as `ns/pid` or `fd/3`; nil where there is none.
    func link(_ name: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/\(hostPid)/\(name)", &buffer, buffer.count)
        guard count >= 0 else { return nil }
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
