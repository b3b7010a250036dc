import ArgumentParser
import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// `smirun bench exec`.
struct BenchExecCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Bytes through exec on the same host, and its start, beside crun exec and a plain pipe."
    )

    @Option(help: "How many bytes to send each way.")
    var size = ByteCount(bytes: 256 << 20)
    @OptionGroup var options: BenchOptions

    func run() async throws {
        let crun = Crun.find()
        var report = BenchReport("exec", settings: ["size": formatBytes(size.bytes)])
        if crun == nil { report.note("crun is missing: install Debian's package crun to have the peer") }
        try await BenchLab.with(hosts: 1, options: options.words) { lab in
            let user = "bench"
            try await lab.smirun(["launch", user, "--image", BenchImage.name, "--cpus", "4"])
            let smirun = ExecPath(
                name: "smirun exec",
                prefix: [executablePath(), "exec", user, "--"],
                socket: lab.daemon.controlSocket,
                crun: nil
            )
            let pipe = ExecPath(name: "pipe", prefix: [], socket: nil, crun: nil)
            guard let crun else { return report = try await measure([smirun, pipe], report) }
            let begun = report
            report = try await CrunBundle.with(crun, directory: BenchLab.peerDirectory) { bundle in
                try await offload {
                    try bundle.running(["/bin/sleep", "1000000"], limits: ResourceLimits(cpus: 4)) { container in
                        let exec = bundle.crun.command(["exec", container]).argv
                        let peer = ExecPath(name: "crun exec", prefix: exec, socket: nil, crun: bundle.crun)
                        return try measureNow([smirun, peer, pipe], begun)
                    }
                }
            }
        }
        for way in ["in", "out"] {
            report.compare(("smirun exec", way), with: ("crun exec", way))
            report.compare(("smirun exec", way), with: ("pipe", way))
        }
        report.compare(("smirun exec", "start to end of true"), with: ("crun exec", "start to end of true"))
        report.note("MB/s of the whole command, from its start to its end; 1 MB is 1,000,000 bytes")
        try options.show(report)
    }

    private func measure(_ paths: [ExecPath], _ report: BenchReport) async throws -> BenchReport {
        try await offload { try measureNow(paths, report) }
    }

    private func measureNow(_ paths: [ExecPath], _ report: BenchReport) throws -> BenchReport {
        var report = report
        // One byte each first, so that no path pays for cold caches.
        for path in paths { try path.send(1) }
        for run in 1...options.runs {
            options.say("run \(run) of \(options.runs)")
            for path in paths {
                report.add(path.name, "in", Double(size.bytes) / 1e6 / (try path.send(size.bytes)), unit: "MB/s")
                report.add(path.name, "out", Double(size.bytes) / 1e6 / (try path.receive(size.bytes)), unit: "MB/s")
                report.add(path.name, "start to end of true", try path.start() * 1000)
            }
        }
        return report
    }
}

/// One way to run a program somewhere with its input and output here.
private struct ExecPath: Sendable {
    let name: String
    /// What stands before the program and its arguments.
    let prefix: [String]
    let socket: String?
    /// Set where the command runs in crun's surroundings.
    let crun: Crun?

    /// Seconds to send so many bytes to a program that counts them.
    @discardableResult
    func send(_ bytes: Int64) throws -> Double {
        try time("head -c \(bytes) /dev/zero | \"$@\" | grep -qx \(bytes)", ["wc", "-c"])
    }

    /// Seconds to receive so many bytes from a program.
    func receive(_ bytes: Int64) throws -> Double {
        try time("\"$@\" | wc -c | grep -qx \(bytes)", ["head", "-c", "\(bytes)", "/dev/zero"])
    }

    /// Seconds that a program takes which does nothing.
    func start() throws -> Double {
        try time("\"$@\" </dev/null", ["true"])
    }

    private func time(_ script: String, _ program: [String]) throws -> Double {
        var command = HelperCommand(["/bin/sh", "-c", script, "sh"] + prefix + program)
        if let socket { command.environment.append("SMIRUN_SOCKET=\(socket)") }
        if let crun { command = crun.inSurroundings(command) }
        let start = ContinuousClock.now
        try command.runChecked(name)
        return millisecondsSince(start) / 1000
    }
}
