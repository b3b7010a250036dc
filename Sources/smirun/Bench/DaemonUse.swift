import Foundation
import LinuxSystem
import Orchestrator

/// What a process takes of the machine.
struct DaemonUse {
    /// Resident memory by kind, MB.
    let memory: [(String, Double)]
    let threads: Int
    /// Processor time so far, in clock ticks.
    let ticks: Int

    init(pid: Int32) throws {
        var values: [String: Int] = [:]
        for line in try FileContents.string(of: "/proc/\(pid)/status").split(separator: "\n") {
            let parts = line.split(whereSeparator: { $0 == ":" || $0 == "\t" || $0 == " " })
            if parts.count > 1 { values[String(parts[0])] = Int(parts[1]) }
        }
        let kinds = [("VmRSS", "resident"), ("RssAnon", "  of which its own"), ("RssFile", "  of which files' pages")]
        memory = kinds.map { ($0.1, Double(values[$0.0] ?? 0) * 1024 / 1e6) }
        threads = values["Threads"] ?? 0
        let stat = try FileContents.string(of: "/proc/\(pid)/stat")
        // utime and stime, the 12th and 13th fields after the name in parentheses.
        let fields = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
        ticks = fields.count > 13 ? (Int(fields[12]) ?? 0) + (Int(fields[13]) ?? 0) : 0
    }

    /// Of one processor, since an earlier look, %.
    func processorShare(since earlier: DaemonUse, seconds: Double) -> Double {
        Double(ticks - earlier.ticks) / Double(sysconf(Int32(_SC_CLK_TCK))) / seconds * 100
    }
}

extension LabStatus.Host {
    /// What its daemon takes of the machine now.
    func daemonUse() throws -> DaemonUse {
        guard let daemon else {
            throw OrchestratorError(
                .daemonUnreachable,
                cause: "the daemon of \(name) is down",
                remedy: "run the benchmark again"
            )
        }
        return try DaemonUse(pid: daemon)
    }
}
