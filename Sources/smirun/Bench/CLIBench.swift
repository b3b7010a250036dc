import ArgumentParser
import Foundation
import LinuxSystem
import Orchestrator

/// `smirun bench cli`.
struct BenchCLICommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cli",
        abstract: "The time of --help, and what an idle daemon takes."
    )

    @Option(help: "Seconds to watch the idle daemon for.")
    var idle = 10
    @OptionGroup var options: BenchOptions

    func run() async throws {
        let crun = Crun.find()
        var report = BenchReport("cli", settings: ["idle": "\(idle) s"])
        if crun == nil { report.note("crun is missing: install Debian's package crun to have the peer") }
        for run in 0...options.runs {
            let own = try await Self.helpTime(executablePath())
            let peer = if let crun { try await Self.helpTime(crun.program) } else { nil as Double? }
            // The first of each reads the program from disk.
            if run == 0 { continue }
            report.add("smirun", "--help", own)
            if let peer { report.add("crun", "--help", peer) }
        }
        try await BenchLab.with(hosts: 1, options: options) { lab in
            guard let pid = lab.hosts[0].daemon else {
                throw OrchestratorError(
                    .daemonUnreachable,
                    cause: "the daemon is down",
                    remedy: "run the benchmark again"
                )
            }
            options.say("watching the idle daemon for \(idle) s")
            // What it does after its start is not idling.
            try await Task.sleep(for: .seconds(3))
            let before = try DaemonUse(pid: pid)
            try await Task.sleep(for: .seconds(idle))
            let after = try DaemonUse(pid: pid)
            for (name, value) in after.memory { report.add("smirun daemon", name, value, unit: "MB") }
            report.add("smirun daemon", "threads", Double(after.threads), unit: "")
            let share = Double(after.ticks - before.ticks) / Double(sysconf(Int32(_SC_CLK_TCK))) / Double(idle) * 100
            report.add("smirun daemon", "idle processor time", share, unit: "%")
        }
        report.note(
            "memory in MB of 1,000,000 bytes, as /proc/PID/status has it; file pages are shared with other processes"
        )
        try options.show(report)
    }

    private static func helpTime(_ program: String) async throws -> Double {
        try await offload {
            let start = ContinuousClock.now
            try HelperCommand([program, "--help"]).runChecked("\(program) --help")
            return millisecondsSince(start)
        }
    }
}

/// What a process takes of the machine.
private struct DaemonUse {
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
}
