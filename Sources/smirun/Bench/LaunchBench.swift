import ArgumentParser
import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// `smirun bench launch`.
struct BenchLaunchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch",
        abstract: "From the launch to the program's first instruction, beside crun with the same isolation."
    )

    @OptionGroup var options: BenchOptions

    func run() async throws {
        let crun = Crun.find()
        var report = BenchReport("launch")
        if crun == nil { report.note("crun is missing: install Debian's package crun to have the peer") }
        try await BenchLab.with(hosts: 1, options: options.words) { lab in
            guard let crun else { return try await measure(LaunchBench(lab: lab, crun: nil), into: &report) }
            try await CrunBundle.with(crun, directory: BenchLab.peerDirectory) { bundle in
                try await measure(LaunchBench(lab: lab, crun: bundle), into: &report)
            }
        }
        report.compare(("smirun", "request to first instruction"), with: ("crun", "command to first instruction"))
        report.compare(("smirun", "command to first instruction"), with: ("crun", "command to first instruction"))
        report.note("smirun also makes the machine's link, addresses, routes and packet filter, and a time namespace")
        report.note("crun's time includes mounting the overlay, which its caller does")
        try options.show(report)
    }

    private func measure(_ bench: LaunchBench, into report: inout BenchReport) async throws {
        // The first launches fill caches: the image's pages, the compiled filter, crun's own pages.
        var discarded = BenchReport("launch")
        try await bench.measure(into: &discarded)
        for run in 1...options.runs {
            options.say("launch \(run) of \(options.runs)")
            try await bench.measure(into: &report)
        }
    }
}

/// Launches the same program in turns.
private struct LaunchBench {
    let lab: BenchLab
    let crun: CrunBundle?
    private let user = "bench"
    private let limits = ResourceLimits()

    /// One launch each way; the times go into the report.
    func measure(into report: inout BenchReport) async throws {
        let start = WallClock.now
        let reply = try await lab.daemon.call(.launch, request, as: LaunchReply.self)
        report.add("smirun", "request to first instruction", try await firstInstruction(after: start))
        for (phase, time) in reply.phases.sorted(by: { $0.key < $1.key }) {
            report.add("smirun", "  of which \(phase)", time)
        }
        try await lab.remove(user)
        let commandStart = WallClock.now
        try await lab.smirun(["launch", user, "--image", BenchImage.name, "--", BenchImage.program, "stamp"])
        report.add("smirun", "command to first instruction", try await firstInstruction(after: commandStart))
        try await lab.remove(user)
        guard let crun else { return }
        let limits = limits
        let time = try await offload {
            let start = WallClock.now
            let output = try crun.run([BenchImage.program, "stamp"], limits: limits)
            return try WallClock.milliseconds(from: start, toStamp: output)
        }
        report.add("crun", "command to first instruction", time)
    }

    private var request: LaunchRequest {
        LaunchRequest(
            user: user,
            image: BenchImage.name,
            limits: (limits.memory, limits.cpus, limits.pids),
            program: [BenchImage.program, "stamp"]
        )
    }

    /// The time that the program wrote as its first act; it is in the machine's log within moments.
    private func firstInstruction(after start: Int64) async throws -> Double {
        let deadline = ContinuousClock.now + .seconds(10)
        while true {
            let text = try await lab.smirun(["logs", user]).output
            if text.hasSuffix("\n") { return try WallClock.milliseconds(from: start, toStamp: text) }
            guard ContinuousClock.now < deadline else {
                throw OrchestratorError(
                    .internalError,
                    cause: "the launched program wrote nothing",
                    remedy: "run the benchmark again"
                )
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}

/// The time of day: the one clock that is the same in every time namespace.
enum WallClock {
    /// Nanoseconds since 1970.
    static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    /// Milliseconds until the time that a program has written.
    static func milliseconds(from start: Int64, toStamp text: String) throws -> Double {
        guard let stamp = Int64(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw OrchestratorError(
                .internalError,
                cause: "the launched program wrote '\(text.prefix(200))' in place of a time",
                remedy: "build the image again: smirun image build images/bench"
            )
        }
        return Double(stamp - start) / 1e6
    }
}
