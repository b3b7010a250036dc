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
        try await BenchLab.with(hosts: 1, options: options.words) { lab in
            options.say("watching the idle daemon for \(idle) s")
            // What it does after its start is not idling.
            try await Task.sleep(for: .seconds(3))
            let before = try lab.hosts[0].daemonUse()
            try await Task.sleep(for: .seconds(idle))
            let after = try lab.hosts[0].daemonUse()
            for (name, value) in after.memory { report.add("smirun daemon", name, value, unit: "MB") }
            report.add("smirun daemon", "threads", Double(after.threads), unit: "")
            let share = after.processorShare(since: before, seconds: Double(idle))
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
